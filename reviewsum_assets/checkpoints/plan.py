"""The plan: the checkpoint of each product, and the hash of the product's input.

Plans are documents numbered 1, 2, ...; the highest number is current. A plan never changes; the
next one is created beside it, which fails if another planner was first.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from reviewsum_assets.checkpoints.review_window import COVERAGE
from reviewsum_assets.errors import CheckpointError, PlanError, first_problem
from reviewsum_assets.settings import SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import Count, PlaceName, SealedRecord
from reviewsum_assets.storage.tables import as_parquet, first_line, parse_table

_PLAN_KEY = re.compile(rf"{places.PLANS}/plan_([0-9]{{6,18}})\.json")
# Checkpoints of a removed plan are found by their numbers and their input hashes.
_REMEDY = (
    "To fix: restore it from a backup, or remove the plan document and launch refresh "
    "(`reviewsum run`), which plans again and keeps the checkpoints that are complete"
)
_PARTITION_KEY = re.compile(r"checkpoint_([0-9]{5,18})")

# The separators of str.split() as UTF-8; the ideographic space is the last one.
_SPACES = tuple(chr(code).encode() for code in range(0x3001) if chr(code).isspace())
_TO_SPACE = bytes(ord(" ") if bytes([byte]) in _SPACES else byte for byte in range(256))
_WIDE_SPACES = re.compile(b"|".join(re.escape(space) for space in _SPACES if len(space) > 1))
_FIRST_BYTES = tuple({space[:1] for space in _SPACES if len(space) > 1})

TABLE_SCHEMA = pl.Schema(
    {
        "product_id": pl.String,
        "checkpoint": pl.Int64,  # the one that its summary is taken from
        "input_hash": pl.String,
        "review_count": pl.Int64,
        "selected": pl.Boolean,  # False: fell out of the top_k, its summary is kept
    }
)

# A checkpoint's products, as a job reads them.
INPUT_SCHEMA = pl.Schema(
    [
        ("product_id", pl.String()),
        ("review_count", pl.Int64()),
        ("input_hash", pl.String()),
        ("all_reviews", pl.String()),
        *COVERAGE.items(),
    ]
)
INPUT_NULLABLE = ("all_reviews", *COVERAGE)


class Recipe(BaseModel):
    """Everything except a product's text that decides its summary."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_version: PlaceName
    settings: SummarySettings

    @cached_property
    def key(self) -> str:
        """A short name for this recipe, equal for equal recipes."""
        decided_by = {"model_version": self.model_version, "settings": self.settings.deciding()}
        return _digest(json.dumps(decided_by, sort_keys=True))[:12]

    def input_hash(self, text: str | None) -> str:
        """Hash of a product's text as the model sees it, under this recipe.

        White space only separates words for the chunker, so it is normalized here too.
        """
        words = words_of((text or "")[: self.settings.window_chars])
        return hashlib.sha256(f"{self.key}\n".encode() + words).hexdigest()[:32]


class PlannedCheckpoint(BaseModel):
    """One planned checkpoint, unchanged once its plan is current."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1, le=2**53)
    products: int = Field(ge=1, le=2**53)
    data_version: str
    recipe: str
    plan_id: PlaceName
    input_sha256: str  # of its grouped reviews

    @property
    def partition_key(self) -> str:
        """The Dagster partition of this checkpoint."""
        return partition_key(self.number)

    @property
    def input_key(self) -> str:
        """Key of the grouped reviews of this checkpoint."""
        return places.checkpoint_input(self.plan_id, self.number)


class Vanished(BaseModel):
    """Products of the previous plan that the next one does not select, by cause."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    absent: Count  # in no dump any more
    too_few: Count  # with fewer reviews than min_reviews
    below_top_k: Count  # others have more reviews
    before: Count  # products selected by the plan before

    @property
    def total(self) -> int:
        """All of them."""
        return self.absent + self.too_few + self.below_top_k

    @property
    def by_cause(self) -> dict[str, int]:
        """The counts by their names in metadata and JSON."""
        return {
            "products_in_no_dump_any_more": self.absent,
            "products_with_too_few_reviews": self.too_few,
            "products_below_top_k": self.below_top_k,
        }

    def __str__(self) -> str:
        return (
            f"{self.total:,} of {self.before:,} products are gone: {self.absent:,} are in no dump "
            f"any more, {self.too_few:,} have too few reviews, {self.below_top_k:,} are below top_k"
        )


class Plan(SealedRecord):
    """One plan document; the products are in the table beside it."""

    sequence: int = Field(ge=1, le=2**53)
    plan_id: PlaceName
    grouped_version: str
    top_k: int
    recipe: str
    recipes: dict[str, Recipe]
    checkpoints: tuple[PlannedCheckpoint, ...]
    retired: tuple[PlannedCheckpoint, ...]
    last_number: int = Field(ge=1, le=2**53)
    selected: int = Field(ge=1, le=2**53)
    table_sha256: str = ""  # set when the plan is stored
    # Differences from the previous plan; a pruned plan keeps them.
    new: Count = 0
    changed: Count = 0
    vanished: Vanished | None = None  # None: there was no plan before

    @model_validator(mode="after")
    def _is_consistent(self) -> Plan:
        known = (*self.checkpoints, *self.retired)
        require_recipes(self.recipes, known)
        if self.recipe not in self.recipes:
            raise ValueError(f"its recipe {self.recipe!r} is missing")
        numbers = [planned.number for planned in known]
        if len(set(numbers)) < len(numbers) or max(numbers, default=0) > self.last_number:
            raise ValueError("checkpoints are numbered twice, or beyond last_number")
        return self

    def answers(self, grouped_version: str, top_k: int, recipe: Recipe) -> bool:
        """Whether this plan was made from this input, so that planning again is needless."""
        asked = (grouped_version, top_k, recipe.key)
        return asked == (self.grouped_version, self.top_k, self.recipe)

    @property
    def input_version(self) -> str:
        """Hash of the plan's input: grouped reviews, top_k and recipe."""
        return _digest(json.dumps([self.grouped_version, self.top_k, self.recipe]))[:12]

    def checkpoint(self, number: int) -> PlannedCheckpoint:
        """The planned checkpoint with this number.

        Raises:
            PlanError: it is not part of this plan.
        """
        (planned,) = self.chosen([number])
        return planned

    def chosen(self, numbers: Iterable[int]) -> list[PlannedCheckpoint]:
        """The planned checkpoints with these numbers, in their order.

        Raises:
            PlanError: one is not part of this plan.
        """
        by_number = {planned.number: planned for planned in self.checkpoints}
        try:
            return [by_number[number] for number in numbers]
        except KeyError as error:
            raise PlanError(
                f"{partition_key(error.args[0])} is not in the current plan {self.plan_id}, which "
                f"has {len(self.checkpoints)} checkpoints. Partitions come from the plan: choose "
                "one of its own, or launch the job refresh to plan and compute"
            ) from None


def require_recipes(
    recipes: Mapping[str, Recipe], checkpoints: Iterable[PlannedCheckpoint]
) -> None:
    """Require the recipe of every checkpoint.

    Raises:
        ValueError: a recipe is missing.
    """
    for planned in checkpoints:
        if planned.recipe not in recipes:
            raise ValueError(
                f"the recipe {planned.recipe!r} of checkpoint {planned.number} is missing"
            )


def partition_key(number: int) -> str:
    """``checkpoint_00007`` for 7: sorts as the numbers do up to 99,999."""
    return f"checkpoint_{number:05d}"


def checkpoint_number(key: str) -> int:
    """The number behind a partition key.

    Raises:
        PlanError: the key is not one that ``partition_key`` makes.
    """
    match = _PARTITION_KEY.fullmatch(key)
    if match is None:
        raise PlanError(
            f"partition {key!r} is not a checkpoint. Partitions come from the plan, such as "
            "checkpoint_00001: choose one of those, or launch the job refresh to plan and compute"
        )
    return int(match[1])


def words_of(text: str) -> bytes:
    """``" ".join(text.split())`` as UTF-8, faster for most texts."""
    content = text.encode("utf-8", "surrogatepass")
    if any(byte in content for byte in _FIRST_BYTES) and _WIDE_SPACES.search(content):
        return " ".join(text.split()).encode("utf-8", "surrogatepass")
    spaced = content.translate(_TO_SPACE)
    while b"  " in spaced:
        spaced = spaced.replace(b"  ", b" ")
    return spaced.strip(b" ")


def data_version(inputs: Iterable[tuple[str, str]]) -> str:
    """Hash of a checkpoint's (product_id, input_hash) pairs in any order."""
    return _digest(json.dumps(sorted(inputs)))[:32]


def current_plan(lake: Lake) -> Plan | None:
    """The current plan, or None before the first one.

    Raises:
        PlanError: the plan document cannot be read.
    """
    written = plan_times(lake)
    return read_plan(lake, max(written)) if written else None


def plan_times(lake: Lake) -> dict[int, datetime]:
    """When each plan was written, by its number."""
    return {
        int(match[1]): item.last_modified
        for item in lake.list(places.PLANS)
        if (match := _PLAN_KEY.fullmatch(item.key))
    }


def read_plan(lake: Lake, sequence: int) -> Plan:
    """The plan with this number.

    Raises:
        PlanError: its document is missing or damaged.
    """
    key = places.plan_document(sequence)
    try:
        return Plan.unsealed(lake.get(key) or b"")
    except ValueError as error:
        raise PlanError(
            f"plan {lake.uri_of(key)} cannot be read ({first_problem(error)}). {_REMEDY}"
        ) from error


def require_plan(lake: Lake) -> Plan:
    """The current plan.

    Raises:
        PlanError: there is none yet.
    """
    plan = current_plan(lake)
    if plan is None:
        raise PlanError(f"{lake.uri} holds no plan yet: launch the job refresh (`reviewsum run`)")
    return plan


def require_plan_of(lake: Lake, input_version: str) -> Plan:
    """The current plan, if its ``Plan.input_version`` is that of the plan that a run made or found.

    Raises:
        PlanError: the current plan was made from other input.
    """
    plan = require_plan(lake)
    if plan.input_version != input_version:
        raise PlanError(
            f"another run made plan {plan.sequence} current, from other dumps or settings or for "
            "another model: launch refresh again"
        )
    return plan


def read_table(lake: Lake, plan: Plan) -> pl.DataFrame:
    """The plan's products, one per row, in ``TABLE_SCHEMA``.

    Raises:
        PlanError: the table is missing, damaged, or that of another plan.
    """
    key = places.plan_table(plan.plan_id)
    try:
        return _table_of(plan, lake.get(key))
    except ValueError as error:
        raise PlanError(
            f"table {lake.uri_of(key)} of {places.plan_document(plan.sequence)} cannot be read "
            f"({error}). {_REMEDY}"
        ) from error


def read_planned_reviews(lake: Lake, planned: PlannedCheckpoint) -> pl.DataFrame:
    """The products of a checkpoint with their reviews as the model reads them, ``INPUT_SCHEMA``.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    content = lake.get(planned.input_key)
    try:
        return parse_table(content or b"", INPUT_SCHEMA, nullable=INPUT_NULLABLE)
    except ValueError as error:
        damage = "is gone" if content is None else f"cannot be read ({first_line(error)})"
        raise CheckpointError(
            f"{lake.uri_of(planned.input_key)}, the reviews that {planned.partition_key} was made "
            f"of, {damage}. To fix: remove it, then use `reviewsum run`, which makes it again from "
            "the dumps"
        ) from error


def _table_of(plan: Plan, content: bytes | None) -> pl.DataFrame:
    if content is None:
        raise ValueError("it is missing")
    if hashlib.sha256(content).hexdigest() != plan.table_sha256:
        raise ValueError("its checksum differs")
    table = parse_table(content, TABLE_SCHEMA)
    live = set(table.filter("selected")["checkpoint"].unique())
    if live != {planned.number for planned in plan.checkpoints}:
        raise ValueError("it names other checkpoints than the plan")
    return table


def new_plan_id(parent: Plan | None, table: pl.DataFrame) -> str:
    """Hash of the previous plan's id and a table: after a kill the same objects are written."""
    columns = ("checkpoint", "review_count", "selected", "product_id")
    rows = table.select(pl.format("{}|{}|{}|{}", *columns), "input_hash").iter_rows()
    return data_version([(parent.plan_id if parent else "", ""), *rows])[:12]


def make_current(lake: Lake, plan: Plan, table: pl.DataFrame) -> Plan | None:
    """Store a plan with its table and make it current; None if another planner was first."""
    content = as_parquet(table)
    plan = plan.model_copy(update={"table_sha256": hashlib.sha256(content).hexdigest()})
    lake.put(places.plan_table(plan.plan_id), content)
    return plan if lake.create(places.plan_document(plan.sequence), plan.sealed()) else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
