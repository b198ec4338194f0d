"""The stages around the model: grouping, chunking, planning, merging, and a run with nothing to do.

Every figure is measured when it is asked for. Contender and baseline take turns in processes of
their own, so that a machine that slows down slows both, and must give the same result.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reviewsum_assets.bench import chunking_crew, stage_work
from reviewsum_assets.bench.eager_grouping import group_eagerly
from reviewsum_assets.bench.finished_lake import finished_lake
from reviewsum_assets.bench.measure import Measurement
from reviewsum_assets.bench.scale import Scale
from reviewsum_assets.bench.stage_inputs import write_dump, write_grouped
from reviewsum_assets.bench.workplace import StageResult, Workplace
from reviewsum_assets.demo import DEMO_MODEL
from reviewsum_assets.errors import BenchmarkError

# Objects of Python take some five times the dump they are read from.
_EAGER_LIMIT_MB = 8 * 2**30 / 1e6


def stage_results(
    scale: Scale,
    on_stage: Callable[[str], None],
    *,
    stages: Sequence[str] = (),
    scratch: Path | None = None,
) -> list[StageResult]:
    """Measure stages, one after the other.

    Args:
        scale: how large their inputs are.
        on_stage: told the name of each as it begins.
        stages: names of those to measure, of ``STAGES``; none: all.
        scratch: where inputs and lakes are made, and removed again; None: the usual place.

    Raises:
        BenchmarkError: a stage failed, or does not give what its baseline gives.
    """
    results: list[StageResult] = []
    for name in stages or STAGES:
        on_stage(name)
        with tempfile.TemporaryDirectory(prefix="reviewsum-bench-", dir=scratch) as directory:
            results += STAGES[name](Workplace(scale, Path(directory)))
    return results


def _grouping(place: Workplace) -> Iterator[StageResult]:
    scale = place.scale
    dump = part = place.directory / "dump.jsonl"
    place.measure(write_dump, dump, scale.dump_reviews, scale.dump_products)
    part_reviews = scale.dump_reviews // scale.eager_part
    if scale.eager_part > 1:
        part = place.directory / "part.jsonl"
        place.measure(write_dump, part, part_reviews, scale.dump_products // scale.eager_part)
    grouped_csv = place.directory / "grouped.csv"

    def own(read: Path) -> Measurement[int]:
        return place.measure(
            stage_work.group, {"lake": place.new_lake("lake"), "dumps": (str(read),)}
        )

    def eager() -> Measurement[int]:
        return place.measure(group_eagerly, part, grouped_csv, limit_mb=_EAGER_LIMIT_MB)

    measured, baseline = place.in_turns(partial(own, dump), eager)
    if scale.eager_part > 1:
        own(part)
    lake = str(place.directory / "lake")
    _require_equal(
        "grouped reviews",
        place.measure(stage_work.fingerprints_of_lake, lake).value,
        place.measure(stage_work.fingerprints_of_csv, grouped_csv).value,
    )
    size = f"{scale.dump_reviews:,} reviews, {dump.stat().st_size / 1e6:,.0f} MB"
    note = "baseline: the whole dump as objects of Python"
    if scale.eager_part > 1:
        note += f"; measured on {part_reviews:,} reviews, its seconds times {scale.eager_part}"
    yield StageResult.of("dump to grouped reviews", size, measured).against(
        baseline, note, times=scale.eager_part
    )


def _chunking(place: Workplace) -> Iterator[StageResult]:
    scale = place.scale

    def cut(products: int, rule: chunking_crew.Rule) -> Measurement[list[chunking_crew.Cut]]:
        return place.measure(
            chunking_crew.cut_all,
            DEMO_MODEL,
            products,
            scale.product_chars,
            rule,
            prepared_by=chunking_crew.start_crew,
        )

    measured, baseline = place.in_turns(
        partial(cut, scale.chunked_products, "sums"),
        partial(cut, scale.literal_products, "literal"),
    )
    _require_equal("chunks", measured[0].value[: scale.literal_products], baseline[0].value)
    yield StageResult.of(
        "chunking",
        f"{scale.chunked_products:,} products of {scale.product_chars:,} characters",
        measured,
    ).against(
        baseline,
        f"baseline: a chunk tokenized after every word; measured on {scale.literal_products:,} "
        "products, scaled to all",
        times=scale.chunked_products / scale.literal_products,
    )


def _planning(place: Workplace) -> Iterator[StageResult]:
    scale = place.scale
    grouped = place.directory / "grouped"
    place.measure(write_grouped, grouped, scale.planned_products, scale.product_chars)

    def plan(lake: str, *, is_first: bool) -> Measurement[bool]:
        options = {"lake": lake, "top_k": scale.planned_products}
        measurement = place.measure(stage_work.plan, options, grouped)
        _require_equal("whether there is a new plan", measurement.value, is_first)
        return measurement

    first, again = place.in_turns(
        lambda: plan(place.new_lake("lake"), is_first=True),
        lambda: plan(str(place.directory / "lake"), is_first=False),
    )
    size = f"{scale.planned_products:,} products of {scale.product_chars:,} characters"
    yield StageResult.of("first plan", size, first)
    yield StageResult.of("plan, nothing changed", size, again)


def _finished(place: Workplace) -> Iterator[StageResult]:
    for checkpoints in place.scale.finished_checkpoints:
        yield from _finished_lake(place, checkpoints)


def _finished_lake(place: Workplace, checkpoints: int) -> Iterator[StageResult]:
    """Merge of finished checkpoints, and a run that finds nothing to do."""
    products = checkpoints * place.scale.checkpoint_size
    options: dict[str, Any] = {
        "lake": place.new_lake("lake"),
        "top_k": products,
        "checkpoint_size": place.scale.checkpoint_size,
    }
    place.measure(finished_lake, options)

    def merge() -> Measurement[int]:
        measurement = place.measure(stage_work.merge, options["lake"])
        _require_equal("merged products", measurement.value, products)
        return measurement

    def run() -> Measurement[str]:
        measurement = place.measure_command(_run_command(options))
        report = json.loads(measurement.value)
        _require_equal(
            "what the run did", (report["did_nothing"], report["products"]), (True, products)
        )
        return measurement

    run()  # the first one tells Dagster which partitions there are
    merges, runs = place.in_turns(merge, run)
    size = f"{checkpoints:,} checkpoints of {place.scale.checkpoint_size} products"
    yield StageResult.of("merge", size, merges)
    yield StageResult.of("run with nothing to do", size, runs)


def _run_command(options: dict[str, Any]) -> list[str]:
    command = str(Path(sys.executable).with_name("reviewsum"))
    named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return [command, "run", "--json", *named]


def _definitions(place: Workplace) -> Iterator[StageResult]:
    command = [sys.executable, "-c", "import reviewsum_assets.definitions"]
    (measured,) = place.in_turns(lambda: place.measure_command(command))
    yield StageResult.of("definitions load", "a fresh interpreter", measured)


def _require_equal(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise BenchmarkError(f"{what} are not those expected: the measurement stands for nothing")


STAGES: dict[str, Callable[[Workplace], Iterator[StageResult]]] = {
    "grouping": _grouping,
    "chunking": _chunking,
    "planning": _planning,
    "finished checkpoints": _finished,
    "definitions": _definitions,
}
