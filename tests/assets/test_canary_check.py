"""What drift does to runs: it is seen when it happens, and what is too far off is not merged."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from reviewsum_assets.assets.merged_summaries import merged_summaries
from reviewsum_assets.checkpoints.manifest import Producer, record_reference
from reviewsum_assets.checkpoints.merge import current_merged_table
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.cli.local_run import materialize_pending
from reviewsum_assets.errors import CheckError
from reviewsum_assets.job.engines.base import CANARY_TEXTS, canary_key
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.assets.conftest import Planned
from tests.support.checkpoints import PRODUCER, complete
from tests.support.pipeline import SmallPipeline, failure, texts

GOOD = "Buyers say that the sound is good, but not the battery."
FIRST = PRODUCER.model_copy(
    update={"canary_summaries": {canary_key(text): text for text in CANARY_TEXTS}}
)


def drifted(*said: str) -> Producer:
    """A worker that says something else of the last texts, on another GPU."""
    known = [*CANARY_TEXTS[: len(CANARY_TEXTS) - len(said)], *said]
    return FIRST.model_copy(
        update={
            "device": "cuda (NVIDIA A10G)",
            "canary_summaries": dict(zip(FIRST.canary_summaries, known, strict=True)),
        }
    )


@pytest.fixture
def small(planned: Planned, lake: Lake) -> SmallPipeline:
    """Four products in two checkpoints, planned, and the summaries of the first worker."""
    small = planned(4)
    record_reference(lake, require_plan(lake).recipe, FIRST)
    return small


def summarized(small: SmallPipeline, second: Producer) -> None:
    """Write both checkpoints, the second one by another worker."""
    plan, written = require_plan(small.pipeline.lake), dict.fromkeys(texts(4), GOOD)
    for number, producer in ((1, FIRST), (2, second)):
        complete(small.pipeline.lake, plan, [number], texts=written, producer=producer)


def verdict(run: Any) -> dg.AssetCheckEvaluation:
    """The last evaluation of the check in a run."""
    found: list[dg.AssetCheckEvaluation] = run.get_asset_check_evaluations()
    return [one for one in found if one.check_name == "canary_summaries"][-1]


def test_other_words_are_a_warning_that_shows_them_and_workers_that_say_the_same_pass(
    small: SmallPipeline,
) -> None:
    summarized(small, drifted("My son loves the color. Easy to set up and to clean."))
    report = materialize_pending(small.instance, small.pipeline, log_level="CRITICAL")
    warning, *_ = report.warnings
    assert warning.startswith("chunk_summaries: canary_summaries: 1 of 2 checkpoints come from")
    run = small.execute("merge")
    found = verdict(run)
    assert run.success
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    examples = str(found.metadata["examples"].value)
    assert "| test, cuda (NVIDIA A10G), float32, local | 1 checkpoints; 1 of 4 texts," in examples
    assert "ROUGE-L 0.9" in examples
    assert (
        "; device cuda (NVIDIA A10G), was cpu; for example: My son loves the color. Easy to set up "
        "and to clean. - was: My daughter (8) loves"
    ) in examples

    summarized(small, PRODUCER)
    found = verdict(small.execute("merge"))
    assert found.passed
    assert str(found.description).startswith("0 of 1 checkpoints come from workers that")
    assert str(found.description).endswith("; 1 others were not compared")


def test_what_is_too_far_off_is_not_merged_until_it_is_computed_again(
    small: SmallPipeline,
) -> None:
    summarized(small, drifted("x", "y", "z"))
    for _ in range(2):
        with pytest.raises(CheckError, match=r"canary_summaries: 1 of 2 .* `recompute`"):
            materialize_pending(small.instance, small.pipeline, log_level="CRITICAL")
    alone = dg.materialize(
        [merged_summaries],
        instance=small.instance,
        resources={"pipeline": small.pipeline},
        raise_on_error=False,
    )
    assert "canary_summaries: 1 of 2 checkpoints come from workers" in failure(alone)
    assert current_merged_table(small.pipeline.lake) is None
    tolerant = small.with_settings(min_canary_rouge_l=0.2)
    assert tolerant.execute("merge").success
    summarized(small, FIRST)
    run = small.execute("merge")
    assert run.success
    assert verdict(run).passed


def test_a_run_reports_drift_and_keeps_its_checkpoints(small: SmallPipeline) -> None:
    run = small.summarize(1, 2)
    assert run.success
    found = verdict(run)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert str(found.description).startswith("2 of 2 checkpoints come from workers")
    assert "engine ctranslate2, was test" in str(found.metadata["examples"].value)
    assert small.materializations(run).keys() == {"checkpoint_00001", "checkpoint_00002"}
    lake = small.pipeline.lake
    lake.delete(places.canary_reference(require_plan(lake).recipe))
    assert verdict(small.execute("merge")).passed
