"""Differences between the current plan and the present dumps, model and settings."""

from __future__ import annotations

import hashlib
import json

from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.errors import ReviewsumError
from reviewsum_assets.job import model_directory
from reviewsum_assets.lake import Lake
from reviewsum_assets.reviews import grouping
from reviewsum_assets.settings import Settings

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
    deciding = {
        **settings.summary_settings().deciding(),
        **{
            name: getattr(settings, name)
            for name in ("top_k", "min_review_chars", "min_reviews", "model")
        },
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


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


def _settings(plan: Plan, settings: Settings) -> list[str]:
    planned, wanted = plan.recipes[plan.recipe].settings, settings.summary_settings()
    before = {"top_k": plan.top_k, **planned.deciding()}
    now = {"top_k": settings.top_k, **wanted.deciding()}
    return [
        f"{name} {before.get(name, 'not used')} -> {now.get(name, 'not used')}"
        for name in {**now, **before}
        if before.get(name) != now.get(name)
    ]
