from __future__ import annotations

from dataclasses import replace

import pytest

from reviewsum_assets.compute import pace
from reviewsum_assets.compute.pace import Workplace, calibrate
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products, retime

# Where tests.support.checkpoints.PRODUCER worked; a chunk there has 10 tokens in and 5 out.
HERE = Workplace("local", "cpu", "test", "float32", "model-1")


def finished(lake: Lake, *seconds: float) -> None:
    """Checkpoints of four products with one chunk each, which took so many seconds."""
    plan = plan_products(lake, products(4 * len(seconds)), checkpoint_size=4).plan
    complete(lake, plan)
    for number, each in enumerate(seconds, 1):
        retime(lake, number, seconds=each)


def test_nothing_finished_calibrates_nothing(lake: Lake) -> None:
    plan_products(lake, products(4))
    assert calibrate(lake, HERE) is None


def test_seconds_are_those_of_a_worker_for_a_chunk_and_for_a_token(any_lake: Lake) -> None:
    finished(any_lake, 4.0, 4.0)
    found = calibrate(any_lake, HERE)
    assert found is not None
    assert (found.checkpoints, found.load_seconds, found.tokens_out_per_chunk) == (2, 9.0, 5.0)
    assert (found.per_chunk.mean, found.per_chunk.spread) == (1.0, 0.0)
    assert found.per_token.mean == pytest.approx(0.1)


def test_the_spread_is_that_among_checkpoints(lake: Lake) -> None:
    finished(lake, 2.0, 4.0, 6.0)
    found = calibrate(lake, HERE)
    assert found is not None
    assert found.per_chunk.mean == 1.0
    assert found.per_chunk.spread == pytest.approx(0.5)


def test_chunks_whose_summary_was_reused_are_no_work(lake: Lake) -> None:
    finished(lake, 3.0)
    retime(lake, 1, seconds=3.0, reused=1)
    found = calibrate(lake, HERE)
    assert found is not None
    assert found.per_chunk.mean == 1.0
    assert found.per_token.mean == pytest.approx(0.1)


def test_a_checkpoint_of_reused_chunks_only_says_nothing(lake: Lake) -> None:
    complete(lake, plan_products(lake, products(1)).plan)
    retime(lake, 1, seconds=1.0, reused=1)
    assert calibrate(lake, HERE) is None


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(HERE, instance_type="ml.g5.12xlarge"),
        replace(HERE, device="cuda"),
        replace(HERE, engine="another"),
        replace(HERE, dtype="bfloat16"),
        replace(HERE, model_version="model-2"),
    ],
)
def test_checkpoints_of_another_workplace_say_nothing(lake: Lake, elsewhere: Workplace) -> None:
    finished(lake, 4.0)
    assert calibrate(lake, elsewhere) is None


def test_dtype_auto_is_that_of_the_newest_checkpoint(lake: Lake) -> None:
    finished(lake, 4.0, 8.0)
    retime(lake, 2, seconds=8.0, dtype="bfloat16")
    found = calibrate(lake, replace(HERE, dtype="auto"))
    assert found is not None
    assert (found.checkpoints, found.per_chunk.mean) == (1, 2.0)


def test_a_manifest_that_cannot_be_read_is_ignored(lake: Lake) -> None:
    finished(lake, 4.0, 8.0)
    lake.put(places.checkpoint_manifest(2), b"{")
    found = calibrate(lake, HERE)
    assert found is not None
    assert found.per_chunk.mean == 1.0


def test_only_the_manifests_with_the_highest_numbers_are_read(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_NEWEST_MANIFESTS", 2)
    finished(lake, *[400.0] * 9, 4.0, 4.0)
    found = calibrate(lake, HERE)
    assert found is not None
    assert (found.checkpoints, found.per_chunk.mean) == (2, 1.0)
