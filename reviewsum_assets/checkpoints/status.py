"""What the lake says about itself: the state of every checkpoint, and whether all agrees."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reviewsum_assets import places
from reviewsum_assets.checkpoints.files import read_rows
from reviewsum_assets.checkpoints.merge import (
    MERGED_PARQUET_SCHEMA,
    MergedTable,
    content_digest,
    current_merged_table,
)
from reviewsum_assets.checkpoints.plan import Plan, current_plan, read_table, require_plan
from reviewsum_assets.checkpoints.plan_damage import plan_problems
from reviewsum_assets.checkpoints.validity import CheckpointState, check_checkpoints
from reviewsum_assets.errors import first_names
from reviewsum_assets.integrity import file_sha256
from reviewsum_assets.lake import Lake
from reviewsum_assets.tables import UNREADABLE, first_line, require_columns


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
