"""Holds the merged table against the plan: who is missing, who is in it twice or unasked."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from reviewsum_assets.checkpoints.findings import MOST_EXAMPLES, Finding
from reviewsum_assets.checkpoints.manifests import read_manifests
from reviewsum_assets.checkpoints.merge import merged_slices
from reviewsum_assets.checkpoints.plan import Plan, partition_key, read_table
from reviewsum_assets.lake import Lake

_ROWS_A_SLICE = 100_000


@dataclass(frozen=True)
class MergedCoverage:
    """Where each selected product is; ``missing_checkpoints`` hold the missing ones."""

    selected: int
    rows: int
    missing: Finding
    missing_checkpoints: frozenset[int]
    unplanned: Finding
    repeated: Finding
    quarantined: Finding


def cover(lake: Lake, plan: Plan) -> MergedCoverage:
    """Compare the merged table and the manifests' quarantine with the products of ``plan``.

    Memory holds ids, not summaries.

    Raises:
        CheckpointError: there is no merged table.
    """
    selected = read_table(lake, plan).filter("selected").select("product_id", "checkpoint")
    ids = pl.concat(rows.select("product_id") for rows in merged_slices(lake, _ROWS_A_SLICE))
    quarantined = _quarantined(lake, plan).join(selected, on=["product_id", "checkpoint"])
    missing = selected.join(ids, on="product_id", how="anti").join(
        quarantined, on="product_id", how="anti"
    )
    places_of_missing = missing["checkpoint"].unique()
    return MergedCoverage(
        selected=selected.height,
        rows=ids.height,
        missing=_finding(
            missing.with_columns(
                detail=pl.col("checkpoint").replace_strict(
                    {number: partition_key(number) for number in places_of_missing},
                    return_dtype=pl.String,
                )
            )
        ),
        missing_checkpoints=frozenset(places_of_missing),
        unplanned=_finding(
            ids.join(selected, on="product_id", how="anti").with_columns(
                detail=pl.lit("not selected by the plan")
            )
        ),
        repeated=_finding(
            ids.group_by("product_id")
            .len("times")
            .filter(pl.col("times") > 1)
            .sort("product_id")
            .with_columns(detail=pl.format("{} rows", "times"))
        ),
        quarantined=_finding(quarantined.rename({"reason": "detail"})),
    )


def _quarantined(lake: Lake, plan: Plan) -> pl.DataFrame:
    """Quarantined products of all checkpoints that have a manifest: product, checkpoint, reason.

    Those of the others are missing, and are found to be.
    """
    return pl.DataFrame(
        [
            (product.product_id, manifest.checkpoint, product.reason)
            for manifest in read_manifests(lake, plan.checkpoints)
            for product in manifest.quarantined
        ],
        schema={"product_id": pl.String, "checkpoint": pl.Int64, "reason": pl.String},
        orient="row",
    )


def _finding(rows: pl.DataFrame) -> Finding:
    first = rows.head(MOST_EXAMPLES).select("product_id", "detail")
    return Finding(rows.height, [(product, detail) for product, detail in first.iter_rows()])
