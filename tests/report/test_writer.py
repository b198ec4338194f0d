from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.cli.app import app
from reviewsum_assets.errors import LakeError
from reviewsum_assets.report import writer
from reviewsum_assets.report.writer import damaged_report, has_current_report, write_report
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.report.support import Page, Product, put_table, put_tables, read_page, row
from tests.support.checkpoints import complete, plan_products, products
from tests.support.hostile import TEXTS

MOST = 1_000
TWO = [
    Product("B1", "It lasts. It is red.", [row("It lasts."), row("It is red.", supported=False)]),
    Product("B2", "It broke.", [row("It broke.")], reviews=50),
]


def written(lake: Lake, most: int = MOST) -> Page:
    write_report(lake, most=most)
    return read_page(lake.get(places.REPORT))


def test_the_page_has_the_rows_and_details_of_all_products(any_lake: Lake) -> None:
    put_tables(any_lake, TWO)
    page = written(any_lake)
    assert page.rows == {
        "ids": ["B1", "B2"],
        "reviews": [60, 50],
        "stars": [4.13, 4.13],
        "checked": [2, 1],
        "unsupported": [1, 0],
        "summaries": ["It lasts. It is red.", "It broke."],
    }
    assert page.sentences == [[("It lasts.", True), ("It is red.", False)], [("It broke.", True)]]
    assert page.about["notes"] == []
    assert damaged_report(any_lake) == []
    assert has_current_report(any_lake, MOST)


def test_details_are_divided_into_blocks(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PRODUCTS_PER_BLOCK", 2)
    done: list[tuple[int, int]] = []
    put_tables(lake, [Product(f"B{n}", f"Text {n}.", reviews=9 - n) for n in range(5)])
    write_report(lake, most=MOST, on_progress=lambda *counts: done.append(counts))
    page = read_page(lake.get(places.REPORT))
    assert page.sentences == [[f"Text {n}."] for n in range(5)]
    assert page.text.count('id="details-') == 3
    assert done == [(2, 5), (4, 5), (5, 5)]


def test_the_page_names_lake_plan_day_and_products_and_what_it_lacks(lake: Lake) -> None:
    plan = plan_products(lake, products(3)).plan
    complete(lake, plan)
    merge_checkpoints(lake, plan)
    page = written(lake, most=2)
    found = lake.head(places.MERGED_PARQUET)
    assert found is not None
    title = f"3 products, {lake.uri}, plan 1, merged on {found.last_modified:%Y-%m-%d}"
    assert f"<title>Product summaries: {title}</title>" in page.text
    assert page.about["about"] == title.replace(", ", " · ")
    assert page.about["notes"] == [
        "Of 3 products the page shows the 2 with the most reviews; the setting report_products is "
        "the limit.",
        "There is no evidence yet: the page does not show which reviews support a sentence.",
        "There are no product facts yet: stars, days and highlights are unknown.",
    ]
    plan_products(lake, products(4), version="grouped-2")
    assert "plan unknown" in written(lake).about["about"]
    lake.delete(places.MERGED_MANIFEST)
    assert "plan unknown" in written(lake).about["about"]


def test_the_page_says_that_facts_or_evidence_are_older_than_the_table(lake: Lake) -> None:
    others = [
        Product("B3", "A new summary.", [row("An old one.")], 40),
        Product("B4", "Good.", [row("Good.")], 30, facts={"review_count": 29}),
    ]
    put_tables(lake, [*TWO, *others])
    page = written(lake)
    assert page.about["notes"] == [
        "The evidence is older than the merged table: for 1 of 4 products it is of other "
        "sentences, which are not shown.",
        "The product facts are of other reviews than the merged table for 1 of 4 products.",
    ]
    assert page.sentences[2] == ["A new summary."]


def test_the_page_says_that_the_table_lacks_checkpoints(lake: Lake) -> None:
    plan = plan_products(lake, products(4), checkpoint_size=2).plan
    complete(lake, plan, numbers=[1])
    merge_checkpoints(lake, plan, allow_incomplete=True)
    notes = written(lake).about["notes"]
    assert "Pending checkpoints whose products the merged table lacks: 1." in notes


@pytest.mark.parametrize(
    "key", [places.MERGED_PARQUET, places.PRODUCT_FACTS, places.SUMMARY_EVIDENCE]
)
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_page_of_other_tables_is_not_current(any_lake: Lake, key: str, how: str) -> None:
    put_tables(any_lake, TWO)
    write_report(any_lake, most=MOST)
    if how == "gone":
        any_lake.delete(key)
    else:
        table = any_lake.scan_parquet(key).collect()
        put_table(any_lake, key, table.with_columns(pl.col("product_id") + "0"))
    assert not has_current_report(any_lake, MOST)
    if key != places.MERGED_PARQUET or how == "changed":
        write_report(any_lake, most=MOST)
        assert has_current_report(any_lake, MOST)


def test_a_page_with_another_limit_or_of_another_version_is_not_current(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_current_report(lake, MOST)
    put_tables(lake, TWO)
    write_report(lake, most=MOST)
    assert not has_current_report(lake, MOST + 1)
    monkeypatch.setattr(writer, "_PAGE_VERSION", "of a later release")
    assert not has_current_report(lake, MOST)


def test_the_same_tables_give_the_same_bytes(lake: Lake) -> None:
    put_tables(lake, TWO)
    first, second = (written(lake).text for _ in range(2))
    assert first == second


@pytest.mark.parametrize("place", [0, 40, 2_000, -40, -1])
def test_a_changed_byte_of_the_page_is_damage(lake: Lake, place: int) -> None:
    put_tables(lake, TWO)
    write_report(lake, most=MOST)
    content = bytearray(lake.get(places.REPORT) or b"")
    content[place] ^= 1
    lake.put(places.REPORT, bytes(content))
    assert damaged_report(lake) == [
        "summarized_dataset/report.html is not what was written: its SHA-256 differs"
    ]
    assert not has_current_report(lake, MOST)


@pytest.mark.parametrize("content", [b"", b"<!doctype html>\n", b"x" * 5_000])
def test_another_file_in_place_of_the_page_is_damage(any_lake: Lake, content: bytes) -> None:
    put_tables(any_lake, TWO)
    any_lake.put(places.REPORT, content)
    assert damaged_report(any_lake) != []
    assert not has_current_report(any_lake, MOST)


def test_no_text_is_part_of_the_markup_and_only_the_pages_own_script_may_run(
    tmp_path: Path,
) -> None:
    lake = Lake.open(str(tmp_path / "</title><script>alert(1)<" / "script>"))
    hostile = ["</script><script>alert(2)</script>", "<!-- <script>", *TEXTS]
    put_tables(
        lake,
        [
            Product(f"{n} {text}", text, [row(text, quotes=[])], facts={"highlights_text": text})
            for n, text in enumerate(hostile)
        ],
    )
    page = written(lake)
    assert page.rows["summaries"] == [
        text for _, text in sorted((f"{n} {text}", text) for n, text in enumerate(hostile))
    ]
    scripts = re.findall(r"<script(.*?)>(.*?)</script>", page.text, re.DOTALL)
    (own,) = [content for attributes, content in scripts if not attributes]
    assert {attributes.split()[0] for attributes, _ in scripts if attributes} == {
        'type="application/octet-stream"'
    }
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    policy = (
        f"default-src 'none'; script-src '{digest(own)}'; style-src '{digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page.text
    assert "alert" not in page.text.replace("&lt;script&gt;alert(1)&lt;/script&gt;", "")
    assert re.search(r"(src|href|url)\s*[=(]|@import|innerHTML|eval\(", page.text) is None


def digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def test_the_command_writes_the_page_of_the_lake_or_a_file(lake: Lake, tmp_path: Path) -> None:
    put_tables(lake, TWO)
    call = ["report", "--lake", lake.uri, "--json"]
    found = json.loads(CliRunner().invoke(app, call, catch_exceptions=False).stdout)
    assert (found["report"], found["products"], found["notes"]) == (
        lake.uri_of(places.REPORT),
        2,
        [],
    )
    page = lake.get(places.REPORT)
    output = tmp_path / "one.html"
    call = ["report", "--lake", lake.uri, "--products", "1", "--output", str(output)]
    shown = CliRunner().invoke(app, call, catch_exceptions=False)
    assert f"report  {output}\n    products  1 of 2\n" in shown.stdout
    assert "Of 2 products the page shows the 1 with the most reviews" in shown.stdout
    assert read_page(output.read_bytes()).rows["ids"] == ["B1"]
    assert lake.get(places.REPORT) == page
    assert [path.name for path in tmp_path.glob("*.partial")] == []


def test_a_file_that_cannot_be_written_is_named(lake: Lake, tmp_path: Path) -> None:
    put_tables(lake, TWO)
    output = tmp_path / "missing" / "report.html"
    with pytest.raises(LakeError, match=f"cannot write {output}: No such file"):
        write_report(lake, most=MOST, output=output)
