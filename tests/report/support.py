"""Tables of the report as a lake has them, and what a written page contains."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

from reviewsum_assets.checkpoints.merge import MERGED_PARQUET_SCHEMA
from reviewsum_assets.reviews.evidence_table import EVIDENCE_SCHEMA, SIDES
from reviewsum_assets.reviews.facts import FACTS_SCHEMA
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

QUOTE = {
    "quote": "It lasts two days.",
    "review": 4,
    "stars": 4.0,
    "day": date(2018, 9, 13),
    "votes": 9,
}


def row(sentence: str, supported: bool | None = True, **changes: Any) -> dict[str, Any]:
    """Evidence of one sentence, without product and place."""
    counts = {"reviews": 60, "support": 12 if supported else 0, "against": 3, "score": 0.5}
    found = {"side": None, "sentence": sentence, "supported": supported, "quotes": [QUOTE]}
    return {**counts, **found, **changes}


@dataclass(frozen=True)
class Product:
    """A product of all three tables; ``evidence`` is in the order of its sentences."""

    product_id: str
    summary: str | None
    evidence: Sequence[Mapping[str, Any]] = ()
    reviews: int = 60
    sides: Mapping[str, str | None] = field(default_factory=dict)
    facts: Mapping[str, Any] | None = field(default_factory=dict)


def put_tables(lake: Lake, products: Sequence[Product], *, evidence: bool = True) -> None:
    """Write the tables of these products; facts and evidence in another order."""
    has_sides = any(product.sides for product in products)
    merged = [
        {
            "product_id": product.product_id,
            "abstracted_summary": product.summary,
            "review_count": product.reviews,
            "reviews_read": 20,
            "reviews_cut": 1,
            **(dict.fromkeys(SIDES) | dict(product.sides) if has_sides else {}),
        }
        for product in products
    ]
    schema = {**MERGED_PARQUET_SCHEMA, **(dict.fromkeys(SIDES, pl.String()) if has_sides else {})}
    facts = [
        {**FACTS, "product_id": p.product_id, "review_count": p.reviews, **p.facts}
        for p in reversed(products)
        if p.facts is not None
    ]
    rows = [
        {"product_id": p.product_id, "place": place, **found}
        for p in reversed(products)
        for place, found in reversed(list(enumerate(p.evidence, 1)))
    ]
    put_table(lake, places.MERGED_PARQUET, pl.DataFrame(merged, schema=schema))
    put_table(lake, places.PRODUCT_FACTS, pl.DataFrame(facts, schema=FACTS_SCHEMA))
    if evidence:
        put_table(lake, places.SUMMARY_EVIDENCE, pl.DataFrame(rows, schema=EVIDENCE_SCHEMA))


def put_table(lake: Lake, key: str, table: pl.DataFrame) -> None:
    """Write a table as Parquet."""
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    lake.put(key, buffer.getvalue())


FACTS = {
    **dict(zip((f"stars_{stars}" for stars in range(1, 6)), (4, 2, 6, 18, 30), strict=True)),
    "mean_stars": 4.13,
    "critical_share": 0.1,
    "mixed_share": 0.1,
    "favourable_share": 0.8,
    "verified_share": 0.9,
    "oldest_day": date(2014, 2, 16),
    "newest_day": date(2018, 9, 13),
    "reviews_per_year": [],
    "highlights": [{"sentence": "The sound is rich.", "review": 7, "stars": 5.0}],
    "highlights_text": "The sound is rich.",
    "reviews_hash": "",
}

_DATA = re.compile(r'<script type="application/octet-stream" ([^>]*)>([^<]*)</script>')


@dataclass(frozen=True)
class Page:
    """A page as its script reads it: rows of the list by column, and details in their order."""

    text: str
    about: Mapping[str, Any]
    rows: Mapping[str, list[Any]]
    details: list[Any]

    @property
    def sentences(self) -> list[list[Any]]:
        """Of each product, its sentences, each with the verdict on it, if there is evidence."""
        return [
            [
                (s["text"], s["evidence"]["supported"]) if "evidence" in s else s["text"]
                for text in product["texts"]
                for s in text["sentences"]
            ]
            for product in self.details
        ]


def read_page(content: bytes | None) -> Page:
    """Read a page."""
    assert content is not None
    text = content.decode()
    data = [(name, base64.b64decode(value)) for name, value in _DATA.findall(text)]
    packed = {name: json.loads(gzip.decompress(value)) for name, value in data[1:]}
    rows: dict[str, list[Any]] = {}
    details: list[Any] = []
    for name, value in packed.items():
        if name.startswith("data-index"):
            for column, values in value.items():
                rows.setdefault(column, []).extend(values)
        else:
            assert name == f'id="details-{len(details) // json.loads(data[0][1])["block"]}"'
            details += value
    return Page(text, json.loads(data[0][1]), rows, details)
