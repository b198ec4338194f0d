"""The stages around the model: ingest, plan, merge, a run with nothing to do, definitions.

Work is measured in fresh processes, which have imported little else and return all of their memory
at their end, so that no measurement changes the next. Contender and baseline alternate, and must
give equal results. Inputs are made of sentences of the sample dump, and are the same in every run.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from html import unescape
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, NamedTuple

import polars as pl
from pydantic import BaseModel

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.demo import SAMPLE_DUMP
from reviewsum_assets.environment import ENVIRONMENT_PREFIX
from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job.progress import peak_memory_bytes
from reviewsum_assets.reviews.grouped import current_grouped_reviews, scan_grouped
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

_SEED = 20180913
# Texts of 190 characters on average, as Amazon Electronics of 2018 has.
_SENTENCES_PER_REVIEW = (1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 13)
_REVIEWERS, _REPEATED_SHARE = 700_000, 0.01
_PRODUCT_CHARS = 3_500  # the characters that a plan reads by default
_DISTINCT_TEXTS = 1_000
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
_made: list[Callable[..., Any]] = []  # in a fresh process, the function that it measures


class Scale(NamedTuple):
    """Sizes of the inputs; ``finished`` are the checkpoints of each finished lake."""

    reviews: int
    products: int
    planned_products: int
    finished: Sequence[int]
    checkpoint_size: int = 100
    repeats: int = 3


# 307 checkpoints are the plan of the default settings; a few minutes on two cores.
DEFAULT = Scale(150_000, 700, 30_700, (307,))
# Amazon Electronics of 2018, and a plan thirty times as large as the default one.
FULL = Scale(6_700_000, 31_100, 1_000_000, (307, 10_000))


class Measurement(NamedTuple):
    """Wall-clock seconds, peak memory of the process or its largest command in MB, the result."""

    seconds: float
    peak_mb: float
    value: Any


@contextmanager
def crew(
    name: str, processes: int, make: Callable[[], Callable[..., Any]]
) -> Iterator[Callable[..., list[Measurement]]]:
    """Hold fresh processes, and yield a function that measures one call in each, all at once.

    The function takes the arguments of each call as one sequence, and raises a BenchmarkError if a
    call raised an error or a process ended. In each process, ``make`` returns the function to call;
    this is not measured.
    """
    with ExitStack() as stack:
        fresh = [ProcessPoolExecutor(1, get_context("spawn")) for _ in range(processes)]
        pools = [stack.enter_context(pool) for pool in fresh]

        def run(*calls: Sequence[Any]) -> list[Measurement]:
            pairs = zip(pools, calls, strict=True)
            try:
                futures = [pool.submit(_measured, make, *arguments) for pool, arguments in pairs]
                return [future.result() for future in futures]
            except Exception as error:  # any error of a library in the process that is measured
                raise BenchmarkError(f"{name} failed: {type(error).__name__}: {error}") from error

        yield run


def measure(
    function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str], library: str = ""
) -> Measurement:
    """Measure one call in a fresh process; imports, also that of a library, are not part of it."""
    make = partial(_imported, function, environment, library)
    with crew(function.__name__, 1, make) as run:
        return run(arguments)[0]


def run_command(command: Sequence[str], directory: Path) -> str:
    """Run a command to its end and return its standard output."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"{command[0]} ended with code {done.returncode}: {done.stderr}")
    return done.stdout


def _imported(function: Callable[..., Any], environment: Mapping[str, str], library: str) -> Any:
    os.environ.clear()
    os.environ.update(environment)
    if library:
        import_module(library)
    return function


def _measured(make: Callable[[], Callable[..., Any]], *arguments: Any) -> Measurement:
    function = _made[0] if _made else make()
    _made[:] = [function]
    started = time.perf_counter()
    value = function(*arguments)
    seconds = time.perf_counter() - started
    of_commands = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _MAXRSS_BYTES
    return Measurement(seconds, max(peak_memory_bytes(), of_commands) / 1e6, value)


class StageResult(BaseModel):
    """One stage: the median of its seconds, the highest of its peaks; ``ratio`` is baseline/own."""

    name: str
    size: str
    seconds: float
    baseline_seconds: float | None = None
    ratio: float | None = None
    peak_mb: float
    baseline_peak_mb: float | None = None
    repeats: int
    note: str = ""

    @classmethod
    def of(
        cls, name: str, size: str, own: Sequence[Measurement], baseline: Sequence[Measurement] = ()
    ) -> StageResult:
        """Sum up measurements, and those of the baseline if there are any."""
        peak_mb, seconds = max(one.peak_mb for one in own), median(one.seconds for one in own)
        result = cls(name=name, size=size, seconds=seconds, peak_mb=peak_mb, repeats=len(own))
        if baseline:
            result.baseline_seconds = median(one.seconds for one in baseline)
            result.baseline_peak_mb = max(one.peak_mb for one in baseline)
            result.ratio = result.baseline_seconds / seconds
        return result


def sample_rows() -> list[dict[str, Any]]:
    """Return the reviews of the sample dump that have a text."""
    rows = []
    with gzip.open(SAMPLE_DUMP) as lines:
        for line in lines:
            with suppress(ValueError):  # some lines cannot be read, as in real dumps
                rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict) and row.get("reviewText")]


def _reviews(rng: Random, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    texts = (row["reviewText"] for row in rows)
    sentences = [part for text in texts for part in re.split(r"(?<=[.!?])\s+", text)]
    while True:
        yield " ".join(rng.choices(sentences, k=rng.choice(_SENTENCES_PER_REVIEW)))


def write_dump(path: Path, reviews: int, products: int) -> None:
    """Write JSON lines in the layout of Amazon Reviews 2018, about 430 bytes per review."""
    rng, rows, line = Random(_SEED), sample_rows(), ""
    texts = _reviews(rng, rows)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(reviews):
            if not line or rng.random() >= _REPEATED_SHARE:
                rank, reviewer = products * rng.random() ** 2, _REVIEWERS * rng.random()
                ids = {"asin": f"B{int(rank):09d}", "reviewerID": f"A{int(reviewer):013d}"}
                row = rng.choice(rows) | ids | {"reviewText": next(texts)}
                line = json.dumps(row, ensure_ascii=False)
            file.write(f"{line}\n")


def grouped_reviews(products: int, chars: int) -> pl.LazyFrame:
    """Return the columns of a grouped CSV; texts repeat."""
    reviews, number = _reviews(Random(_SEED), sample_rows()), pl.col("number")
    texts = ["\n".join(islice(reviews, 50))[:chars] for _ in range(_DISTINCT_TEXTS)]
    return pl.LazyFrame({"number": range(products)}).select(
        product_id=pl.format("B{}", number.cast(pl.String).str.zfill(9)),
        all_reviews=(number % len(texts)).replace_strict(range(len(texts)), texts),
        review_count=5 + (products - number) // 10,
    )


def group(lake: str, dump: Path) -> None:
    """Group a dump."""
    group_reviews(Lake.open(lake), load_settings(lake=lake, dumps=(str(dump),)))


def group_with_duckdb(dump: Path, target: Path) -> None:
    """Group a dump as ``group`` does."""
    import duckdb

    settings = load_settings()
    with duckdb.connect() as database:
        database.execute("SET preserve_insertion_order = false")
        database.execute("SET temp_directory = ?", [str(dump.parent / "spilled")])
        # SQL has no function for HTML entities.
        database.create_function(
            "unescaped", lambda t: unescape(unescape(t)), ["VARCHAR"], "VARCHAR"
        )
        sizes = {name: getattr(settings, name) for name in ("min_review_chars", "min_reviews")}
        query = Path(__file__).with_name("group_reviews.sql").read_text()
        database.execute(query, {"dump": str(dump), "target": str(target), **sizes})


def is_same(uri: str, table: Path) -> bool:
    """Return whether a lake and a Parquet file hold the same products with the same texts."""
    lake = Lake.open(uri)
    record = current_grouped_reviews(lake)
    assert record is not None
    columns = "product_id", "review_count", pl.col("all_reviews").hash()
    tables = scan_grouped(lake, record), pl.scan_parquet(table)
    ours, other = (table.select(columns).sort("product_id").collect() for table in tables)
    return ours.equals(other)


def plan(lake: str, grouped: Path, products: int) -> bool:
    """Plan products of a Parquet file; return whether there is a new plan."""
    table, settings = pl.scan_parquet(grouped), load_settings(top_k=products)
    return make_plan(Lake.open(lake), table, "grouped", "model", settings).made


def merge(lake: str) -> int:
    """Merge all checkpoints; return the number of rows."""
    return merge_checkpoints(Lake.open(lake), require_plan(Lake.open(lake))).rows


def _grouping(scale: Scale, directory: Path, call: _Call) -> Iterator[StageResult]:
    dump, table = directory / "dump.jsonl", directory / "grouped.parquet"
    write_dump(dump, scale.reviews, scale.products)
    size = f"{scale.reviews:,} reviews, {dump.stat().st_size / 1e6:,.0f} MB"
    has_baseline, own, other = find_spec("duckdb") is not None, [], []
    for _ in range(scale.repeats):
        lake = mkdtemp(dir=directory)
        own.append(call(group, lake, dump))
        if has_baseline:
            other.append(call(group_with_duckdb, dump, table, library="duckdb"))
            _require(is_same(lake, table), "the baseline's grouped reviews")
    result = StageResult.of("dump to grouped reviews", size, own, other)
    result.note = "no baseline, since DuckDB is not installed; to install it: pip install duckdb"
    if has_baseline:
        result.note = "baseline: the same rules in DuckDB, without titles, styles and ratings"
    yield result


def _planning(scale: Scale, directory: Path, call: _Call) -> Iterator[StageResult]:
    grouped, products = directory / "grouped.parquet", scale.planned_products
    lines = pl.int_ranges(pl.col("all_reviews").str.count_matches("\n") + 1, dtype=pl.Int32)
    columns = {"review_places": lines, "review_ratings": lines.cast(pl.List(pl.Float32))}
    grouped_reviews(products, _PRODUCT_CHARS).with_columns(**columns).sink_parquet(grouped)
    lakes = [mkdtemp(dir=directory) for _ in range(scale.repeats)]
    pairs = [[call(plan, lake, grouped, products) for _ in range(2)] for lake in lakes]
    _require(all(pair[0].value and not pair[1].value for pair in pairs), "the plans")
    size = f"{products:,} products of {_PRODUCT_CHARS:,} characters"
    yield StageResult.of("first plan", size, [first for first, _ in pairs])
    yield StageResult.of("plan, nothing changed", size, [again for _, again in pairs])


def _finished(scale: Scale, directory: Path, call: _Call) -> Iterator[StageResult]:
    for checkpoints in scale.finished:
        products, lake = checkpoints * scale.checkpoint_size, mkdtemp(dir=directory)
        # Short texts, so that a job has little to generate.
        grouped_reviews(products, 100).sink_csv(Path(lake, places.GROUPED_CSV), mkdir=True)
        command = [str(Path(sys.executable).with_name("reviewsum")), "run", f"--lake={lake}"]
        command += [f"--top-k={products}", f"--checkpoint-size={scale.checkpoint_size}", "--json"]
        run = partial(call, run_command, command, directory)
        reports = [json.loads(run().value) for _ in range(2)]  # computes all, finds all
        _require([one["did_nothing"] for one in reports] == [False, True], "the first runs")
        pairs = [(call(merge, lake), run()) for _ in range(scale.repeats)]
        _require(all(merged.value == products for merged, _ in pairs), "the merged products")
        size = f"{checkpoints:,} checkpoints of {scale.checkpoint_size} products"
        yield StageResult.of("merge", size, [merged for merged, _ in pairs])
        yield StageResult.of("run with nothing to do", size, [run for _, run in pairs])


def _definitions(scale: Scale, directory: Path, call: _Call) -> Iterator[StageResult]:
    command = [sys.executable, "-c", "import reviewsum_assets.definitions"]
    own = [call(run_command, command, directory) for _ in range(scale.repeats)]
    yield StageResult.of("definitions load", "a fresh interpreter", own)


def _require(is_met: bool, what: str) -> None:
    if not is_met:
        raise BenchmarkError(f"{what} are not those expected, so the measurement means nothing")


_Call = Callable[..., Measurement]
STAGES: dict[str, Callable[[Scale, Path, _Call], Iterator[StageResult]]] = {
    "grouping": _grouping,
    "planning": _planning,
    "finished checkpoints": _finished,
    "definitions": _definitions,
}


def stage_results(
    scale: Scale, stages: Sequence[str], scratch: Path | None, on_step: Callable[[str], None]
) -> Iterator[StageResult]:
    """Measure stages, or all, under the default settings; raises BenchmarkError if one fails."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ENVIRONMENT_PREFIX)}
    for name in stages or STAGES:
        on_step(f"stage: {name}")
        with TemporaryDirectory(prefix="reviewsum-bench-", dir=scratch) as directory:
            environment = kept | {"DAGSTER_HOME": f"{directory}/home", "TMPDIR": directory}
            call = partial(measure, environment=environment)
            yield from STAGES[name](scale, Path(directory), call)
