"""What the stages call in processes of their own."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.reviews.grouping import current_grouped_reviews, group_reviews, scan_grouped
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake

# product_id, review_count and a hash of the text.
Fingerprint = tuple[str, int, str]

csv.field_size_limit(2**31 - 1)


def group(options: Mapping[str, Any]) -> int:
    """Group the dumps that these settings name; returns how many products there are."""
    settings = load_settings(**options)
    record, _ = group_reviews(Lake.open(settings.lake), settings)
    return record.counts.products


def fingerprints_of_lake(uri: str) -> list[Fingerprint]:
    """Every product that ``group`` made, those with most reviews first."""
    lake = Lake.open(uri)
    record = current_grouped_reviews(lake)
    assert record is not None  # group() has written it
    table = scan_grouped(lake, record).select("product_id", "review_count", "all_reviews")
    found = [
        (name, count, _hash(text))
        for batch in table.collect_batches(chunk_size=1_000)
        for name, count, text in batch.iter_rows()
    ]
    return sorted(found, key=lambda product: (-product[1], product[0]))


def fingerprints_of_csv(path: Path) -> list[Fingerprint]:
    """Every product of a grouped CSV, in its order."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            (row["product_id"], int(row["review_count"]), _hash(row["all_reviews"]))
            for row in csv.DictReader(file)
        ]


def plan(options: Mapping[str, Any], grouped: Path) -> bool:
    """Plan the products of a directory of Parquet; whether a new plan was made."""
    settings = load_settings(**options)
    lake = Lake.open(settings.lake)
    return make_plan(
        lake, pl.scan_parquet(grouped / "*.parquet"), "grouped", "model", settings
    ).made


def merge(uri: str) -> int:
    """Merge all checkpoints; returns how many rows there are."""
    lake = Lake.open(uri)
    return merge_checkpoints(lake, require_plan(lake)).rows


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
