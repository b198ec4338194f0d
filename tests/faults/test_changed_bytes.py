"""One byte changes, anywhere in what a run has written: it is found, and made again."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviewsum_assets import places
from reviewsum_assets.lake import Lake
from reviewsum_assets.verification import verify
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
        assert verify(lake), f"bit {bit} at {position} of {key}"
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
    # Not both of twins, nor a checkpoint together with what it would be made from.
    originals = [key for key in everything if "copies" not in key]
    of_the_plan = [key for key in originals if "plan" in key]
    csv, manifest = places.checkpoint_csv(1), places.checkpoint_manifest(2)
    others = [key for key in originals if "plan" not in key and "checkpoint_" not in key]
    others.append(places.checkpoint_chunks(1))
    for changed in ([*others, csv], [*of_the_plan, manifest]):
        for key in changed:
            flip(lake, key, 0.5, 0)
        assert len(verify(lake)) >= 3
        ended = world.run()
        assert ended.code == 0, ended.err
        assert verify(lake) == []
        assert world.merged == finished.merged
        assert f"checkpoints  2 ({sum(key in (csv, manifest) for key in changed)}" in ended.out


def test_a_changed_copy_of_the_plan_is_made_again(world: World) -> None:
    copies = [key for key in keys(world.lake) if "copies" in key]
    assert len(copies) == 2
    before = [flip(world.lake, key, 0.9, 3) for key in copies]
    assert len(verify(world.lake)) == 2
    assert "Nothing to do" in world.run().out
    assert [world.lake.get(key) for key in copies] == before
