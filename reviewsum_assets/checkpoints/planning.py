"""The planner: which products need a summary, in which new checkpoints, and what stays valid.

A product whose input is unchanged keeps its checkpoint. Checkpoints of earlier plans are searched
too: after a trial of other settings, models or dumps, the way back computes nothing again.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from reviewsum_assets.checkpoints.manifest import read_manifests
from reviewsum_assets.checkpoints.plan import (
    TABLE_SCHEMA,
    Plan,
    PlannedCheckpoint,
    Recipe,
    Vanished,
    current_plan,
    data_version,
    make_current,
    new_plan_id,
    read_table,
)
from reviewsum_assets.checkpoints.review_window import COVERAGE, SelectedTexts
from reviewsum_assets.checkpoints.validity import (
    check_checkpoints,
    finished_numbers,
    lost_checkpoints,
)
from reviewsum_assets.errors import PlanError
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import as_parquet

_INPUT_HASH = re.compile(rb'"input_hash":\s*"([0-9a-f]+)"')
_PARALLEL_WRITES = 8
_RACES = 5
_SCHEMA = pl.Schema({"product_id": pl.String, "input_hash": pl.String, "checkpoint": pl.Int64})


def earlier_holders(
    lake: Lake, plan: Plan, table: pl.DataFrame, wanted: pl.DataFrame, recipe: str
) -> pl.DataFrame:
    """The valid checkpoint of each product in ``wanted`` (product_id, input_hash), if there is one.

    The newest one, but live ones before retired ones; ``table`` is the plan's, ``recipe`` the key
    of the recipe. Only manifests of checkpoints that hold more than current products are read.
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
    by_key = {places.checkpoint_manifest(planned.number): planned for planned in candidates}
    # Searched as bytes, which takes a tenth of the time of parsing.
    naming = (
        by_key[key]
        for key, content in lake.contents(by_key)
        if not hashes.isdisjoint(_INPUT_HASH.findall(content or b""))
    )
    held = [pl.DataFrame(schema=_SCHEMA)]
    for state in check_checkpoints(lake, naming):
        if state.manifest is not None:
            inputs = pl.DataFrame(state.manifest.inputs, schema=_SCHEMA.names()[:2], orient="row")
            held.append(inputs.with_columns(checkpoint=pl.lit(state.planned.number, pl.Int64)))
    return (
        wanted.join(pl.concat(held), on=["product_id", "input_hash"], maintain_order="right")
        .unique("product_id", keep="last", maintain_order=True)
        .select("product_id", "checkpoint")
    )


@dataclass(frozen=True)
class PlanOutcome:
    """A current plan, and its differences from the previous one."""

    plan: Plan
    made: bool
    new: int = 0
    changed: int = 0
    changed_recipe: int = 0  # of the changed ones: model or settings differ, perhaps also the text
    unchanged: int = 0
    retired: tuple[int, ...] = ()
    added: tuple[int, ...] = ()

    @property
    def changed_text(self) -> int:
        """Changed products with the same model and settings, so that the text differs."""
        return self.changed - self.changed_recipe

    def __str__(self) -> str:
        return (
            f"{self.new + self.changed:,} of {self.plan.selected:,} products need a summary: "
            f"{self.new:,} are new, {self.changed_text:,} changed in text, "
            f"{self.changed_recipe:,} in model or settings; {self.unchanged:,} are unchanged"
        )

    @property
    def vanished(self) -> Vanished | None:
        """Products lost since the previous plan; None if no plan was made, or the first."""
        return self.plan.vanished if self.made else None


def make_plan(
    lake: Lake,
    grouped: pl.LazyFrame,
    grouped_version: str,
    model_version: str,
    settings: Settings,
    *,
    too_few: pl.LazyFrame | None = None,
) -> PlanOutcome:
    """Plan the ``top_k`` products of ``grouped`` and make that plan current.

    Args:
        lake: where plans, their tables and checkpoint inputs are written.
        grouped: one row per product, as for ``review_window.windows``.
        grouped_version: version of ``grouped``, for the record.
        model_version: version of the model.
        settings: top_k, checkpoint_size, max_vanished_share and all that changes a summary.
        too_few: product_id of products that ``grouped`` lacks because they have too few reviews.

    Raises:
        PlanError: no product is left, more products than ``max_vanished_share`` would vanish,
            the reviews to rank cannot be separated, or other planners won every race.
        LakeError: see ``Lake.require_exclusive_create``.
    """
    recipe = Recipe(model_version=model_version, settings=settings.summary_settings())
    chosen = _most_reviewed(grouped, settings.top_k)
    if chosen.is_empty():
        raise PlanError(
            "no product is left to summarize: every product has fewer than "
            f"{settings.min_reviews} usable reviews; lower min_reviews or add a dump"
        )
    with tempfile.TemporaryDirectory(prefix="reviewsum-plan-") as scratch:
        texts = SelectedTexts.copy(grouped, chosen, recipe.settings, Path(scratch))
        selection = _with_hashes(chosen, texts, recipe)
        for _ in range(_RACES):
            parent = current_plan(lake)
            draft = _Draft.build(lake, parent, selection, recipe, settings.checkpoint_size)
            if (
                parent is not None
                and parent.answers(grouped_version, settings.top_k, recipe)
                and draft.table.equals(read_table(lake, parent))
            ):
                return PlanOutcome(plan=parent, made=False, unchanged=selection.height)
            vanished = _vanished(lake, parent, selection, grouped, too_few)
            refuse_vanished(vanished, settings.max_vanished_share)
            if lake.directory is None:
                lake.require_exclusive_create()
            plan_id = new_plan_id(parent, draft.table)
            inputs = _write_inputs(lake, plan_id, texts, draft.planned)
            record = {"grouped_version": grouped_version, "top_k": settings.top_k}
            draft_plan = draft.plan(parent, plan_id, recipe, inputs, vanished=vanished, **record)
            plan = make_current(lake, draft_plan, draft.table)
            if plan is not None:
                return draft.outcome(parent, plan)
    raise PlanError(
        f"other planners made {_RACES} plans current meanwhile: let them end, try again"
    )


@dataclass(frozen=True)
class _Draft:
    """The next plan's table, and the rows of it that get a new checkpoint."""

    table: pl.DataFrame
    planned: pl.DataFrame
    new: int
    changed_recipe: int

    @classmethod
    def build(
        cls, lake: Lake, parent: Plan | None, selection: pl.DataFrame, recipe: Recipe, size: int
    ) -> _Draft:
        before = pl.DataFrame(schema=TABLE_SCHEMA)
        other_recipe: list[int] = []
        if parent is not None:
            all_planned = (*parent.checkpoints, *parent.retired)
            other_recipe = [one.number for one in all_planned if one.recipe != recipe.key]
            # Products of lost checkpoints are planned again, in new checkpoints.
            is_lost = pl.col("checkpoint").is_in(lost_checkpoints(lake, parent))
            before = read_table(lake, parent).filter(~is_lost)
        known = before.select(
            "product_id", "checkpoint", held_hash="input_hash", held_in="checkpoint"
        )
        joined = selection.join(known, on="product_id", how="left", maintain_order="left")
        is_kept = pl.col("input_hash") == pl.col("held_hash")
        kept = joined.filter(is_kept.fill_null(False))
        fresh = joined.filter(~is_kept.fill_null(False)).drop("checkpoint")
        if parent is not None:
            wanted = fresh.select("product_id", "input_hash")
            holders = earlier_holders(lake, parent, before, wanted, recipe.key)
            found = fresh.join(holders, on="product_id")
            kept = pl.concat([kept, found.select(kept.columns)])
            fresh = fresh.join(holders, on="product_id", how="anti", maintain_order="left")
        first = 1 if parent is None else parent.last_number + 1
        planned = _numbered(fresh, first, size)
        used = _used_otherwise(lake, first, planned)
        if used:
            planned = _numbered(fresh, max(used) + 1, size)
        unselected = before.join(selection, on="product_id", how="anti")
        parts = [(kept, True), (planned, True), (unselected, False)]
        table = pl.concat(
            part.with_columns(selected=pl.lit(is_selected)).select(TABLE_SCHEMA.names())
            for part, is_selected in parts
        ).sort("checkpoint", "product_id")
        return cls(
            table,
            planned,
            new=fresh["held_hash"].null_count(),
            changed_recipe=int(fresh["held_in"].is_in(other_recipe).sum()),
        )

    def plan(
        self,
        parent: Plan | None,
        plan_id: str,
        recipe: Recipe,
        inputs: dict[int, str],  # SHA-256 by checkpoint
        **record: Any,
    ) -> Plan:
        added = [
            PlannedCheckpoint(
                number=number,
                products=len(rows),
                data_version=data_version(rows),
                recipe=recipe.key,
                plan_id=plan_id,
                input_sha256=inputs[number],
            )
            for number, rows in _rows_by_checkpoint(self.planned)
        ]
        before = () if parent is None else (*parent.checkpoints, *parent.retired)
        known = sorted((*before, *added), key=lambda planned: planned.number)
        live = set(self.table.filter("selected")["checkpoint"].unique())
        return Plan(
            plan_id=plan_id,
            sequence=1 if parent is None else parent.sequence + 1,
            recipe=recipe.key,
            recipes={**({} if parent is None else parent.recipes), recipe.key: recipe},
            checkpoints=tuple(planned for planned in known if planned.number in live),
            retired=tuple(planned for planned in known if planned.number not in live),
            # The parent's may be higher: a pruned lake forgets the checkpoints it retired.
            last_number=max(known[-1].number, 0 if parent is None else parent.last_number),
            selected=int(self.table["selected"].sum()),
            new=self.new,
            changed=self.planned.height - self.new,
            **record,
        )

    def outcome(self, parent: Plan | None, plan: Plan) -> PlanOutcome:
        before = set() if parent is None else {planned.number for planned in parent.checkpoints}
        after = {planned.number for planned in plan.checkpoints}
        return PlanOutcome(
            plan=plan,
            made=True,
            new=plan.new,
            changed=plan.changed,
            changed_recipe=self.changed_recipe,
            unchanged=plan.selected - plan.new - plan.changed,
            retired=tuple(sorted(before - after)),
            added=tuple(sorted(after - before)),
        )


def _vanished(
    lake: Lake,
    parent: Plan | None,
    selection: pl.DataFrame,
    grouped: pl.LazyFrame,
    too_few: pl.LazyFrame | None,
) -> Vanished | None:
    """Products lost since the previous plan; None if there is none."""
    if parent is None:
        return None
    before = read_table(lake, parent).filter("selected")
    gone = before.join(selection, on="product_id", how="anti")
    below_top_k = short = 0
    if not gone.is_empty():
        below = gone.lazy().join(grouped.select("product_id"), on="product_id", how="semi")
        below_top_k = below.collect(engine="streaming").height
        if too_few is not None:
            short = gone.lazy().join(too_few, on="product_id", how="semi").collect().height
    return Vanished(
        absent=gone.height - below_top_k - short,
        too_few=short,
        below_top_k=below_top_k,
        before=before.height,
    )


def refuse_vanished(vanished: Vanished | None, share: float) -> None:
    """Refuse a plan that loses more than this share of the previous products.

    Raises:
        PlanError: names the lost products by cause.
    """
    if vanished is not None and vanished.total > share * vanished.before:
        raise PlanError(
            f"{vanished}. That is more than max_vanished_share ({share:.0%}) allows, so that the "
            "plan and the merged table stay as they are. If a dump is cut off or holds changes "
            "only, put the whole one in its place. To confirm the loss: "
            "reviewsum run --max-vanished-share 1, or in the launchpad the override "
            "max_vanished_share: 1"
        )


def _numbered(fresh: pl.DataFrame, first: int, size: int) -> pl.DataFrame:
    """Assign products, most-reviewed first, to checkpoints numbered from ``first``."""
    return fresh.with_columns(checkpoint=(pl.int_range(pl.len(), dtype=pl.Int64) // size) + first)


def _used_otherwise(lake: Lake, first: int, planned: pl.DataFrame) -> list[int]:
    """Finished checkpoints from ``first`` on, if the input of one differs from the planned one.

    A lake restored from a backup may hold checkpoints of a lost plan: they are reused if they are
    the planned ones, otherwise kept.
    """
    later = [number for number in finished_numbers(lake) if number >= first]
    if not later:
        return []
    versions = {number: data_version(rows) for number, rows in _rows_by_checkpoint(planned)}
    # One that cannot be read is neither reused nor lost.
    found = read_manifests(lake, later)
    is_other = any(versions.get(one.checkpoint) != one.data_version for one in found)
    return later if is_other else []


def _most_reviewed(grouped: pl.LazyFrame, top_k: int) -> pl.DataFrame:
    """The ``top_k`` products with most reviews: product_id, review_count."""
    # The id decides among equal counts, so that every run selects the same products.
    return (
        grouped.select("product_id", pl.col("review_count").cast(pl.Int64))
        .sort("review_count", "product_id", descending=[True, False])
        .head(top_k)
        .collect(engine="streaming")
    )


def _with_hashes(chosen: pl.DataFrame, texts: SelectedTexts, recipe: Recipe) -> pl.DataFrame:
    """The chosen products in their order: product_id, review_count, input_hash."""
    hashes = [
        batch.select(
            "product_id",
            input_hash=pl.Series(map(recipe.input_hash, batch["text"]), dtype=pl.String),
        )
        for batch in texts.batches()
    ]
    return chosen.join(pl.concat(hashes), on="product_id", how="left", maintain_order="left")


def _write_inputs(
    lake: Lake, plan_id: str, texts: SelectedTexts, planned: pl.DataFrame
) -> dict[int, str]:
    """Write the input of each new checkpoint; returns SHA-256 by number."""
    written: dict[int, str] = {}

    def write(number: int, rows: pl.DataFrame) -> None:
        content = as_parquet(rows)
        written[number] = hashlib.sha256(content).hexdigest()
        lake.put(places.checkpoint_input(plan_id, number), content)

    with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
        for rows in texts.beside(planned):
            full = rows.select(
                *("checkpoint", "product_id", "review_count", "input_hash"),
                *COVERAGE.names(),
                all_reviews="text",
            )
            parts = full.partition_by("checkpoint", include_key=False, as_dict=True)
            writes = [pool.submit(write, int(number), part) for (number,), part in parts.items()]
            for each in writes:
                each.result()
    return written


def _rows_by_checkpoint(planned: pl.DataFrame) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    for (number,), part in planned.group_by("checkpoint", maintain_order=True):
        yield int(number), list(part.select("product_id", "input_hash").iter_rows())
