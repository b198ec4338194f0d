from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reviewsum_assets.checkpoints.explanation import explain
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.cli.app import app
from reviewsum_assets.errors import CheckpointError, PlanError
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.job.spec import job_spec
from reviewsum_assets.reviews.grouped import scan_grouped
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products
from tests.support.dumps import FORMATS, Review, reviews_of, write
from tests.support.jobs import FAST, run
from tests.support.ready_models import put_ready_model


def reviews() -> list[Review]:
    """Twelve reviews of a product, the last a complaint; and some of one that is not selected."""
    praise = [
        Review(
            "B1", f"R{n}", f"Praise {n}: the battery lasts for days and it looks good.", rating=5
        )
        for n in range(11)
    ]
    complaint = Review("B1", "Z", "It stopped working after 2 weeks, do not buy it.", rating=1)
    return [*praise, complaint, *reviews_of("B2")]


def summarized(lake: Lake, model: Path, folder: Path, **chosen: object) -> None:
    """Group, plan and compute one product with the project's own parts."""
    dump = write(folder / "dump", FORMATS["2018"](reviews()))
    put_ready_model(lake, model)
    settings = load_settings(
        model=str(model), dumps=(dump,), top_k=1, device="cpu", chunk_tokens=60, **FAST, **chosen
    )
    ready, _ = ready_model(lake, settings)
    grouped, _ = group_reviews(lake, settings)
    plan = make_plan(lake, scan_grouped(lake, grouped), grouped.version, ready.version, settings)
    spec = job_spec(
        plan.plan, plan.plan.checkpoints, lake=lake.uri, engine=settings.engine_settings()
    )
    code, log = run(spec, folder)
    assert code == 0, log


def test_a_hierarchical_summary_is_explained_down_to_its_reviews(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    summarized(lake, pegasus, tmp_path, strategy="hierarchical", review_order="representative")
    found = explain(lake, "B1")
    assert (found.reviews, found.reviews_read, found.reviews_left_out) == (12, 12, 0)
    assert sum(review.rating == 1.0 for review in found.read) == 1
    assert found.chunks is not None
    first = [chunk for chunk in found.chunks if chunk.level == 1]
    assert " ".join(chunk.text for chunk in first) == " ".join(r.text for r in found.read)
    assert len(found.chunks_by_level) > 2
    for level in range(2, len(found.chunks_by_level) + 1):
        below = [chunk.summary for chunk in found.chunks if chunk.level == level - 1]
        above = [chunk for chunk in found.chunks if chunk.level == level]
        assert " ".join(chunk.text for chunk in above) == " ".join(below)
        assert all(chunk.summary == chunk.text for chunk in above if chunk.carried)
    assert found.chunks[-1].summary == found.summary
    assert found.settings["strategy"] == "hierarchical"
    assert found.producer.job_name.startswith("reviewsum-")
    # What the command prints names each of these.
    result = CliRunner().invoke(app, ["explain", "B1", "--lake", lake.uri, "--full"])
    assert result.exit_code == 0
    assert "12: 12 read, 0 cut, 0 left out" in result.stdout
    assert "5 x 11, 1 x 1, of those read\n" in result.stdout
    assert "  1 star  It stopped" in result.stdout
    for text in (found.summary, found.producer.model_version, *(r.text for r in found.read)):
        assert text in result.stdout
    printed = CliRunner().invoke(app, ["explain", "B1", "--lake", lake.uri, "--json"]).stdout
    assert json.loads(printed) == json.loads(found.model_dump_json())
    for product in ("B2", "B9"):
        refused = CliRunner().invoke(app, ["explain", product, "--lake", lake.uri])
        assert isinstance(refused.exception, PlanError)


def test_the_window_of_a_joined_summary_tells_what_was_cut_and_left_out(lake: Lake) -> None:
    texts = {"a": "one two\nthree four\nfive"}
    plan = plan_products(lake, texts, counts={"a": 3}, max_chars=16, separable=True)
    complete(lake, plan.plan)
    found = explain(lake, "a")
    assert (found.reviews_read, found.reviews_cut, found.reviews_left_out) == (1, 1, 1)
    assert [(review.text, review.cut) for review in found.read] == [
        ("one two", False),
        ("three", True),
    ]


def test_both_sides_are_explained_with_the_reviews_of_each(lake: Lake) -> None:
    texts = {"a": "one two\nbad\nthree", "b": "worse"}
    stars = {"a": [5.0, 1.0, 4.0], "b": [2.0]}
    plan = plan_products(lake, texts, stars=stars, strategy="two_sided", hierarchical_chars=17)
    complete(lake, plan.plan)
    found = explain(lake, "a")
    assert (found.liked, found.disliked) == ("one\nthree", "bad")
    assert [tuple(review.model_dump().values()) for review in found.read] == [
        ("liked", 5.0, True, "one"),
        ("liked", 4.0, False, "three"),
        ("disliked", 1.0, False, "bad"),
    ]
    shown = {}
    for product in texts:
        result = CliRunner().invoke(app, ["explain", product, "--lake", lake.uri])
        assert result.exit_code == 0
        shown[product] = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert ["liked", "2 of these reviews"] in shown["a"]
    assert ["disliked", "1 of these reviews"] in shown["a"]
    assert ["liked", "no such review"] in shown["b"]
    assert ["disliked", "worse"] in shown["b"]


@pytest.mark.parametrize(
    ("content", "damage"), [(b"PAR1 torn", r"cannot be read \(.+\)"), (None, "is gone")]
)
def test_damaged_reviews_are_told_in_a_sentence(
    lake: Lake, content: bytes | None, damage: str
) -> None:
    plan = plan_products(lake, products(1)).plan
    complete(lake, plan)
    key = plan.checkpoints[0].input_key
    lake.delete(key)
    if content is not None:
        lake.put(key, content)
    with pytest.raises(CheckpointError, match=rf"checkpoint_1.parquet, .+, {damage}. To fix: "):
        explain(lake, "P000000")


def test_a_product_without_a_summary_is_told_why(lake: Lake) -> None:
    plan = plan_products(lake, products(3), checkpoint_size=1).plan
    complete(lake, plan, [1, 2], poison=["P000001"])
    with pytest.raises(
        CheckpointError, match=r"in quarantine: poison \(checkpoint_00002, job test"
    ):
        explain(lake, "P000001")
    with pytest.raises(CheckpointError, match=r"not summarized yet: checkpoint_00003 \(missing"):
        explain(lake, "P000002")
    complete(lake, plan, [3])
    merge_checkpoints(lake, plan)
    plan_products(lake, products(3), checkpoint_size=1, top_k=2)
    with pytest.raises(PlanError, match="no longer selected"):
        explain(lake, "P000002")
