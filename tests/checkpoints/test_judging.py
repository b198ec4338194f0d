from __future__ import annotations

import os
from pathlib import Path

from reviewsum_assets import places
from reviewsum_assets.checkpoints.judging import Judgement, judge
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.lake import Lake
from tests.support.checkpoints import complete, plan_products, products


def planned(lake: Lake, checkpoints: int) -> Plan:
    """A plan of checkpoints of one product each."""
    return plan_products(lake, products(checkpoints), checkpoint_size=1).plan


def numbers(found: Judgement) -> list[int]:
    return [pending.number for pending in found.pending]


def test_what_is_missing_damaged_or_half_there_is_pending(any_lake: Lake) -> None:
    plan = planned(any_lake, 5)
    complete(any_lake, plan, [1, 2, 3, 4])
    any_lake.put(places.checkpoint_csv(2), b"damaged")
    any_lake.delete(places.checkpoint_csv(3))
    found = judge(any_lake, plan, {}, 9.0)
    assert numbers(found) == [2, 3, 5]
    assert found.unread == 0


def test_a_block_that_is_known_is_not_read_again(lake: Lake) -> None:
    plan = planned(lake, 3)
    complete(lake, plan)
    known = judge(lake, plan, {}, 9.0).blocks
    # Other content under the same size, time and tag: only whoever reads it sees that.
    path = Path(lake.uri, places.checkpoint_csv(2))
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content.replace(b"summary", b"SUMMARY"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert numbers(judge(lake, plan, known, 9.0)) == []
    assert numbers(judge(lake, plan, {}, 9.0)) == [2]


def test_a_block_in_which_something_changed_is_read_again(any_lake: Lake) -> None:
    plan = planned(any_lake, 3)
    complete(any_lake, plan)
    known = judge(any_lake, plan, {}, 9.0).blocks
    any_lake.put(places.checkpoint_csv(2), b"damaged")
    found = judge(any_lake, plan, known, 9.0)
    assert numbers(found) == [2]
    assert numbers(judge(any_lake, plan, found.blocks, 9.0)) == [2]


def test_what_there_is_no_time_to_read_is_left_for_the_next_calls(lake: Lake) -> None:
    plan = planned(lake, 250)
    complete(lake, plan)
    known: dict[str, list[int]] = {}
    left: list[int] = []
    while not left or left[-1]:
        found = judge(lake, plan, known, 0.0)
        known = {digest: list(invalid) for digest, invalid in found.blocks.items()}
        left.append(found.unread)
    assert left == [151, 51, 0]
    assert numbers(found) == []


def test_another_content_is_told_whatever_the_clocks_say(lake: Lake) -> None:
    plan = planned(lake, 2)
    before = judge(lake, plan, {}, 9.0).content
    complete(lake, plan, [1])
    after = judge(lake, plan, {}, 9.0).content
    assert after != before
    assert judge(lake, plan, {}, 9.0).content == after
