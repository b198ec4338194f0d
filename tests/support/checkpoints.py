"""Plans and checkpoints without a model: what a job would leave, written by its writer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from reviewsum_assets.checkpoints.manifest import (
    ChunkRecord,
    Manifest,
    Producer,
    QuarantinedProduct,
    SummarizedProduct,
    SummaryRow,
    Timings,
)
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.planning import PlanOutcome, make_plan
from reviewsum_assets.checkpoints.sides import Sides
from reviewsum_assets.job.summarizer import CheckpointInput, CheckpointSummaries
from reviewsum_assets.job.worker import read_input, write_checkpoint
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import checkpoint_manifest

PRODUCER = Producer(
    job_name="test",
    host="test",
    instance_type="local",
    engine="test",
    device="cpu",
    dtype="float32",
    model_version="model-1",
    package_versions={},
)


def grouped(
    texts: Mapping[str, str | None], counts: Mapping[str, int] | None = None
) -> pl.LazyFrame:
    """Grouped reviews of some products; the first named have most reviews unless counts say."""
    ranked = {product: max(1000, len(texts)) - rank for rank, product in enumerate(texts)}
    return pl.LazyFrame(
        {
            "product_id": list(texts),
            "all_reviews": list(texts.values()),
            "review_count": [(counts or ranked)[product] for product in texts],
        },
        schema={"product_id": pl.String, "all_reviews": pl.String, "review_count": pl.Int64},
    )


def products(count: int) -> dict[str, str]:
    """Texts of so many products."""
    return {f"P{number:06d}": f"text of product {number}" for number in range(count)}


def plan_products(
    lake: Lake,
    texts: Mapping[str, str | None],
    *,
    counts: Mapping[str, int] | None = None,
    version: str = "grouped-1",
    model: str = "model-1",
    separable: bool = False,
    stars: Mapping[str, Sequence[float | None]] | None = None,
    **settings: object,
) -> PlanOutcome:
    """Plan these products; ``separable``: each line is one review, the oldest first.

    So it is with ``stars``, which are those of each line, by default 5.
    """
    reviews = grouped(texts, counts)
    if separable or stars is not None:
        lines = {product: (text or "").split("\n") for product, text in texts.items()}
        given = stars or {product: [5.0] * len(some) for product, some in lines.items()}
        ratings, places = [list(given[p]) for p in lines], [range(len(lines[p])) for p in lines]
        reviews = reviews.with_columns(
            review_ratings=pl.Series(ratings, dtype=pl.List(pl.Float32)),
            review_places=pl.Series(map(list, places), dtype=pl.List(pl.Int32)),
        )
    return make_plan(lake, reviews, version, model, load_settings(**settings))


def complete(
    lake: Lake,
    plan: Plan,
    numbers: Iterable[int] | None = None,
    poison: Iterable[str] = (),
    texts: Mapping[str, str] | None = None,
    producer: Producer = PRODUCER,
) -> None:
    """Write the plan's checkpoints, or some; ``poison`` products are quarantined."""
    chosen = None if numbers is None else set(numbers)
    for planned in plan.checkpoints:
        if chosen is None or planned.number in chosen:
            complete_one(lake, plan, planned, set(poison), texts, producer)


def complete_one(
    lake: Lake,
    plan: Plan,
    planned: PlannedCheckpoint,
    poison: set[str] | None = None,
    texts: Mapping[str, str] | None = None,
    producer: Producer = PRODUCER,
) -> Manifest:
    """Write one checkpoint whose summaries repeat the product's text, unless ``texts`` has one."""
    recipe = plan.recipes[planned.recipe]
    source, given = read_input(lake, planned, recipe), texts or {}
    sides = {
        product.product_id: Sides.of_window(product.text or "")
        for product in source.products
        if recipe.settings.is_two_sided and product.product_id not in given
    }
    summaries = _summaries(source, poison or set(), given, sides)
    return write_checkpoint(
        lake, summaries, producer, load_seconds=0.0, started_at=time.monotonic()
    )


def retime(lake: Lake, number: int, *, seconds: float, reused: int = 0, **producer: str) -> None:
    """Let a checkpoint's manifest say that its work took so long, somewhere else if need be."""
    key = checkpoint_manifest(number)
    manifest = Manifest.model_validate_json(lake.get(key) or b"")
    first, *others = manifest.products
    changed = manifest.model_copy(
        update={
            "timings": manifest.timings.model_copy(update={"load": 9.0, "generate": seconds}),
            "products": (first.model_copy(update={"chunks_reused": reused}), *others),
            "producer": manifest.producer.model_copy(update=producer),
        }
    )
    lake.put(key, changed.sealed())


def _summaries(
    source: CheckpointInput,
    poison: set[str],
    texts: Mapping[str, str],
    sides: Mapping[str, Sides],
) -> CheckpointSummaries:
    texts = {**texts, **{product: divided.summary for product, divided in sides.items()}}
    good = [product for product in source.products if product.product_id not in poison]
    bad = [product for product in source.products if product.product_id in poison]
    rows = tuple(
        SummaryRow(p.product_id, texts.get(p.product_id, f"summary of {p.text}"), p.review_count)
        for p in good
    )
    return CheckpointSummaries(
        planned=source.planned,
        rows=rows,
        chunks=tuple(
            ChunkRecord(p.product_id, 1, len((p.text or "").split()), 10, 5, row.abstracted_summary)
            for p, row in zip(good, rows, strict=True)
        ),
        products=tuple(
            SummarizedProduct(
                product_id=p.product_id,
                input_hash=p.input_hash,
                chunks=1,
                chunks_reused=0,
                tokens_in=10,
                tokens_out=5,
                reviews=p.review_count,
                reviews_read=p.reviews_read,
                reviews_cut=p.reviews_cut,
                chunks_by_level=(1,),
                side_chars=sides[p.product_id].chars if p.product_id in sides else None,
            )
            for p in good
        ),
        quarantined=tuple(
            QuarantinedProduct(product_id=p.product_id, input_hash=p.input_hash, reason="poison")
            for p in bad
        ),
        reviews=sum(p.review_count for p in source.products),
        timings=Timings(load=0, read=0, tokenize=0, generate=0, assemble=0, write=0),
    )


def spread_out(lake: Lake) -> Plan:
    """Ten products in checkpoints of four; then five single ones change, one dump after another."""
    texts = products(10)
    outcome = plan_products(lake, texts, checkpoint_size=4)
    complete(lake, outcome.plan, outcome.added, poison=["P000008"])
    for count, product in enumerate(list(texts)[:5]):
        texts[product] += ", changed"
        outcome = plan_products(lake, texts, version=f"grouped-{count + 2}", checkpoint_size=4)
        complete(lake, outcome.plan, outcome.added)
    merge_checkpoints(lake, outcome.plan)
    return outcome.plan
