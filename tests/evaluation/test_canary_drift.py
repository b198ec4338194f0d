from __future__ import annotations

import pytest

from reviewsum_assets.checkpoints.manifest import (
    Manifest,
    Producer,
    Timings,
    read_reference,
    record_reference,
)
from reviewsum_assets.evaluation.canaries import CanaryComparison
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import PRODUCER

SAID = {"a": "The sound is good.", "b": "It broke at once."}


def producer(said: dict[str, str] = SAID, **changes: object) -> Producer:
    return PRODUCER.model_copy(update={"canary_summaries": said, **changes})


def by(producer: Producer) -> Manifest:
    """A checkpoint of this worker."""
    return Manifest(
        plan_id="",
        checkpoint=9,
        data_version="",
        csv_sha256="",
        csv_bytes=0,
        products=(),
        quarantined=(),
        reviews=0,
        producer=producer,
        timings=Timings(load=0, read=0, tokenize=0, generate=0, assemble=0, write=0),
        seconds=0,
        finished_at="",
        predicted_seconds=None,
        chunks_sha256=None,
    )


@pytest.fixture
def comparison(lake: Lake) -> CanaryComparison:
    """With a reference of recipe ``r``."""
    record_reference(lake, "r", producer(package_versions={"torch": "2.12"}))
    return CanaryComparison(lake)


def test_the_first_worker_is_the_reference(any_lake: Lake) -> None:
    assert read_reference(any_lake, "r") is None
    record_reference(any_lake, "r", producer(engine="first"))
    record_reference(any_lake, "r", producer(engine="second"))
    found = read_reference(any_lake, "r")
    assert found is not None
    assert found.engine == "first"


def test_the_same_words_are_no_drift_wherever_they_were_said(comparison: CanaryComparison) -> None:
    comparison.add("r", by(producer(device="another", package_versions={"torch": "9"})))
    assert (comparison.compared, comparison.silent, comparison.drifts()) == (1, 0, [])


def test_a_drift_says_how_far_and_what_the_worker_ran_on(comparison: CanaryComparison) -> None:
    other = producer(
        {**SAID, "b": "It broke."},
        device="cuda (H100)",
        dtype="bfloat16",
        package_versions={"torch": "2.13", "ctranslate2": "4.8"},
    )
    for host in ("one", "two"):
        comparison.add("r", by(other.model_copy(update={"host": host, "job_name": host})))
    (drift,) = comparison.drifts()
    assert (drift.checkpoints, drift.differing, drift.texts) == (2, 1, 2)
    # Two words of four and of two: F1 is 2/3, and that of the equal text 1.
    assert drift.rouge_l == pytest.approx((1 + 2 / 3) / 2)
    assert drift.place == "test, cuda (H100), bfloat16, local"
    assert drift.changes == (
        "device cuda (H100), was cpu; dtype bfloat16, was float32; torch 2.13, was 2.12; "
        "ctranslate2 4.8, was none"
    )


def test_the_farthest_off_comes_first_and_no_change_is_told(comparison: CanaryComparison) -> None:
    versions = {"torch": "2.12"}
    near_by = producer({**SAID, "a": "The sound is fine."}, package_versions=versions)
    comparison.add("r", by(near_by))
    comparison.add("r", by(producer({"a": "x", "b": "y"}, package_versions=versions)))
    near, far = reversed(comparison.drifts())
    assert far.rouge_l == 0 < near.rouge_l
    assert near.changes == "same engine, device and library versions"


def test_who_was_not_asked_or_has_no_reference_is_counted(
    lake: Lake, comparison: CanaryComparison
) -> None:
    comparison.add("r", by(producer({})))
    comparison.add("r", by(producer({"of other texts": "Something."})))
    comparison.add("another recipe", by(producer()))
    lake.put(places.canary_reference("damaged"), b"{")
    comparison.add("damaged", by(producer()))
    assert (comparison.compared, comparison.silent, comparison.drifts()) == (0, 4, [])
