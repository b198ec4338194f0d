"""The baseline of grouping gives what ``reviews.grouping`` gives, on text as odd as it comes."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest

from reviewsum_assets.bench.eager_grouping import cleaned_text, group_eagerly
from reviewsum_assets.reviews.fields import cleaned
from reviewsum_assets.reviews.grouping import group_reviews, scan_grouped
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.dumps import Review, amazon_2018, json_lines, reviews_of, write


@pytest.mark.parametrize(
    "text",
    [
        " plain,  spaced\tand\nbroken \u00a0",
        "a < b, <3, <b>bold</b><br/> <!-- c\nd -->e",
        "&amp;amp;lt;i&gt; &quot;x&quot; &#233;",
        "see HTTPS://example.com/a?b=c, www.example.com. and xhttp://no",
        "zero\u200bwidth so\u00adft \ufeff e\u0301 \u2028line\x00nul\x85next\x1fsep",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd",
        "",
    ],
)
def test_texts_are_cleaned_alike(text: str) -> None:
    assert cleaned_text(text) == pl.DataFrame({"t": [text]}).select(cleaned(pl.col("t"))).item()


def test_products_reviews_and_their_order_are_the_same(lake: Lake, tmp_path: Path) -> None:
    reviews = [
        *reviews_of("P1", 7, votes=1),
        *reviews_of("P1", 3, votes=1, title="the same again"),
        *reviews_of("P2", 6, day=17_100),
        *reviews_of("P3", 4),  # too few
        Review("P2", "B", "1,024 people found this one helpful.", votes=1024),
        Review("P2", "A", "Later that day: this one is long enough.", day=17_101, second=9),
        Review("P2", "C", "too short"),
    ]
    dump = write(tmp_path / "dump.jsonl", json_lines(amazon_2018, reviews))
    record, _ = group_reviews(lake, load_settings(lake=lake.uri, dumps=(dump,)))
    table = scan_grouped(lake, record).select("product_id", "all_reviews", "review_count").collect()
    assert group_eagerly(Path(dump), tmp_path / "grouped.csv") == 2
    with (tmp_path / "grouped.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    assert [(a, b, int(c)) for a, b, c in rows] == list(table.iter_rows())
