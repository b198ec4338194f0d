"""Packs summaries that are spread over many half-empty checkpoints into full ones.

Every dump that changes some products leaves a hole where each of them was. A lake that is fed
daily ends with many checkpoints that few current products are left of, and each is listed, read
and judged for ever. Packing computes nothing: a summary, its cost and its maker are copied. The new
checkpoints get numbers that nobody has used, and only when they are complete does a plan with them
become current: killed before that, nothing has changed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TypeVar

import polars as pl

from reviewsum_assets import places
from reviewsum_assets.checkpoints.chunk_records import read_chunks
from reviewsum_assets.checkpoints.files import SummaryRow, encode_rows
from reviewsum_assets.checkpoints.listing import list_checkpoints
from reviewsum_assets.checkpoints.manifest import (
    Manifest,
    Producer,
    QuarantinedProduct,
    SummarizedProduct,
    Timings,
)
from reviewsum_assets.checkpoints.plan import (
    INPUT_SCHEMA,
    Plan,
    PlannedCheckpoint,
    data_version,
    make_current,
    new_plan_id,
    read_table,
    require_plan,
)
from reviewsum_assets.checkpoints.review_window import COVERAGE
from reviewsum_assets.checkpoints.validity import CheckpointState, check_checkpoints
from reviewsum_assets.errors import PlanError
from reviewsum_assets.lake import Lake
from reviewsum_assets.tables import as_parquet, parse_table

_Record = TypeVar("_Record", SummarizedProduct, QuarantinedProduct)

_NO_TIME = Timings(load=0.0, tokenize=0.0, generate=0.0, write=0.0)


@dataclass(frozen=True)
class Repacked:
    """Checkpoints that were packed, what they were packed into, and how many products that are."""

    sources: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()
    products: int = 0


def repack(lake: Lake, *, checkpoint_size: int, below: float = 0.5) -> Repacked:
    """Pack the valid checkpoints that are rather empty; nothing happens where it would not help.

    Args:
        lake: read from and written to.
        checkpoint_size: products a new checkpoint.
        below: a checkpoint is packed if fewer of its products are current than this share of
            ``checkpoint_size``.

    Raises:
        PlanError: there is no plan, or others planned or wrote checkpoints meanwhile.
        LakeError: something cannot be read or written.
    """
    plan = require_plan(lake)
    table = read_table(lake, plan)
    sources = _sources(lake, plan, table, below * checkpoint_size)
    moved = table.filter(pl.col("selected") & pl.col("checkpoint").is_in(sorted(sources)))
    if math.ceil(moved.height / checkpoint_size) >= len(sources):
        return Repacked()
    first = _first_free_number(lake, plan)
    moved = moved.sort("checkpoint", "product_id").with_columns(
        target=first + pl.int_range(pl.len(), dtype=pl.Int64) // checkpoint_size
    )
    packed_table = _moved_in(table, moved)
    plan_id = new_plan_id(plan, packed_table)
    targets = _planned(moved, plan, plan_id)
    for target in _filled(lake, moved, sources, targets):
        targets[target.planned.number] = target.write(lake)
    packed = _packed_plan(plan, plan_id, targets, set(sources))
    if make_current(lake, packed, packed_table) is None:
        raise PlanError("another plan was made meanwhile, and nothing is packed: repack again")
    return Repacked(tuple(sorted(sources)), tuple(targets), moved.height)


def _sources(
    lake: Lake, plan: Plan, table: pl.DataFrame, fewer_than: float
) -> dict[int, PlannedCheckpoint]:
    """The valid checkpoints, by number, that hold fewer current products than that."""
    counts = dict(table.filter("selected").group_by("checkpoint").len().iter_rows())
    suited = [
        planned
        for planned in plan.checkpoints
        if counts[planned.number] < fewer_than and planned.recipe == plan.recipe
    ]
    return {
        state.planned.number: state.planned
        for state in check_checkpoints(lake, suited)
        if state.is_valid and lake.head(state.planned.input_key) is not None
    }


def _first_free_number(lake: Lake, plan: Plan) -> int:
    """Above all that the plan has given away, and all that lies on the lake for whatever reason."""
    chunks = (item.key for item in lake.list(places.CHECKPOINT_CHUNKS))
    numbers = map(places.checkpoint_number_of, (*list_checkpoints(lake), *chunks))
    return max((plan.last_number, *(number for number in numbers if number is not None))) + 1


def _moved_in(table: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
    """The plan's table with the moved products in their targets."""
    joined = table.join(moved.select("product_id", "target"), on="product_id", how="left")
    return (
        joined.with_columns(checkpoint=pl.coalesce("target", "checkpoint"))
        .select(table.columns)
        .sort("checkpoint", "product_id")
    )


def _planned(moved: pl.DataFrame, plan: Plan, plan_id: str) -> dict[int, PlannedCheckpoint]:
    parts = moved.partition_by("target", as_dict=True, maintain_order=True)
    return {
        number: PlannedCheckpoint(
            number=number,
            products=part.height,
            data_version=data_version(part.select("product_id", "input_hash").iter_rows()),
            recipe=plan.recipe,
            plan_id=plan_id,
        )
        for (number,), part in parts.items()
    }


def _packed_plan(
    plan: Plan, plan_id: str, targets: Mapping[int, PlannedCheckpoint], sources: set[int]
) -> Plan:
    emptied = [planned for planned in plan.checkpoints if planned.number in sources]
    kept = [planned for planned in plan.checkpoints if planned.number not in sources]
    return plan.model_copy(
        update={
            "sequence": plan.sequence + 1,
            "plan_id": plan_id,
            "checkpoints": (*kept, *targets.values()),
            "retired": tuple(sorted((*plan.retired, *emptied), key=lambda one: one.number)),
            "last_number": max(targets),
        }
    )


@dataclass
class _Target:
    """A new checkpoint in the making."""

    planned: PlannedCheckpoint
    rows: list[SummaryRow] = field(default_factory=list)
    products: list[SummarizedProduct] = field(default_factory=list)
    quarantined: list[QuarantinedProduct] = field(default_factory=list)
    inputs: list[pl.DataFrame] = field(default_factory=list)
    chunks: list[pl.DataFrame] = field(default_factory=list)
    producers: dict[int, Producer] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        return len(self.products) + len(self.quarantined) == self.planned.products

    def take(
        self,
        source: CheckpointState,
        inputs: pl.DataFrame,
        chunks: pl.DataFrame | None,
        chosen: set[str],
    ) -> None:
        """Add some products of a valid checkpoint, and of its chunk summaries what is theirs."""
        manifest = source.manifest
        assert manifest is not None
        self.rows += [row for row in source.rows if row.product_id in chosen]
        for product in manifest.products:
            if product.product_id in chosen:
                self.products.append(self._moved(manifest, product))
        for failed in manifest.quarantined:
            if failed.product_id in chosen:
                self.quarantined.append(self._moved(manifest, failed))
        is_chosen = pl.col("product_id").is_in(sorted(chosen))
        self.inputs.append(inputs.filter(is_chosen))
        if chunks is not None:
            self.chunks.append(chunks.filter(is_chosen))

    def _moved(self, manifest: Manifest, product: _Record) -> _Record:
        origin = product.repacked_from or manifest.checkpoint
        self.producers[origin] = manifest.producer_of(product)
        return product.model_copy(update={"repacked_from": origin})

    def write(self, lake: Lake) -> PlannedCheckpoint:
        """Write its input and chunk summaries, and where nothing is yet its CSV and manifest.

        Returns:
            The checkpoint as the plan is to name it.

        Raises:
            PlanError: somebody else has written a checkpoint of that number.
        """
        inputs = pl.concat(self.inputs, how="diagonal_relaxed")
        content = encode_rows(self.rows)
        chunks_sha256 = None
        if self.chunks:
            chunks = as_parquet(pl.concat(self.chunks))
            chunks_sha256 = hashlib.sha256(chunks).hexdigest()
            lake.put(places.checkpoint_chunks(self.planned.number, chunks_sha256), chunks)
        manifest = Manifest(
            plan_id=self.planned.plan_id,
            checkpoint=self.planned.number,
            data_version=self.planned.data_version,
            csv_sha256=hashlib.sha256(content).hexdigest(),
            csv_bytes=len(content),
            products=tuple(self.products),
            quarantined=tuple(self.quarantined),
            reviews=inputs["review_count"].sum(),
            producer=self.producers[max(self.producers)],
            timings=_NO_TIME,
            seconds=0.0,
            finished_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            repacked_from=self.producers,
            chunks_sha256=chunks_sha256,
        )
        source = as_parquet(inputs)
        lake.put(self.planned.input_key, source)
        for key, data in (
            (places.checkpoint_csv(self.planned.number), content),
            (places.checkpoint_manifest(self.planned.number), manifest.sealed()),
        ):
            if not lake.create(key, data):
                raise PlanError(f"{key} was written by others meanwhile: repack again")
        digest = hashlib.sha256(source).hexdigest()
        return self.planned.model_copy(update={"input_sha256": digest})


def _filled(
    lake: Lake,
    moved: pl.DataFrame,
    sources: Mapping[int, PlannedCheckpoint],
    targets: Mapping[int, PlannedCheckpoint],
) -> Iterator[_Target]:
    """The targets one after the other, each complete; one is in memory at a time.

    Raises:
        PlanError: a source is not what it was some seconds ago.
    """
    shares = moved.partition_by("checkpoint", "target", as_dict=True, maintain_order=True)
    products: dict[int, dict[int, set[str]]] = {}
    for (source, number), part in shares.items():
        products.setdefault(source, {})[number] = set(part["product_id"])
    target: _Target | None = None
    for state in check_checkpoints(lake, [sources[number] for number in products]):
        content = lake.get(state.planned.input_key)
        if not state.is_valid or content is None:
            raise PlanError(f"{state.planned.partition_key} changed meanwhile: repack again")
        inputs = _inputs(state.planned, content)
        assert state.manifest is not None
        chunks = read_chunks(lake, state.manifest)
        for number, chosen in products[state.planned.number].items():
            target = target or _Target(targets[number])
            target.take(state, inputs, chunks, chosen)
            if target.is_full:
                yield target
                target = None


def _inputs(planned: PlannedCheckpoint, content: bytes) -> pl.DataFrame:
    try:
        return parse_table(content, INPUT_SCHEMA, nullable=("all_reviews",), optional=COVERAGE)
    except ValueError as error:
        raise PlanError(
            f"the grouped reviews of {planned.partition_key} cannot be read ({error}): restore them"
        ) from error
