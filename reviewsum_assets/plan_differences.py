"""Differences between the current plan and the present dumps, model and settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.errors import ReviewsumError
from reviewsum_assets.job import model_directory
from reviewsum_assets.lake import Lake
from reviewsum_assets.reviews import grouping
from reviewsum_assets.settings import Settings, SummarySettings

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
        if model_directory.is_current(lake, settings):
            model, _ = model_directory.ready_model(lake, settings)
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
