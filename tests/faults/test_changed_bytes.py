"""One byte changes, anywhere in what a run has written: it is found, and made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviewsum_assets.checkpoints.manifest import damaged_chunks
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.compute import Launch
from reviewsum_assets.compute.local import LocalCompute
from reviewsum_assets.errors import PlanError
from reviewsum_assets.job.spec import job_spec
from reviewsum_assets.lake_state import remove_damaged, verify
from reviewsum_assets.settings import EngineSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products
from tests.support.waiting import wait_until
from tests.support.worlds import World

# What decides nothing, and what people put there.
OF_NO_CONSEQUENCE = (
    places.PROCESSING_JOBS,
    places.LIVE_JOBS,
    places.QUARANTINE,
    f"{places.MODELS}/sources",
)


def keys(lake: Lake) -> list[str]:
    """Every object that a result comes from or is."""
    root = Path(lake.uri)
    found = sorted(path.relative_to(root).as_posix() for path in root.glob("[!.]*/**/*.*"))
    return [
        key for key in found if not key.startswith(OF_NO_CONSEQUENCE) and Path(root, key).is_file()
    ]


def flip(lake: Lake, key: str, position: float, bit: int) -> bytes:
    """Change a bit of a byte, so far into the object; returns what was there."""
    before = lake.get(key)
    assert before
    content = bytearray(before)
    content[int(position * len(content))] ^= 1 << bit
    lake.put(key, bytes(content))
    return before


def problems(lake: Lake) -> list[str]:
    """What ``reviewsum verify`` prints; nothing can be held against a damaged plan."""
    try:
        return verify(lake)
    except PlanError as error:
        return [str(error)]


def recompute(lake: Lake) -> None:
    """Compute the first checkpoint again."""
    plan = require_plan(lake)
    engine = EngineSettings(device="cpu", workers=1)
    spec = job_spec(plan, plan.checkpoints[:1], lake=lake.uri, engine=engine, recompute=True)
    job = LocalCompute(lake).start(spec, Launch())
    assert wait_until(job.poll, "the job to end", 300).failure is None, job.log_tail()


@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    which=st.floats(0, 1, exclude_max=True),
    position=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_a_changed_bit_of_any_object_is_found(
    world: World, which: float, position: float, bit: int
) -> None:
    lake = world.lake
    found = keys(lake)
    key = found[int(which * len(found))]
    before = flip(lake, key, position, bit)
    try:
        assert problems(lake), f"bit {bit} at {position} of {key}"
    finally:
        lake.put(key, before)


def test_what_was_changed_is_made_again_by_the_next_run(world: World, finished: World) -> None:
    lake = world.lake
    everything = keys(lake)
    assert {Path(key).parts[0] for key in everything} == {
        places.CANARY_SUMMARIES,
        places.CHECKPOINT_CHUNKS,
        places.CHECKPOINT_FILES,
        places.CHECKPOINT_MANIFESTS,
        places.PLANS,
        places.GROUPED_REVIEWS,
        places.MODELS,
        places.SUMMARIZED_DATASET,
    }
    # Not a checkpoint together with what it would be made from; of a damaged plan a person decides.
    inputs = [key for key in everything if key.startswith(f"{places.GROUPED_REVIEWS}/plans")]
    csv, manifest = places.checkpoint_csv(1), places.checkpoint_manifest(2)
    others = [key for key in everything if "plan" not in key and "checkpoint_" not in key]
    for changed in ([*others, csv], [*inputs, manifest]):
        for key in changed:
            flip(lake, key, 0.5, 0)
        assert len(verify(lake)) >= 3
        ended = world.run()
        assert ended.code == 0, ended.err
        assert verify(lake) == []
        assert world.merged == finished.merged
        assert f"checkpoints  2 ({sum(key in (csv, manifest) for key in changed)}" in ended.out


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_damaged_chunk_summaries_are_named_until_they_are_computed_again(
    world: World, damage: str
) -> None:
    lake = world.lake
    (first, _) = lake.list(places.CHECKPOINT_CHUNKS)
    before = lake.get(first.key)
    if damage == "changed":
        flip(lake, first.key, 0.5, 0)
    else:
        lake.delete(first.key)
    (problem,) = verify(lake)
    assert problem.startswith(f"{first.key} is missing or not what was written")
    assert "checkpoint_00001. To fix: materialize that partition of chunk_summaries" in problem
    # Nothing but `explain` needs them: nothing is computed for them.
    assert "Nothing to do" in world.run().out
    assert verify(lake) == [problem]
    recompute(lake)
    assert verify(lake) == []
    assert lake.get(first.key) == before


@pytest.mark.parametrize("killed_at", [places.checkpoint_csv(1), places.checkpoint_manifest(1)])
def test_chunk_summaries_of_a_computation_under_way_harm_no_others(
    lake: Lake, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_products(lake, products(2)).plan
    complete(lake, plan)
    (before,) = lake.list(places.CHECKPOINT_CHUNKS)
    put = Lake.put

    def end(self: Lake, key: str, data: bytes) -> None:
        if key == killed_at:
            raise KeyboardInterrupt
        put(self, key, data)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "put", end)
        with pytest.raises(KeyboardInterrupt):
            complete(lake, plan, texts={"P000000": "another summary"})
    fresh = {item.key for item in lake.list(places.CHECKPOINT_CHUNKS)} - {before.key}
    assert len(fresh) == 1
    remove_damaged(lake, plan)  # as a run of another process does
    assert {item.key for item in lake.list(places.CHECKPOINT_CHUNKS)} == {before.key, *fresh}
    assert damaged_chunks(lake, plan) == {}
    complete(lake, plan, texts={"P000000": "another summary"})
    assert damaged_chunks(lake, plan) == {}
    lake.delete(*fresh)
    assert damaged_chunks(lake, plan) == {1: next(iter(fresh))}
