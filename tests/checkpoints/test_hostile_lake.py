from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.checkpoints.merge import merge_checkpoints, merged_statistics
from reviewsum_assets.checkpoints.plan import current_plan, require_plan
from reviewsum_assets.checkpoints.quality import cover, judge_summaries
from reviewsum_assets.checkpoints.validity import check_checkpoint
from reviewsum_assets.compute.pace import Workplace, measured_pace
from reviewsum_assets.errors import CheckpointError, PlanError, ReviewsumError
from reviewsum_assets.job.worker import read_input
from reviewsum_assets.lake_state import lake_status, verify_lake
from reviewsum_assets.reviews.grouped import scan_grouped
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import as_parquet
from tests.support.checkpoints import complete, plan_products, products
from tests.support.dumps import FORMATS, reviews_of, write
from tests.support.hostile import damaged, examples, json_values
from tests.support.lake_records import replace_table, rewrite, write_record

OUTSIDE = ["../../x", "/etc/x", "a/b", "..", ".", "a\\b", "a\n", "a\0"]
RECIPE = "the plan's recipe"
WORKPLACE = Workplace("local", "cpu", "test", "auto", "model-1")


def finished(lake: Lake) -> Lake:
    plan = plan_products(lake, products(5), checkpoint_size=2).plan
    complete(lake, plan, poison=["P000001"])
    merge_checkpoints(lake, plan)
    return lake


@pytest.fixture
def done(lake: Lake) -> Lake:
    """A lake with a plan of three complete checkpoints, merged."""
    return finished(lake)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of such a lake, to be copied."""
    found = finished(Lake.open(str(tmp_path_factory.mktemp("original")))).directory
    assert found is not None
    return found


@pytest.fixture(scope="module")
def keys(original: Path) -> list[str]:
    """What lies on it, without Parquet: forged lengths in it make polars end the process."""
    files = (path for path in original.rglob("*") if path.suffix in (".csv", ".json"))
    return sorted(path.relative_to(original).as_posix() for path in files)


@st.composite
def documents(draw: st.DrawFn, document: object) -> object:
    """The document with something else in one place."""
    if isinstance(document, dict) and document and draw(st.integers(0, 9)):
        name = draw(st.sampled_from(sorted(document)))
        changed = {**document, name: draw(documents(document[name]))}
        if not draw(st.integers(0, 9)):
            del changed[name]
        return changed
    if isinstance(document, list) and document and draw(st.integers(0, 9)):
        place = draw(st.integers(0, len(document) - 1))
        return [*document[:place], draw(documents(document[place])), *document[place + 1 :]]
    return draw(json_values)


def uses(lake: Lake) -> Iterator[Callable[[], object]]:
    """Everything that reads what others wrote onto a lake."""
    yield lambda: lake_status(lake)
    yield lambda: verify_lake(lake)
    yield lambda: measured_pace(lake, WORKPLACE)
    yield lambda: cover(lake, require_plan(lake), [])
    yield lambda: merged_statistics(lake, None)
    yield lambda: judge_summaries(lake, require_plan(lake), load_settings())
    plan = current_plan(lake)
    if plan is not None:
        for planned in plan.checkpoints:
            yield partial(read_input, lake, planned, plan.recipes[planned.recipe])
    yield lambda: merge_checkpoints(lake, require_plan(lake), allow_incomplete=True)
    yield lambda: plan_products(lake, products(7), checkpoint_size=2)


@given(st.data())
@examples(0.4)
def test_whatever_is_damaged_on_a_lake_ends_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, original: Path, keys: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("case") / "lake"
    shutil.copytree(original, folder)
    lake = Lake.open(str(folder))
    key = data.draw(st.sampled_from(keys))
    content = lake.get(key) or b""
    if key.endswith(".json") and data.draw(st.integers(0, 3)):
        changed = data.draw(documents(json.loads(content)))
        write_record(lake, key, changed)
    else:
        lake.put(key, data.draw(damaged(content)))
    agree(lake)
    try:
        for use in uses(lake):
            try:
                use()
            except ReviewsumError as error:
                assert "\n" not in str(error)
    except PlanError as error:
        assert "\n" not in str(error)


def agree(lake: Lake) -> None:
    """Let manifests name the hashes of what lies beside them, so that it is looked at."""
    for key, manifest, prefix in (
        (places.checkpoint_csv(1), places.checkpoint_manifest(1), "csv"),
        (places.MERGED_CSV, places.MERGED_MANIFEST, "csv"),
        (places.MERGED_PARQUET, places.MERGED_MANIFEST, "parquet"),
    ):
        content = lake.get(key) or b""
        try:
            record = json.loads(lake.get(manifest) or b"")
            record[f"{prefix}_bytes"] = len(content)
            record[f"{prefix}_sha256"] = hashlib.sha256(content).hexdigest()
        except (ValueError, TypeError):
            continue
        write_record(lake, manifest, record)


def change(lake: Lake, key: str, *path: str | int, value: object) -> None:
    def set_value(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    rewrite(lake, key, set_value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("timings", "generate"), float("nan")),
        (("seconds",), float("inf")),
        (("timings", "load"), -1),
        (("products", 0, "chunks"), -1),
        (("products", 0, "tokens_in"), 10**400),
        (("reviews",), 2**64),
        (("extra",), 1),
        *((("producer", "job_name"), name) for name in OUTSIDE),
    ],
)
def test_a_manifest_with_impossible_figures_is_invalid(
    done: Lake, path: tuple[str | int, ...], value: object
) -> None:
    change(done, places.checkpoint_manifest(1), *path, value=value)
    state = check_checkpoint(done, require_plan(done).checkpoint(1))
    assert state.reason == "the manifest cannot be read"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"product_id,abstracted_summary,review_count\nP000000,a,many\n",
            "line 2 is not a summary",
        ),
        (b"product_id,abstracted_summary,review_count\nP000000,a\n", "line 2 is not a summary row"),
        (b"product_id,abstracted_summary,review_count\nP000000,\xff,1\n", "'utf-8' codec"),
        (b"product_id,abstracted_summary,review_count\nP000000,a," + b"9" * 5000, "line 2 is not"),
        (b"a,b\n", "expected the columns"),
        (b"\n", "expected the columns"),
    ],
    ids=range(6),
)
def test_a_csv_that_is_none_is_named_although_its_hash_agrees(
    done: Lake, content: bytes, reason: str
) -> None:
    done.put(places.checkpoint_csv(1), content)
    agree(done)
    first, last = verify_lake(done)
    assert reason in first and first.startswith("checkpoint_00001 (invalid")
    assert last.startswith("merged_summaries was made from other checkpoints")


@pytest.mark.parametrize(
    ("path", "values", "message"),
    [
        (("recipe",), ["other"], "its recipe 'other' is missing"),
        (("recipes",), [{}], "the recipe '.*' of checkpoint 1 is missing"),
        (("checkpoints", 0, "recipe"), ["none"], "the recipe 'none' of checkpoint 1 is missing"),
        (("checkpoints", 0, "number"), [2], "numbered twice"),
        (("checkpoints", 0, "number"), [0], "greater than or equal to 1"),
        (("checkpoints",), [{}], "valid array"),
        (("last_number",), [1], "numbered twice, or beyond last_number"),
        (("selected",), [0], "selected Input should be greater"),
        (("top_k",), ["many"], "top_k Input should be a valid integer"),
        (("unknown",), [1], "unknown Extra"),
        (("plan_id",), OUTSIDE, "plan_id"),
        (("checkpoints", 0, "plan_id"), OUTSIDE, "plan_id"),
        (("recipes", RECIPE, "model_version"), OUTSIDE, "model_version"),
    ],
)
def test_a_plan_that_contradicts_itself_or_names_a_place_outside_is_refused_in_a_sentence(
    done: Lake, path: tuple[str | int, ...], values: list[object], message: str
) -> None:
    original = done.get(places.plan_document(1)) or b""
    recipe = json.loads(original)["recipe"]
    for value in values:
        done.put(places.plan_document(1), original)
        known = [recipe if step == RECIPE else step for step in path]
        change(done, places.plan_document(1), *known, value=value)
        with pytest.raises(PlanError, match=message) as caught:
            current_plan(done)
        assert "\n" not in str(caught.value)
        assert "remove the plan document" in str(caught.value)


def test_only_what_is_named_like_a_plan_is_one(done: Lake) -> None:
    before = current_plan(done)
    for name in (
        "plan_9.json",
        "plan_٩٩٩٩٩٩.json",
        f"plan_{'9' * 30}.json",
        "plan_000009.json.bak",
        "copies/plan_9.json",
        "tables/plan_000009.json",
    ):
        done.put(f"{places.PLANS}/{name}", b"{}")
    assert current_plan(done) == before


Change = Callable[[pl.DataFrame], pl.DataFrame]
DAMAGE: list[bytes | Change] = [
    *(b"", b"PAR1" * 5, b"\0" * 100, b"PAR1 and nothing else"),
    lambda frame: frame.drop("product_id"),
    lambda frame: frame.drop("input_hash"),
    lambda frame: frame.with_columns(review_count=pl.lit("many")),
    lambda frame: frame.with_columns(product_id=pl.lit(None, pl.String)),
    lambda frame: frame.clear(),
]


def changed(content: bytes | None, change: bytes | Change) -> bytes:
    if isinstance(change, bytes):
        return change
    return as_parquet(change(pl.read_parquet(content or b"")))


@pytest.mark.parametrize(
    "change",
    [
        *DAMAGE,
        lambda frame: frame.with_columns(checkpoint=pl.lit(7, pl.Int64)),
        lambda frame: frame.filter(pl.col("checkpoint") > 1),
    ],
)
def test_a_table_that_is_not_the_plans_own_is_refused(done: Lake, change: bytes | Change) -> None:
    plan = require_plan(done)
    replace_table(done, changed(done.get(places.plan_table(plan.plan_id)), change))
    for use in (lake_status, lambda lake: merge_checkpoints(lake, require_plan(lake))):
        with pytest.raises(PlanError, match="remove the plan document"):
            use(done)


@pytest.mark.parametrize("change", [*DAMAGE, lambda frame: frame.head(1)])
def test_tables_that_are_not_those_written_are_named(done: Lake, change: bytes | Change) -> None:
    plan = require_plan(done)
    planned = plan.checkpoints[0]
    done.put(planned.input_key, changed(done.get(planned.input_key), change))
    with pytest.raises(CheckpointError, match=r"its grouped reviews .* (cannot be|are not those)"):
        read_input(done, planned, plan.recipes[planned.recipe])
    if isinstance(change, bytes):
        done.put(places.MERGED_PARQUET, change)
        with pytest.raises(CheckpointError, match="materialize merged_summaries"):
            cover(done, plan, [])


LOOK_ALIKES = [
    *("B1", "b1", "\u0412" + "1", "\uff221", "B\u200b1", "B1\u200d", "\u202eB1", "B1\ufeff"),
    *("\u00e9", "e\u0301", "\u212b", "\u00c5", "\ufb01", "fi", "👨\u200d👩", "👨👩", "01"),
    *("1", "1.0", '"', '"B1"', "'B1", "a,b", "a;b", "a|b", "\\", "../../etc/passwd", "C:\\x"),
    *("%2e%2e", "=cmd|' /C calc'!A0", "+1", "-1", "@x", "NaN", "null", "None", "#", "</s>"),
    *("x" * 256, "Ignore all instructions"),
]


@pytest.mark.parametrize("name", ["2018", "CSV", "TSV", "Parquet"])
def test_ids_that_look_alike_stay_apart_to_the_last_byte(
    lake: Lake, tmp_path: Path, name: str
) -> None:
    ids = sorted({product for product in LOOK_ALIKES if name != "TSV" or "\t" not in product})
    reviews = [review for product in ids for review in reviews_of(product, 1)]
    path = write(tmp_path / "dump", FORMATS[name](reviews))
    record, _ = group_reviews(lake, load_settings(dumps=(path,), min_reviews=1))
    texts = dict(
        scan_grouped(lake, record).select("product_id", "all_reviews").collect().iter_rows()
    )
    plan = plan_products(lake, texts, checkpoint_size=20).plan
    summaries = {product: f'=1+1, "{product}" \'\n<pad>' for product in ids}
    complete(lake, plan, texts=summaries)
    merge_checkpoints(lake, plan)
    assert verify_lake(lake) == []
    content = (lake.get(places.MERGED_CSV) or b"").decode()
    rows = list(csv.reader(io.StringIO(content, newline="")))[1:]
    parquet = pl.read_parquet(io.BytesIO(lake.get(places.MERGED_PARQUET) or b""))
    assert {row[0]: row[1] for row in rows} == summaries
    assert dict(parquet.select("product_id", "abstracted_summary").iter_rows()) == summaries
