"""Links to jobs and logs: URLs to click where there are any, paths otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg


def link_metadata(
    links: Mapping[str, str],
) -> dict[str, dg.UrlMetadataValue | dg.PathMetadataValue]:
    """Metadata entries for links by what they show."""
    return {
        what: (
            dg.MetadataValue.url(where)
            if where.startswith("https://")
            else dg.MetadataValue.path(where)
        )
        for what, where in links.items()
    }
