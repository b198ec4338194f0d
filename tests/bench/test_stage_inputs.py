from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from reviewsum_assets.bench.stage_inputs import product_texts, write_dump, write_grouped


def test_a_dump_has_the_layout_and_length_of_amazon_2018(tmp_path: Path) -> None:
    write_dump(tmp_path / "dump.jsonl", 3000, 20)
    lines = (tmp_path / "dump.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 3000
    assert len({row["asin"] for row in rows}) == 20
    assert 400 < sum(map(len, lines)) / 3000 < 460
    assert 0 < sum(row["reviewText"] == "ok" for row in rows) < 300
    assert len(set(lines)) < 3000


def test_texts_are_as_long_as_asked_for_and_differ() -> None:
    texts = list(product_texts(50, 3500))
    assert {len(text) for text in texts} == {3500}
    assert len(set(texts)) == 50
    assert texts == list(product_texts(50, 3500))


def test_grouped_reviews_hold_each_product_once(tmp_path: Path) -> None:
    write_grouped(tmp_path / "grouped", 300, 100)
    table = pl.read_parquet(tmp_path / "grouped" / "*.parquet")
    assert table["product_id"].n_unique() == table.height == 300
    assert table["review_count"].is_sorted(descending=True)
