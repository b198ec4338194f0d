"""Removal of everything that the current plan does not need.

First a plan without the retired checkpoints becomes current, so that a product that returns is
planned again; only then are files removed. After a kill the next call removes the rest.

Recently retired checkpoints stay, whatever their age, so that going back to a former model costs
nothing. Older plans tell when a checkpoint was retired.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from reviewsum_assets.checkpoints.manifest import read_manifests
from reviewsum_assets.checkpoints.merge import current_merged_table
from reviewsum_assets.checkpoints.plan import (
    Plan,
    PlannedCheckpoint,
    make_current,
    new_plan_id,
    plan_times,
    read_plan,
    read_table,
    require_plan,
)
from reviewsum_assets.errors import PlanError
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake, LakeObject

_PLAN = re.compile(rf"{places.PLANS}/(?:(?:copies/)?plan_\d+\.json|(?:tables|copies)/\w+\.parquet)")
_INPUT = re.compile(rf"{places.GROUPED_REVIEWS}/plans/(\w+)/checkpoint_(\d+)\.parquet")
_MODEL = re.compile(rf"{places.MODELS}/(\w+)(?:\.ctranslate2)?/.+")
_MODEL_SOURCES = "sources"
_PARALLEL_REMOVALS = 16
_PLANNED_MEANWHILE = "another plan was made meanwhile; nothing was removed, prune again"


@dataclass(frozen=True)
class Pruned:
    """Removed objects, or those that would be removed, by kind and sorted by key.

    Kinds are checkpoints, plans, inputs (grouped reviews of single checkpoints) and models;
    ``retired`` are the checkpoints that the plan no longer knows.
    """

    retired: tuple[int, ...]
    objects: dict[str, tuple[LakeObject, ...]]

    @property
    def bytes(self) -> int:
        """Size of the objects."""
        return sum(item.size for items in self.objects.values() for item in items)


def prune(
    lake: Lake, *, older_than: timedelta, dry_run: bool = False, live_jobs: Iterable[str] = ()
) -> Pruned:
    """Remove what the current plan does not need.

    Args:
        lake: the lake.
        older_than: younger objects stay, since a running planner or merge may need them, and so do
            checkpoints that were retired more recently.
        dry_run: change nothing, only list.
        live_jobs: names of running jobs that the lake does not list, like those of this machine.

    Raises:
        PlanError: there is no plan, a job may be running, or another plan was made meanwhile.
        LakeError: the lake cannot be listed, or an object cannot be written or removed.
    """
    plan = require_plan(lake)
    listed = (item.key.rpartition("/")[2] for item in lake.list(places.LIVE_JOBS))
    jobs = sorted({*live_jobs, *listed})
    if jobs:
        raise PlanError(
            f"a job may be running, and may need what is to be removed: {', '.join(jobs)}; "
            "prune when it has ended (a job that died is taken off the list when the run that "
            "waits for it, or the sensor stop_abandoned_jobs, sees it)"
        )
    before = lake.now() - older_than
    first, recent = _history(lake, plan, before)
    forgotten = {planned.number for planned in plan.retired} - recent
    slim = _without(plan, forgotten)
    if slim.retired != plan.retired and not dry_run:
        slim = _make_current(lake, plan, slim)
    objects = _unneeded(lake, slim, first if slim.retired else None, before)
    if not dry_run:
        # The list may contain objects of a newer plan.
        if require_plan(lake).sequence != slim.sequence:
            raise PlanError(_PLANNED_MEANWHILE)
        with ThreadPoolExecutor(_PARALLEL_REMOVALS) as pool:
            keys = [item.key for items in objects.values() for item in items]
            for _ in pool.map(lake.delete, keys):
                pass
    return Pruned(tuple(sorted(forgotten)), objects)


def _history(lake: Lake, plan: Plan, time: datetime) -> tuple[Plan | None, set[int]]:
    """The plan that was current at a time, if readable, and checkpoints live since then."""
    written = {n: at for n, at in plan_times(lake).items() if n <= plan.sequence}
    first = max((number for number, at in written.items() if at <= time), default=0)
    oldest: Plan | None = None
    live: set[int] = set()
    for number in sorted(number for number in written if first <= number < plan.sequence):
        with contextlib.suppress(PlanError):  # a plan that cannot be read
            older = read_plan(lake, number)
            live.update(planned.number for planned in older.checkpoints)
            oldest = older if number == first else oldest
    return oldest, live


def _without(plan: Plan, forgotten: Container[int]) -> Plan:
    """The same plan without some retired checkpoints and the recipes that only they need."""
    retired = tuple(planned for planned in plan.retired if planned.number not in forgotten)
    needed = {plan.recipe, *(planned.recipe for planned in (*plan.checkpoints, *retired))}
    recipes = {key: recipe for key, recipe in plan.recipes.items() if key in needed}
    return plan.model_copy(update={"retired": retired, "recipes": recipes})


def _make_current(lake: Lake, plan: Plan, slim: Plan) -> Plan:
    """Make a slimmer plan current, with the products of its checkpoints."""
    known = [planned.number for planned in (*slim.checkpoints, *slim.retired)]
    table = read_table(lake, plan)
    table = table.filter(table["checkpoint"].is_in(known))
    slim = slim.model_copy(
        update={"sequence": plan.sequence + 1, "plan_id": new_plan_id(plan, table)}
    )
    merged = current_merged_table(lake)
    made = make_current(lake, slim, table)
    if made is None:
        raise PlanError(_PLANNED_MEANWHILE)
    if merged is not None and merged.plan_id == plan.plan_id:
        # Selected products and their checkpoints are the same, so the merged table is too.
        record = merged.model_copy(update={"plan_id": made.plan_id})
        lake.put(places.MERGED_MANIFEST, record.sealed())
    return made


def _unneeded(
    lake: Lake, plan: Plan, older: Plan | None, before: datetime
) -> dict[str, tuple[LakeObject, ...]]:
    """Objects from before a time that neither plan needs, by kind and sorted by key."""
    known = (*plan.checkpoints, *plan.retired)
    numbers = {planned.number for planned in known}
    superseded = _superseded_chunks(lake, known)
    inputs = {planned.input_key for planned in known}
    models = {*(recipe.model_version for recipe in plan.recipes.values()), _MODEL_SOURCES}
    plans = {
        key
        for one in (plan, older)
        if one is not None
        for key in (places.plan_document(one.sequence), places.plan_table(one.plan_id))
    }

    def is_old_checkpoint(key: str) -> bool:
        number = places.checkpoint_number_of(key)
        # A higher number belongs to a newer plan, which a restored lake may lack: the checkpoint
        # is reused when that plan is made again.
        is_given = number is not None and number <= plan.last_number
        return (is_given and number not in numbers) or key in superseded

    def is_old_model(key: str) -> bool:
        match = _MODEL.fullmatch(key)
        return match is not None and match[1] not in models

    kinds: dict[str, tuple[Callable[[str], bool], tuple[str, ...]]] = {
        "checkpoints": (
            is_old_checkpoint,
            (places.CHECKPOINT_FILES, places.CHECKPOINT_MANIFESTS, places.CHECKPOINT_CHUNKS),
        ),
        "plans": (lambda key: bool(_PLAN.fullmatch(key)) and key not in plans, (places.PLANS,)),
        "inputs": (
            lambda key: bool(_INPUT.fullmatch(key)) and key not in inputs,
            (f"{places.GROUPED_REVIEWS}/plans",),
        ),
        "models": (is_old_model, (places.MODELS,)),
    }
    return {
        kind: tuple(
            item
            for prefix in prefixes
            for item in lake.list(prefix)
            if item.last_modified <= before and is_unneeded(item.key)
        )
        for kind, (is_unneeded, prefixes) in kinds.items()
    }


def _superseded_chunks(lake: Lake, known: Iterable[PlannedCheckpoint]) -> set[str]:
    """Chunk summaries of earlier computations of known checkpoints."""
    files: dict[int | None, set[str]] = {planned.number: set() for planned in known}
    for item in lake.list(places.CHECKPOINT_CHUNKS):
        files.get(places.checkpoint_number_of(item.key), set()).add(item.key)
    several = [planned.number for planned in known if len(files[planned.number]) > 1]
    superseded: set[str] = set()
    for manifest in read_manifests(lake, several):
        if manifest.chunks_sha256 is not None:
            named = places.checkpoint_chunks(manifest.checkpoint, manifest.chunks_sha256)
            superseded |= files.get(manifest.checkpoint, set()) - {named}
    return superseded
