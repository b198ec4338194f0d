"""Finds complete summaries of just the wanted input in checkpoints that a plan has moved on from.

Who tries other settings, another model or other dumps and then goes back finds that the newest
checkpoints of the products are of what was tried. Those from before it are still there: they are
found by what their manifests name, and nothing of them is computed again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import polars as pl

from reviewsum_assets import places
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import check_checkpoints
from reviewsum_assets.lake import Lake

_INPUT_HASH = re.compile(rb'"input_hash":\s*"([0-9a-f]+)"')
_SCHEMA = pl.Schema({"product_id": pl.String, "input_hash": pl.String, "checkpoint": pl.Int64})


def earlier_holders(
    lake: Lake, plan: Plan, table: pl.DataFrame, wanted: pl.DataFrame, recipe: str
) -> pl.DataFrame:
    """The valid checkpoint of each wanted product that one holds: product_id, checkpoint.

    Of several it is the newest; before all others one that current products keep in the plan
    anyway.

    Args:
        lake: whose manifests are read, of those checkpoints alone that hold more than is current.
        plan: its checkpoints and its retired ones are searched.
        table: the plan's, in ``TABLE_SCHEMA``.
        wanted: product_id, input_hash.
        recipe: key of the one that the input hashes are of.
    """
    current = dict(table.group_by("checkpoint").len().iter_rows())
    candidates = [
        planned
        for planned in (*plan.retired, *plan.checkpoints)
        if planned.recipe == recipe and current.get(planned.number, 0) < planned.products
    ]
    if wanted.is_empty() or not candidates:
        return pl.DataFrame(schema=_SCHEMA).drop("input_hash")
    hashes = set(wanted["input_hash"].cast(pl.Binary))
    held = [pl.DataFrame(schema=_SCHEMA)]
    for state in check_checkpoints(lake, _naming(lake, candidates, hashes)):
        if state.manifest is not None:
            inputs = pl.DataFrame(state.manifest.inputs, schema=_SCHEMA.names()[:2], orient="row")
            held.append(inputs.with_columns(checkpoint=pl.lit(state.planned.number, pl.Int64)))
    return (
        wanted.join(pl.concat(held), on=["product_id", "input_hash"], maintain_order="right")
        .unique("product_id", keep="last", maintain_order=True)
        .select("product_id", "checkpoint")
    )


def _naming(
    lake: Lake, candidates: Iterable[PlannedCheckpoint], hashes: set[bytes]
) -> Iterator[PlannedCheckpoint]:
    """The checkpoints whose manifest names any of these input hashes.

    It is looked at as bytes: to parse all manifests of a large lake takes ten times as long.
    """
    by_key = {places.checkpoint_manifest(planned.number): planned for planned in candidates}
    for key, content in lake.contents(by_key):
        if not hashes.isdisjoint(_INPUT_HASH.findall(content or b"")):
            yield by_key[key]
