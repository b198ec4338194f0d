"""What the lake says about itself: the state of every checkpoint, and whether all agrees."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from reviewsum_assets.checkpoints.manifest import damaged_chunks, damaged_references, read_rows
from reviewsum_assets.checkpoints.merge import (
    MERGED_PARQUET_SCHEMA,
    MergedTable,
    content_digest,
    current_merged_table,
)
from reviewsum_assets.checkpoints.plan import (
    Plan,
    current_plan,
    partition_key,
    read_table,
    require_plan,
)
from reviewsum_assets.checkpoints.validity import (
    CheckpointState,
    check_checkpoints,
    damaged_inputs,
    plan_problems,
)
from reviewsum_assets.errors import ReviewsumError, first_names
from reviewsum_assets.job.models import directory
from reviewsum_assets.job.models.conversion import damaged_conversion
from reviewsum_assets.job.models.directory import damaged_model
from reviewsum_assets.reviews import grouping
from reviewsum_assets.reviews.grouping import damaged_tables
from reviewsum_assets.settings import Settings, SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import file_sha256
from reviewsum_assets.storage.tables import UNREADABLE, first_line, require_columns


@dataclass(frozen=True)
class LakeStatus:
    """Every checkpoint's state; product counts are of selected products only.

    ``states`` come without manifests and rows. ``chunks`` are those of all valid checkpoints.
    ``content`` is their ``content_digest``. ``engine_failures`` says why the chosen engine was
    replaced, by checkpoint where it was.
    """

    plan: Plan
    states: tuple[CheckpointState, ...]
    retired: tuple[int, ...]
    summarized: int
    quarantined: int
    pending: int
    chunks: int
    content: str
    merged: MergedTable | None
    engine_failures: Mapping[int, str]

    @property
    def incomplete(self) -> tuple[CheckpointState, ...]:
        """The checkpoints still to be computed."""
        return tuple(state for state in self.states if not state.is_valid)

    @property
    def is_merged(self) -> bool:
        """Whether the merged table is the current plan's and lacks nothing."""
        return self.merged is not None and self.merged.is_whole(self.plan, self.content)


def lake_status(lake: Lake) -> LakeStatus | None:
    """Judge every checkpoint of the current plan, or None before the first plan."""
    plan = current_plan(lake)
    if plan is None:
        return None
    newest = read_table(lake, plan).filter("selected").select("product_id", "checkpoint")
    holders: dict[str, int] = dict(newest.iter_rows())
    states: list[CheckpointState] = []
    summarized = quarantined = chunks = 0
    engine_failures: dict[int, str] = {}
    checksums: dict[int, str] = {}
    for state in check_checkpoints(lake, plan.checkpoints):
        number = state.planned.number
        summarized += sum(holders.get(row.product_id) == number for row in state.rows)
        if state.manifest is not None:
            quarantined += sum(
                holders.get(q.product_id) == number for q in state.manifest.quarantined
            )
            chunks += state.manifest.chunks
            checksums[number] = state.manifest.csv_sha256
            if state.manifest.producer.failed_engine:
                engine_failures[number] = state.manifest.producer.engine_reason
        # What has been counted is let go: 10,000 checkpoints of it would fill the memory.
        states.append(CheckpointState(state.planned, state.validity, state.reason))
    return LakeStatus(
        plan=plan,
        states=tuple(states),
        retired=tuple(planned.number for planned in plan.retired),
        summarized=summarized,
        quarantined=quarantined,
        pending=plan.selected - summarized - quarantined,
        chunks=chunks,
        content=content_digest(checksums),
        merged=current_merged_table(lake),
        engine_failures=engine_failures,
    )


def verify_lake(lake: Lake) -> list[str]:
    """Everything that is off on the lake, one sentence each; empty if all is well.

    Raises:
        PlanError: there is no plan to verify against.
    """
    plan = require_plan(lake)
    problems = plan_problems(lake, plan)
    expected: set[str] = set()
    holders = dict(
        read_table(lake, plan).filter("selected").select("product_id", "checkpoint").iter_rows()
    )
    for state in check_checkpoints(lake, plan.checkpoints):
        if not state.is_valid:
            problems.append(state.describe())
        expected.update(
            row.product_id
            for row in state.rows
            if holders.get(row.product_id) == state.planned.number
        )
    return problems + _merged_problems(lake, plan, expected)


def merged_file_problems(lake: Lake, *, thorough: bool = True) -> list[str]:
    """How the files of the last merge differ from what was merged; by their sizes if not thorough.

    Thorough is to read them whole.
    """
    merged = current_merged_table(lake)
    if merged is None:
        return ["merged_summaries has no readable record: materialize it"]
    if not thorough:
        return _size_problems(lake, merged)
    with tempfile.TemporaryDirectory(prefix="reviewsum-verify-") as scratch:
        return _file_problems(lake, merged, Path(scratch))


def _merged_problems(lake: Lake, plan: Plan, expected: set[str]) -> list[str]:
    merged = current_merged_table(lake)
    if merged is None:
        return merged_file_problems(lake)
    if merged.plan_id != plan.plan_id:
        return [f"merged_summaries was made for plan {merged.plan_id}, current is {plan.plan_id}"]
    with tempfile.TemporaryDirectory(prefix="reviewsum-verify-") as scratch:
        return _file_problems(lake, merged, Path(scratch)) or _row_problems(Path(scratch), expected)


def _size_problems(lake: Lake, merged: MergedTable) -> list[str]:
    problems = []
    for key, size in (
        (places.MERGED_CSV, merged.csv_bytes),
        (places.MERGED_PARQUET, merged.parquet_bytes),
    ):
        found = lake.head(key)
        if found is None:
            problems.append(f"{key} is missing")
        elif found.size != size:
            problems.append(f"{key} has {found.size:,} bytes, {size:,} were merged")
    return problems


def _file_problems(lake: Lake, merged: MergedTable, scratch: Path) -> list[str]:
    """Copy the merged files to ``scratch`` and compare their hashes."""
    problems = []
    for key, sha256 in (
        (places.MERGED_CSV, merged.csv_sha256),
        (places.MERGED_PARQUET, merged.parquet_sha256),
        (places.MERGED_SPREADSHEET, merged.spreadsheet_sha256),
    ):
        if not sha256:
            continue
        path = scratch / Path(key).name
        if lake.head(key) is None:
            problems.append(f"{key} is missing")
            continue
        lake.download(key, path)
        if file_sha256(path) != sha256:
            problems.append(f"{key} is not the file that was merged: its SHA-256 differs")
    return problems


def _row_problems(scratch: Path, expected: set[str]) -> list[str]:
    """Whether the table holds every expected product once, in both formats."""
    csv_path = scratch / Path(places.MERGED_CSV).name
    parquet_path = scratch / Path(places.MERGED_PARQUET).name
    try:
        with csv_path.open(encoding="utf-8", newline="") as file:
            found = Counter(row.product_id for row in read_rows(file))
        rows = _parquet_rows(parquet_path)
    except ValueError as error:
        return [f"merged_summaries cannot be read: {error}"]
    problems = [
        f"merged_summaries {what}: {first_names(sorted(ids))}"
        for what, ids in (
            ("lacks products", expected - found.keys()),
            ("holds products that are not selected", found.keys() - expected),
            ("holds products twice", {p for p, count in found.items() if count > 1}),
        )
        if ids
    ]
    if rows != found.total():
        problems.append("the Parquet table has another number of rows than the CSV")
    return problems


def _parquet_rows(path: Path) -> int:
    """How many rows there are.

    Raises:
        ValueError: it is damaged, or has other columns.
    """
    try:
        parquet = pl.scan_parquet(path)
        require_columns(parquet.collect_schema(), MERGED_PARQUET_SCHEMA)
        rows: int = parquet.select(pl.len()).collect().item()
    except UNREADABLE as error:
        raise ValueError(first_line(error)) from error
    return rows


_DECIDING = ("top_k", "min_review_chars", "min_reviews", "model")


def plan_differences(lake: Lake, plan: Plan, settings: Settings) -> list[str]:
    """What was planned otherwise, as people name it: dumps, model, settings with both values.

    Reads neither dumps nor model files, and changes nothing. What cannot be found now is a
    difference too, and says why.
    """
    return [
        *_dumps(lake, plan, settings),
        *_model(lake, plan, settings),
        *_settings(plan, settings),
    ]


def planned_settings(settings: Settings) -> str:
    """Fingerprint of the settings that decide a plan, dumps apart."""
    content = json.dumps(_deciding(settings), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def setting_differences(environment: Settings, settings: Settings) -> list[str]:
    """The settings that decide a plan and that a run has otherwise than its environment."""
    changes = _changes(_deciding(environment), _deciding(settings))
    dumps = [] if settings.dumps == environment.dumps else ["other dumps"]
    return dumps + [f"{name} {now} (environment: {usual})" for name, usual, now in changes]


def unused_overrides(
    overrides: Mapping[str, Any], settings: Settings, environment: Settings
) -> list[str]:
    """The overrides of a run that change nothing, with the reason of each."""
    used = settings.summary_settings().deciding()
    found = []
    for name in overrides:
        value = getattr(settings, name)
        if value == getattr(environment, name):
            found.append(f"{name} is {value} without it too")
        elif name in SummarySettings.model_fields and name not in {*used, "strategy"}:
            found.append(f"strategy {settings.strategy} does not use {name}")
    return found


def overridden_plan(overrides: Iterable[str], plan: Plan, settings: Settings) -> list[str]:
    """The overrides that a run over planned checkpoints ignores: the plan decides them."""
    return _settings(plan, settings, set(overrides))


def _deciding(settings: Settings) -> dict[str, Any]:
    return {
        **settings.summary_settings().deciding(),
        **{name: getattr(settings, name) for name in _DECIDING},
    }


def _dumps(lake: Lake, plan: Plan, settings: Settings) -> list[str]:
    try:
        record = grouping.current_grouped_reviews(lake)
        is_current = grouping.is_current(lake, settings)
    except ReviewsumError as error:
        return [f"dumps ({error})"]
    if is_current and record is not None and record.version == plan.grouped_version:
        return []
    return ["dumps, or how they are read"]


def _model(lake: Lake, plan: Plan, settings: Settings) -> list[str]:
    try:
        if directory.is_current(lake, settings):
            model, _ = directory.ready_model(lake, settings)
            if model.version == plan.recipes[plan.recipe].model_version:
                return []
    except ReviewsumError as error:
        return [f"model ({error})"]
    return ["model"]


def _settings(plan: Plan, settings: Settings, names: Container[str] | None = None) -> list[str]:
    """The settings, or those with these names, that differ from the plan's, with both values."""
    planned, wanted = plan.recipes[plan.recipe].settings, settings.summary_settings()
    before = {"top_k": plan.top_k, **planned.deciding()}
    now = {"top_k": settings.top_k, **wanted.deciding()}
    return [
        f"{name} {was} -> {is_now}"
        for name, was, is_now in _changes(before, now)
        if names is None or name in names
    ]


def _changes(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, object, object]]:
    """Name, former and present value of each setting that differs."""
    for name in {**now, **before}:
        if before.get(name) != now.get(name):
            yield name, before.get(name, "not used"), now.get(name, "not used")


def verify(lake: Lake) -> list[str]:
    """Everything that is off on the lake, a sentence each; empty if all is well. Reads it all.

    Raises:
        PlanError: there is no plan to verify against.
    """
    plan = require_plan(lake)
    damaged = _damaged_sources(lake, plan) + damaged_references(lake)
    return [
        *verify_lake(lake),
        *(f"{key} is missing or not what was written" for key in damaged),
        *(
            f"{key} is missing or not what was written: `reviewsum explain` lacks the chunk "
            f"summaries of {partition_key(number)}. To fix: materialize that partition of "
            "chunk_summaries with recompute"
            for number, key in damaged_chunks(lake, plan).items()
        ),
    ]


def remove_damaged(lake: Lake, plan: Plan) -> None:
    """Remove what is damaged of the sources of results, and canary references: all is made again.

    Damaged chunk summaries stay: only `explain` needs them, and a computation would be paid for.

    Only on a disk, where bytes change by themselves. S3 keeps checksums of its own, and reading
    gigabytes from it would make every run wait.
    """
    if lake.directory is not None:
        inputs = [planned.input_key for planned in damaged_inputs(lake, plan)]
        for key in [*inputs, *_damaged_sources(lake, plan), *damaged_references(lake)]:
            lake.delete(key)


def _damaged_sources(lake: Lake, plan: Plan) -> list[str]:
    """Keys of grouped tables and files of the model that are gone or not what was written."""
    model = plan.recipes[plan.recipe].model_version
    return damaged_tables(lake) + damaged_model(lake, model) + damaged_conversion(lake, model)
