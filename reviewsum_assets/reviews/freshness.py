"""Whether the grouped reviews are still those of the dumps that lie there now, and why not."""

from __future__ import annotations

from reviewsum_assets.reviews.dumps import find_dumps
from reviewsum_assets.reviews.grouping import (
    GroupedReviews,
    current_grouped_reviews,
    is_current,
)
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage.lake import Lake


def stale_dumps(lake: Lake, settings: Settings) -> list[tuple[str, str]]:
    """(dump, what is new about it) for all that was not grouped as it is now; empty: up to date.

    Raises:
        DumpError: a dump that the settings name does not exist.
    """
    record = current_grouped_reviews(lake)
    if record is None:
        return [("all", "nothing has been grouped yet")]
    if is_current(lake, settings):
        return []
    return _differences(lake, settings, record) or [
        ("all", "dumps of the same names and sizes were grouped, with other content or settings")
    ]


def _differences(lake: Lake, settings: Settings, record: GroupedReviews) -> list[tuple[str, str]]:
    grouped = {dump.name: dump for dump in record.dumps}
    found = []
    for dump in find_dumps(lake, settings):
        before = grouped.pop(dump.name, None)
        if before is None:
            found.append((dump.name, "not grouped yet"))
        elif before.size != dump.size:
            found.append(
                (dump.name, f"{before.size:,} bytes were grouped, now it has {dump.size:,}")
            )
        elif before.e_tag != dump.e_tag:
            found.append((dump.name, f"changed {dump.last_modified:%Y-%m-%d %H:%M} UTC"))
    return found + [(name, "was grouped and is gone") for name in grouped]
