"""One reading and judgment of a lake, shared by runs, ``status``, ``verify`` and pages of assets.

It covers checkpoints, merged table, damage, and differences between the plan and the settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from reviewsum_assets.checkpoints.manifest import Manifest, damaged_chunks, damaged_references
from reviewsum_assets.checkpoints.merge import MergedTable, content_digest, current_merged_table
from reviewsum_assets.checkpoints.plan import (
    Plan,
    PlannedCheckpoint,
    partition_key,
    plan_times,
    read_plan,
    read_table,
    require_plan,
)
from reviewsum_assets.checkpoints.validity import (
    CheckpointState,
    check_checkpoints,
    checkpoint_digests,
    damaged_inputs,
)
from reviewsum_assets.errors import ReviewsumError, first_names
from reviewsum_assets.job.models import directory
from reviewsum_assets.job.models.conversion import damaged_conversion
from reviewsum_assets.job.models.directory import damaged_model
from reviewsum_assets.report.writer import damaged_report
from reviewsum_assets.reviews.evidence_table import SUMMARY_EVIDENCE
from reviewsum_assets.reviews.facts import PRODUCT_FACTS
from reviewsum_assets.reviews.grouped import (
    current_grouped_reviews,
    damaged_tables,
    is_current,
)
from reviewsum_assets.settings import Settings, SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake


@dataclass(frozen=True)
class LakeStatus:
    """Every checkpoint of a plan, counts of selected products, and the merged table."""

    plan: Plan
    checkpoints: tuple[CheckpointState, ...]  # without rows and products
    summarized: int
    quarantined: int
    content: str  # content_digest of the valid checkpoints
    merged: MergedTable | None

    @property
    def incomplete(self) -> tuple[CheckpointState, ...]:
        """The checkpoints still to be computed."""
        return tuple(state for state in self.checkpoints if not state.is_valid)

    @property
    def pending(self) -> int:
        """Selected products without a summary or a quarantine entry."""
        return self.plan.selected - self.summarized - self.quarantined

    @property
    def chunks(self) -> int:
        """Chunks of all valid checkpoints."""
        return sum(state.totals.chunks for state in self.checkpoints)

    @property
    def is_merged(self) -> bool:
        """Whether the merged table is complete and of the current plan and checkpoints."""
        return self.merged is not None and self.merged.is_whole(self.plan, self.content)


class LakeState:
    """One reading of a lake, shared by all steps of a process.

    Plans and checkpoints are read again only when a listing shows other ones.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._plan: Plan | None = None
        self._judged: dict[int, tuple[str, CheckpointState]] = {}

    def plan(self) -> Plan | None:
        """Return the current plan, or None before the first one.

        Raises:
            PlanError: it cannot be read.
        """
        newest = max(plan_times(self.lake), default=None)
        if newest is None:
            return None
        if self._plan is None or self._plan.sequence != newest:
            self._plan = read_plan(self.lake, newest)
        return self._plan

    def checkpoints(self, plan: Plan) -> tuple[CheckpointState, ...]:
        """Judge the checkpoints of a plan; those whose files have not changed are not read again.

        Raises:
            LakeError: the lake is out of reach.
        """
        digests = checkpoint_digests(self.lake)
        judged = {}
        for planned in plan.checkpoints:
            digest, known = self._judged.get(planned.number, (None, None))
            is_same = known is not None and known.planned == planned
            if known is not None and is_same and digest == digests.get(planned.number):
                judged[planned.number] = known
        unknown = [planned for planned in plan.checkpoints if planned.number not in judged]
        for state in check_checkpoints(self.lake, unknown):
            number = state.planned.number
            judged[number] = state.without_products()
            if state.is_valid and number in digests:
                self._judged[number] = digests[number], judged[number]
        return tuple(judged[planned.number] for planned in plan.checkpoints)

    def pending(self, plan: Plan) -> list[PlannedCheckpoint]:
        """Return the checkpoints of a plan that are still to be computed."""
        return [state.planned for state in self.checkpoints(plan) if not state.is_valid]

    def manifests(self, plan: Plan) -> list[tuple[CheckpointState, Manifest]]:
        """Return the valid checkpoints of a plan with their manifests, without products."""
        states = self.checkpoints(plan)
        return [(state, state.manifest) for state in states if state.manifest is not None]

    def status(self) -> LakeStatus | None:
        """Judge every checkpoint of the current plan; None before the first plan.

        Raises:
            PlanError: the plan or its table cannot be read.
        """
        plan = self.plan()
        return None if plan is None else self.status_of(plan)

    def status_of(self, plan: Plan) -> LakeStatus:
        """Judge every checkpoint of a plan.

        Raises:
            PlanError: its table cannot be read.
        """
        states = self.checkpoints(plan)
        selected = read_table(self.lake, plan).filter("selected").select("product_id", "checkpoint")
        counts = dict(selected["checkpoint"].value_counts().iter_rows())
        valid = {state.planned.number: m for state in states if (m := state.manifest) is not None}
        held = sum(counts.get(number, 0) for number in valid)
        failed = pl.DataFrame(
            [(q.product_id, number) for number, m in valid.items() for q in m.quarantined],
            schema=selected.schema,
            orient="row",
        )
        quarantined = failed.join(selected, on=["product_id", "checkpoint"]).height
        return LakeStatus(
            plan=plan,
            checkpoints=states,
            summarized=held - quarantined,
            quarantined=quarantined,
            content=content_digest({number: m.csv_sha256 for number, m in valid.items()}),
            merged=current_merged_table(self.lake),
        )


def lake_status(lake: Lake) -> LakeStatus | None:
    """Judge every checkpoint of the current plan, or None before the first plan."""
    return LakeState(lake).status()


def verify_lake(lake: Lake) -> list[str]:
    """Problems of plan, checkpoints and merged table, a sentence each.

    Raises:
        PlanError: there is no plan to verify against, or its table cannot be read.
    """
    plan = require_plan(lake)
    read_table(lake, plan)
    problems = [
        f"{planned.partition_key}: its grouped reviews {planned.input_key} are not those planned"
        for planned in damaged_inputs(lake, plan)
    ]
    checksums: dict[int, str] = {}
    for state in check_checkpoints(lake, plan.checkpoints):
        if state.manifest is None:
            problems.append(state.describe())
        else:
            checksums[state.planned.number] = state.manifest.csv_sha256
    problems += [*PRODUCT_FACTS.damage(lake), *SUMMARY_EVIDENCE.damage(lake)]
    problems += damaged_report(lake)
    return problems + _merged_problems(lake, plan, content_digest(checksums))


def merged_file_problems(lake: Lake, *, thorough: bool = True) -> list[str]:
    """Differences between the merged files and their record: by hash, else by size only."""
    merged = current_merged_table(lake)
    if merged is None:
        return ["merged_summaries has no readable record: materialize it"]
    problems = []
    for key, size, sha256 in (
        (places.MERGED_CSV, merged.csv_bytes, merged.csv_sha256),
        (places.MERGED_PARQUET, merged.parquet_bytes, merged.parquet_sha256),
        (places.MERGED_SPREADSHEET, None, merged.spreadsheet_sha256),
    ):
        found = lake.head(key) if sha256 else None
        if found is None:
            problems += [f"{key} is missing"] if sha256 else []
        elif thorough and lake.sha256(key) != sha256:
            problems.append(f"{key} is not the file that was merged: its SHA-256 differs")
        elif size not in (None, found.size):
            problems.append(f"{key} has {found.size:,} bytes, {size:,} were merged")
    return problems


def _merged_problems(lake: Lake, plan: Plan, content: str) -> list[str]:
    merged = current_merged_table(lake)
    if merged is not None and merged.plan_id != plan.plan_id:
        return [f"merged_summaries was made for plan {merged.plan_id}, current is {plan.plan_id}"]
    problems = merged_file_problems(lake)
    if merged is None or problems or merged.merged_from == content:
        return problems
    without = first_names([partition_key(number) for number in merged.incomplete_checkpoints])
    return [
        "merged_summaries was made from other checkpoints than those that are valid now"
        + (f", without {without}" if without else "")
    ]


_DECIDING = (
    *("top_k", "columns", "verified_only", "reviews_since", "min_review_chars", "min_reviews"),
    "model",
)


def plan_differences(lake: Lake, plan: Plan, settings: Settings) -> list[str]:
    """Differences between plan and settings: dumps, model, settings with both values.

    Reads neither dumps nor model files, and changes nothing. An error is a difference too.
    """
    found = []
    try:
        record = current_grouped_reviews(lake)
        if (
            not is_current(lake, settings)
            or record is None
            or record.version != plan.grouped_version
        ):
            found.append("dumps, or how they are read")
    except ReviewsumError as error:
        found.append(f"dumps ({error})")
    try:
        is_same = directory.is_current(lake, settings) and (
            directory.ready_model(lake, settings)[0].version
            == plan.recipes[plan.recipe].model_version
        )
        found += [] if is_same else ["model"]
    except ReviewsumError as error:
        found.append(f"model ({error})")
    return found + _settings(plan, settings)


def planned_settings(settings: Settings) -> str:
    """Fingerprint of the settings that decide a plan, without dumps."""
    content = json.dumps(_deciding(settings), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def setting_differences(environment: Settings, settings: Settings) -> list[str]:
    """The settings that decide a plan and differ between a run and its environment."""
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


def _settings(plan: Plan, settings: Settings, names: Container[str] | None = None) -> list[str]:
    """The settings (or those of ``names``) that differ from the plan's, with both values."""
    before = {"top_k": plan.top_k, **plan.recipes[plan.recipe].settings.deciding()}
    now = {"top_k": settings.top_k, **settings.summary_settings().deciding()}
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
    """Every problem of the lake, a sentence each; reads the whole lake.

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
    """Remove damaged inputs, models and canary references of a lake on a disk: they are made again.

    Damaged chunk summaries stay: only ``explain`` needs them, and their computation costs money.
    S3 keeps checksums, and reading gigabytes from it would delay every run.
    """
    if lake.directory is not None:
        inputs = [planned.input_key for planned in damaged_inputs(lake, plan)]
        for key in [*inputs, *_damaged_sources(lake, plan), *damaged_references(lake)]:
            lake.delete(key)


def _damaged_sources(lake: Lake, plan: Plan) -> list[str]:
    """Keys of grouped tables and model files that are missing or damaged."""
    model = plan.recipes[plan.recipe].model_version
    return damaged_tables(lake) + damaged_model(lake, model) + damaged_conversion(lake, model)
