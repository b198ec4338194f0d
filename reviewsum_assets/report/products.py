"""Products of the report: their summaries, facts and evidence, a slice at a time.

The tables are copied from the lake first, so that a page is made from the tables whose checksums it
names, whatever other runs write meanwhile. Memory holds the ids of all products, and one slice.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from reviewsum_assets.checkpoints.merge import MERGED_PARQUET_SCHEMA
from reviewsum_assets.errors import CheckpointError
from reviewsum_assets.reviews.evidence_table import EVIDENCE_SCHEMA, SIDES
from reviewsum_assets.reviews.facts import FACTS_SCHEMA
from reviewsum_assets.reviews.sentences import SENTENCE_END
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import file_sha256
from reviewsum_assets.storage.tables import UNREADABLE, first_line, require_columns

_SCHEMAS = {
    places.MERGED_PARQUET: MERGED_PARQUET_SCHEMA,
    places.PRODUCT_FACTS: FACTS_SCHEMA,
    places.SUMMARY_EVIDENCE: EVIDENCE_SCHEMA,
}
# Keys of the tables that a page is made from; only the first has to be there.
TABLES = tuple(_SCHEMAS)
# A product takes some 10 KB in memory, and a row of a table up to 2 KB.
_PRODUCTS_AT_A_TIME = 10_000
_ROWS_AT_A_TIME = 100_000


class Details(NamedTuple):
    """One product: its row of the list, and what its details show, both as JSON values.

    ``lacks_evidence`` is True if a sentence has no evidence, or evidence has no sentence;
    ``lacks_facts`` if facts are missing or count other reviews than the merged table.
    """

    row: Mapping[str, Any]
    details: Mapping[str, Any]
    lacks_evidence: bool
    lacks_facts: bool


@dataclass(frozen=True)
class Tables:
    """Local copies of the tables of a lake, by key; ``sha256`` is empty for a missing one."""

    lake: Lake
    folder: Path
    scans: Mapping[str, pl.LazyFrame]
    sha256: Mapping[str, str]

    @classmethod
    def copied(cls, lake: Lake, folder: Path) -> Tables:
        """Copy the tables to a local folder.

        Raises:
            CheckpointError: there is no merged table, or a table has other columns.
        """
        scans, sha256 = {}, dict.fromkeys(TABLES, "")
        for key in TABLES:
            if lake.head(key) is not None:
                path = folder / Path(key).name
                lake.download(key, path)
                scans[key], sha256[key] = pl.scan_parquet(path, glob=False), file_sha256(path)
        if places.MERGED_PARQUET not in scans:
            uri = lake.uri_of(places.MERGED_PARQUET)
            raise CheckpointError(f"{uri} is missing: {_remedy(places.MERGED_PARQUET)}")
        tables = cls(lake, folder, scans, sha256)
        for key in scans:
            tables._read(key, partial(_require, schema=_SCHEMAS[key]))
        return tables

    def ids(self) -> pl.DataFrame:
        """The ``product_id`` of all products, those with the most reviews first.

        Raises:
            CheckpointError: the merged table cannot be read.
        """
        ids = self._read(
            places.MERGED_PARQUET,
            lambda scan: scan.select("product_id", "review_count").collect(),
        )
        return ids.sort("review_count", "product_id", descending=[True, False]).select("product_id")

    def slices(self, ids: pl.DataFrame) -> Iterator[list[Details]]:
        """The products with these ids, in their order.

        Raises:
            CheckpointError: a table cannot be read.
        """
        slices = ids.with_row_index("slice").with_columns(pl.col("slice") // _PRODUCTS_AT_A_TIME)
        for key in self.scans:
            self._read(key, partial(_divide, slices=slices, folder=self._divided(key)))
        for number, some in enumerate(ids.iter_slices(_PRODUCTS_AT_A_TIME)):
            merged, facts = (
                {row["product_id"]: row for row in self._rows(key, number)}
                for key in (places.MERGED_PARQUET, places.PRODUCT_FACTS)
            )
            evidence = defaultdict(list)
            for row in self._rows(places.SUMMARY_EVIDENCE, number):
                evidence[row["product_id"]].append(row)
            yield [
                _details(merged[product], facts.get(product), evidence.get(product, ()))
                for product in some["product_id"]
            ]

    def _rows(self, key: str, number: int) -> Iterator[dict[str, Any]]:
        """The rows of the products of one slice in a table; none if the table is missing."""
        for path in sorted(self._divided(key).glob(f"{number}_*.arrow")):
            yield from pl.read_ipc(path).iter_rows(named=True)

    def _divided(self, key: str) -> Path:
        return self.folder / Path(key).stem

    def _read(self, key: str, read: Callable[[pl.LazyFrame], pl.DataFrame]) -> pl.DataFrame:
        try:
            return read(self.scans[key])
        except (*UNREADABLE, ValueError) as error:
            uri = self.lake.uri_of(key)
            raise CheckpointError(
                f"{uri} cannot be read ({first_line(error)}): {_remedy(key)}"
            ) from error


def _divide(table: pl.LazyFrame, slices: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Write the rows of each slice of products to files of its own, in one pass over a table."""
    known = {*chain.from_iterable(schema.names() for schema in _SCHEMAS.values()), *SIDES}
    chosen = table.select(name for name in table.collect_schema().names() if name in known)
    # Python has no years beyond 9999, so days are texts.
    days = pl.element().struct.with_fields(day=pl.field("day").cast(pl.String))
    texts = chosen.with_columns(pl.col(pl.Date).cast(pl.String), pl.col("^quotes$").list.eval(days))
    folder.mkdir()
    rows = table.select(pl.len()).collect().item()
    for start in range(0, rows, _ROWS_AT_A_TIME):
        some = texts.slice(start, _ROWS_AT_A_TIME).collect().join(slices, on="product_id")
        for (number,), part in some.partition_by("slice", as_dict=True, include_key=False).items():
            part.write_ipc(folder / f"{number}_{start:012d}.arrow", compression="zstd")
    return slices


def _remedy(key: str) -> str:
    """What makes a table again; its asset has the name of the table."""
    return f"use `reviewsum run`, or materialize {Path(key).stem}"


def _require(scan: pl.LazyFrame, schema: pl.Schema) -> pl.DataFrame:
    """Refuse a table that lacks columns of a schema; it may have more."""
    found = scan.collect_schema()
    require_columns(pl.Schema({k: d for k, d in found.items() if k in schema}), schema)
    return pl.DataFrame()


@dataclass
class _Text:
    """A text as sentences; evidence is given to them in their order."""

    title: str
    side: str | None
    sentences: list[dict[str, Any]]
    next: int = 0

    @classmethod
    def of(cls, title: str, side: str | None, text: str | None) -> _Text:
        sentences = SENTENCE_END.split((text or "").strip())
        return cls(title, side, [{"text": sentence} for sentence in sentences if sentence])

    def take(self, row: Mapping[str, Any]) -> bool:
        """Give evidence to the next sentence that is the one it was found for."""
        for place in range(self.next, len(self.sentences)):
            if self.sentences[place]["text"] == row["sentence"]:
                self.sentences[place]["evidence"] = _evidence(row)
                self.next = place + 1
                return True
        return False


def _details(
    merged: Mapping[str, Any],
    facts: Mapping[str, Any] | None,
    evidence: Sequence[Mapping[str, Any]],
) -> Details:
    texts = _texts(merged)
    taken = [
        row["supported"]
        for row in sorted(evidence, key=lambda row: row["place"] or 0)
        if any(text.take(row) for text in texts if row["side"] in (None, text.side))
    ]
    checked = [supported for supported in taken if supported is not None]
    is_of_reviews = facts is not None and facts["review_count"] == merged["review_count"]
    row = {
        "ids": merged["product_id"],
        "reviews": merged["review_count"] or 0,
        "stars": _number(facts["mean_stars"]) if facts else None,
        "checked": len(checked),
        "unsupported": checked.count(False),
        "summaries": merged["abstracted_summary"] or "",
    }
    details = {
        "texts": [{"title": text.title, "sentences": text.sentences} for text in texts],
        "facts": _facts(facts) if facts else None,
        "read": {"whole": merged["reviews_read"], "cut": merged["reviews_cut"]},
    }
    sentences = sum(len(text.sentences) for text in texts)
    return Details(row, details, len(taken) < max(sentences, len(evidence)), not is_of_reviews)


def _texts(merged: Mapping[str, Any]) -> list[_Text]:
    """The sides of a summary that has them, otherwise the summary."""
    sides = [
        _Text.of(side.capitalize(), side, text) for side in SIDES if (text := merged.get(side))
    ]
    return sides or [_Text.of("Summary", None, merged["abstracted_summary"])]


def _evidence(row: Mapping[str, Any]) -> dict[str, Any]:
    counts = {name: row[name] or 0 for name in ("reviews", "support", "against")}
    return {
        **counts,
        "score": _number(row["score"]),
        "supported": row["supported"],
        "quotes": [
            {
                "quote": found["quote"] or "",
                "review": found["review"],
                "stars": _number(found["stars"]),
                "day": found["day"],
                "votes": _number(found["votes"]),
            }
            for found in row["quotes"] or ()
        ],
    }


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    stars = [row[f"stars_{stars}"] or 0 for stars in range(1, 6)]
    return {
        "stars": stars if any(stars) else None,
        "mean": _number(row["mean_stars"]),
        "critical": _number(row["critical_share"]),
        "verified": _number(row["verified_share"]),
        "oldest": row["oldest_day"],
        "newest": row["newest_day"],
        "highlights": [
            {
                "sentence": found["sentence"] or "",
                "review": found["review"],
                "stars": _number(found["stars"]),
            }
            for found in row["highlights"] or ()
        ],
    }


def _number(value: float | None) -> float | int | None:
    """A number of two digits, which JSON has; others are unknown."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else round(value, 2)
