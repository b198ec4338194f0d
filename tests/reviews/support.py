"""Groups dumps, and returns the result in one object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reviewsum_assets.reviews.grouped import GroupedReviews, scan_grouped
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.reviews.rows import QuarantinedRow
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.dumps import Review, amazon_2018, json_lines


@dataclass(frozen=True)
class Grouped:
    """The record, its products, and the bad rows."""

    record: GroupedReviews
    products: pl.DataFrame
    bad: list[QuarantinedRow]


def group(lake: Lake, *dumps: bytes | str | list[Review], **settings: object) -> Grouped:
    """Group dumps, given as paths, contents or reviews; ``min_reviews`` is 1 by default."""
    paths = []
    for number, dump in enumerate(dumps):
        if isinstance(dump, str):
            paths.append(dump)
            continue
        assert lake.directory is not None
        path = Path(f"{lake.directory}-dumps", f"{number}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(dump if isinstance(dump, bytes) else json_lines(amazon_2018, dump))
        paths.append(str(path))
    options = {"dumps": tuple(paths), "min_reviews": 1} | settings
    record, _ = group_reviews(lake, load_settings(**options))
    return grouped(lake, record)


def grouped(lake: Lake, record: GroupedReviews) -> Grouped:
    """Read the tables and bad rows of a record."""
    content = b"" if record.quarantine_key is None else lake.get(record.quarantine_key) or b""
    bad = [QuarantinedRow.model_validate_json(line) for line in content.splitlines()]
    return Grouped(record, scan_grouped(lake, record).sort("product_id").collect(), bad)
