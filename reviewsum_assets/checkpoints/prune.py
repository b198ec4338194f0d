"""Removes what the current plan does not need: retired checkpoints, old plans, models no one uses.

A removal is safe because it comes second: first a plan that knows nothing of the retired
checkpoints becomes current, so that a product that returns is planned anew rather than looked for
in a file that is gone; only then are files removed. Killed half-way, what is left is in nobody's
way, and the next call removes it.

What was retired a short time ago is kept, however old it is: whoever tries another model and goes
back to the one before pays for nothing again. When it was retired, older plans tell.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

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
    """What a call removed, or would remove; ``retired`` are the checkpoints forgotten by the plan.

    The objects are sorted by key, and named by what they are: ``checkpoints``, ``plans``,
    ``inputs`` (grouped reviews of single checkpoints) and ``models``.
    """

    retired: tuple[int, ...]
    objects: dict[str, tuple[LakeObject, ...]]

    @property
    def bytes(self) -> int:
        """Size of all that was removed."""
        return sum(item.size for items in self.objects.values() for item in items)


def prune(
    lake: Lake, *, older_than: timedelta, dry_run: bool = False, live_jobs: Iterable[str] = ()
) -> Pruned:
    """Remove what the current plan does not need.

    Args:
        lake: to be pruned.
        older_than: younger objects stay, since whoever plans or merges right now may need them;
            and so does what was retired less than that ago.
        dry_run: change nothing, tell what would be removed.
        live_jobs: names of running jobs that the lake has no list of, as those of this machine.

    Raises:
        PlanError: there is no plan; a job may be running; or others planned meanwhile.
        LakeError: something cannot be listed, written or removed.
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
    history = _History.since(lake, plan, before)
    slim = _without(plan, history.forgettable(plan))
    if slim.retired != plan.retired and not dry_run:
        slim = _make_current(lake, plan, slim)
    objects = _Needs(slim, history.first if slim.retired else None).unneeded(lake, before)
    if not dry_run:
        # Of a newer plan, everything was listed as needless.
        if require_plan(lake).sequence != slim.sequence:
            raise PlanError(_PLANNED_MEANWHILE)
        with ThreadPoolExecutor(_PARALLEL_REMOVALS) as pool:
            keys = [item.key for items in objects.values() for item in items]
            for _ in pool.map(lake.delete, keys):
                pass
    return Pruned(tuple(sorted(history.forgettable(plan))), objects)


@dataclass(frozen=True)
class _History:
    """What plans before the current one named since some time.

    ``first`` is the one that was current at that time, None if it is not there any more; ``live``
    are the checkpoints that it or a later one had not retired.
    """

    first: Plan | None
    live: frozenset[int]

    @classmethod
    def since(cls, lake: Lake, plan: Plan, time: datetime) -> _History:
        written = {n: at for n, at in plan_times(lake).items() if n <= plan.sequence}
        first = max((number for number, at in written.items() if at <= time), default=0)
        oldest: Plan | None = None
        live: set[int] = set()
        for number in sorted(number for number in written if first <= number < plan.sequence):
            # Of a plan that cannot be read nothing is known.
            with contextlib.suppress(PlanError):
                older = read_plan(lake, number)
                live.update(planned.number for planned in older.checkpoints)
                oldest = older if number == first else oldest
        return cls(oldest, frozenset(live))

    def forgettable(self, plan: Plan) -> frozenset[int]:
        """The retired checkpoints that were retired all that time."""
        return frozenset(planned.number for planned in plan.retired) - self.live


def _without(plan: Plan, forgotten: Container[int]) -> Plan:
    """The same plan without some retired checkpoints, and without what only they needed."""
    retired = tuple(planned for planned in plan.retired if planned.number not in forgotten)
    needed = {plan.recipe, *(planned.recipe for planned in (*plan.checkpoints, *retired))}
    recipes = {key: recipe for key, recipe in plan.recipes.items() if key in needed}
    return plan.model_copy(update={"retired": retired, "recipes": recipes})


def _make_current(lake: Lake, plan: Plan, slim: Plan) -> Plan:
    """Let a slimmer plan follow the current one, with the products that it still knows."""
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
        # The selected products and their checkpoints are the same, and so is the merged table.
        record = merged.model_copy(update={"plan_id": made.plan_id})
        lake.put(places.MERGED_MANIFEST, record.sealed())
    return made


@dataclass(frozen=True)
class _Needs:
    """Tells what a plan needs by its place alone, and an older one that is remembered."""

    plan: Plan
    older: Plan | None

    def unneeded(self, lake: Lake, before: datetime) -> dict[str, tuple[LakeObject, ...]]:
        """What was written before a time and is not needed, by kind, each sorted by key."""
        superseded = self._superseded_chunks(lake)
        kinds: dict[str, tuple[Callable[[str], bool], tuple[str, ...]]] = {
            "checkpoints": (
                lambda key: self._is_old_checkpoint(key) or key in superseded,
                (places.CHECKPOINT_FILES, places.CHECKPOINT_MANIFESTS, places.CHECKPOINT_CHUNKS),
            ),
            "plans": (self._is_old_plan, (places.PLANS,)),
            "inputs": (self._is_old_input, (f"{places.GROUPED_REVIEWS}/plans",)),
            "models": (self._is_old_model, (places.MODELS,)),
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

    def _superseded_chunks(self, lake: Lake) -> frozenset[str]:
        """Chunk summaries of earlier computations of the checkpoints that the plan knows."""
        files: dict[int, set[str]] = {}
        for item in lake.list(places.CHECKPOINT_CHUNKS):
            number = places.checkpoint_number_of(item.key)
            if number in self._numbers:
                files.setdefault(number, set()).add(item.key)
        several = [planned for planned in self._known if len(files.get(planned.number, ())) > 1]
        superseded: set[str] = set()
        for manifest in read_manifests(lake, several):
            if manifest.chunks_sha256 is not None:
                named = places.checkpoint_chunks(manifest.checkpoint, manifest.chunks_sha256)
                superseded |= files[manifest.checkpoint] - {named}
        return frozenset(superseded)

    @cached_property
    def _known(self) -> tuple[PlannedCheckpoint, ...]:
        return (*self.plan.checkpoints, *self.plan.retired)

    @cached_property
    def _numbers(self) -> frozenset[int]:
        return frozenset(planned.number for planned in self._known)

    @cached_property
    def _inputs(self) -> frozenset[str]:
        return frozenset(planned.input_key for planned in self._known)

    @cached_property
    def _models(self) -> frozenset[str]:
        return frozenset(recipe.model_version for recipe in self.plan.recipes.values())

    @cached_property
    def _plans(self) -> frozenset[str]:
        plans = [self.plan] if self.older is None else [self.plan, self.older]
        keys = [places.plan_document(plan.sequence) for plan in plans]
        keys += [places.plan_table(plan.plan_id) for plan in plans]
        return frozenset(keys)

    def _is_old_checkpoint(self, key: str) -> bool:
        number = places.checkpoint_number_of(key)
        # A number that this plan has not given away yet is that of a newer plan, which this lake
        # was perhaps restored without: when it is planned again, its checkpoint is there.
        is_given = number is not None and number <= self.plan.last_number
        return is_given and number not in self._numbers

    def _is_old_plan(self, key: str) -> bool:
        return _PLAN.fullmatch(key) is not None and key not in self._plans

    def _is_old_input(self, key: str) -> bool:
        return _INPUT.fullmatch(key) is not None and key not in self._inputs

    def _is_old_model(self, key: str) -> bool:
        match = _MODEL.fullmatch(key)
        return match is not None and match[1] not in {*self._models, _MODEL_SOURCES}
