"""What a run will cost, and that it does not cost more than it may."""

from __future__ import annotations

import re

from reviewsum_assets.storage import places
from tests.support.pipeline import SmallPipeline, failure, failure_metadata


def test_a_plan_whose_estimate_cannot_be_made_still_holds(small: SmallPipeline) -> None:
    lake = small.pipeline.lake
    keys = [item.key for item in lake.list(places.MODELS)]
    (tokenizer,) = (key for key in keys if key.endswith("chunk_tokenizer.json"))
    content = lake.get(tokenizer) or b""
    lake.put(tokenizer, content.replace(b"a", b"b"))
    found = small.materializations(small.execute("ingest"))["checkpoint_plan"]
    assert "not the file that was published" in found["bill"]


def with_budget(small: SmallPipeline) -> SmallPipeline:
    """The same pipeline with a budget that no checkpoint fits into."""
    return small.with_settings(max_cost_usd=1e-9, usd_per_hour=1.0)


def test_the_bill_is_for_what_is_pending_and_a_run_within_its_budget_keeps_what_landed(
    small: SmallPipeline,
) -> None:
    found = small.materializations(small.execute("ingest"))["checkpoint_plan"]
    assert next(iter(found)) == "bill"
    assert re.match(r"6 products, 6 chunks, about \d+ seconds \(.*at no charge", found["bill"])
    assert "no checkpoint done yet on this machine" in found["bill"]
    assert (found["pending_checkpoints"], found["pending_products"]) == (3, 6)
    assert found["estimated_usd"] == 0.0
    assert "| chunks | 6 |" in found["estimate"]

    assert small.summarize(1, 1).success
    again = small.materializations(small.execute("ingest"))["checkpoint_plan"]
    assert again["pending_checkpoints"] == 2
    assert "1 checkpoint done on this machine" in again["bill"]
    run = with_budget(small).summarize(1, 3)
    message = failure(run)
    assert "2 of 3 requested checkpoints did not land (budget reached: the budget (max" in message
    assert "2 stay pending" in message
    assert failure_metadata(run)["missing"] == 2
    assert "checkpoint_00002: still pending; checkpoint_00003: still pending" in message
    assert sorted(small.materializations(run)) == ["checkpoint_00001"]
    assert small.summarize(1, 3).success
