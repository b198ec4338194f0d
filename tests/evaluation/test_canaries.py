from __future__ import annotations

from typing import Any

import pytest

from reviewsum_assets.checkpoints.manifest import (
    Manifest,
    Producer,
    read_reference,
    record_reference,
)
from reviewsum_assets.evaluation.canaries import CanaryComparison
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import PRODUCER

SUMMARIES = {"a": "The sound is good.", "b": "It broke at once."}
VERSIONS = {"torch": "2.12"}


def producer(summaries: dict[str, str] = SUMMARIES, **changes: object) -> Producer:
    defaults = {"canary_summaries": summaries, "package_versions": VERSIONS}
    return PRODUCER.model_copy(update=defaults | changes)


def checkpoint_of(producer: Producer) -> Manifest:
    fields: dict[str, Any] = {"producer": producer}  # the only one that is compared
    return Manifest.model_construct(**fields)


@pytest.fixture
def comparison(lake: Lake) -> CanaryComparison:
    """A comparison with a reference of recipe ``r``."""
    record_reference(lake, "r", producer())
    return CanaryComparison(lake)


def test_the_first_worker_is_the_reference(any_lake: Lake) -> None:
    assert read_reference(any_lake, "r") is None
    record_reference(any_lake, "r", producer(engine="first"))
    record_reference(any_lake, "r", producer(engine="second"))
    found = read_reference(any_lake, "r")
    assert found is not None
    assert found.engine == "first"


def test_equal_summaries_are_no_drift_on_any_platform(comparison: CanaryComparison) -> None:
    other = producer(device="another", package_versions={"torch": "9"})
    comparison.add("r", checkpoint_of(other))
    assert (comparison.compared, comparison.silent, comparison.drifts()) == (1, 0, [])


def test_a_drift_names_similarity_and_platform_of_the_worker(comparison: CanaryComparison) -> None:
    versions = {"torch": "2.13", "ctranslate2": "4.8"}
    summaries = {**SUMMARIES, "b": "It broke."}
    for host in ("one", "two"):
        other = producer(
            summaries,
            device="cuda (H100)",
            dtype="bfloat16",
            package_versions=versions,
            host=host,
            job_name=host,
        )
        comparison.add("r", checkpoint_of(other))
    comparison.add("r", checkpoint_of(producer({"a": "x", "b": "y"})))
    far, drift = comparison.drifts()  # the least similar one comes first
    assert (far.rouge_l, far.changes) == (0, "same engine, device and library versions")
    assert (drift.checkpoints, drift.differing, drift.texts) == (2, 1, 2)
    # Two words of four and of two: F1 is 2/3, and 1 for the equal text.
    assert drift.rouge_l == pytest.approx((1 + 2 / 3) / 2)
    assert drift.place == "test, cuda (H100), bfloat16, local"
    assert drift.changes == (
        "device cuda (H100), was cpu; dtype bfloat16, was float32; torch 2.13, was 2.12; "
        "ctranslate2 4.8, was none"
    )


def test_checkpoints_without_canary_summaries_or_reference_are_counted(
    lake: Lake, comparison: CanaryComparison
) -> None:
    comparison.add("r", checkpoint_of(producer({})))
    comparison.add("r", checkpoint_of(producer({"another text": "Something."})))
    comparison.add("another recipe", checkpoint_of(producer()))
    lake.put(places.canary_reference("damaged"), b"{")
    comparison.add("damaged", checkpoint_of(producer()))
    assert (comparison.compared, comparison.silent, comparison.drifts()) == (0, 4, [])
