"""The table of evidence: one row per sentence of each merged summary.

Products whose summary and reviews have not changed keep their rows of the last table. Unchanged
reviews are known by the hash that the product facts have, so that their texts are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl

from reviewsum_assets.errors import PlanError
from reviewsum_assets.reviews.derived_table import DerivedTable, TableRecord
from reviewsum_assets.reviews.evidence import evidence_of
from reviewsum_assets.reviews.facts import PRODUCT_FACTS
from reviewsum_assets.reviews.grouped import GroupedReviews, read_part
from reviewsum_assets.reviews.sentences import SENTENCE_END
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

QUOTE = pl.Struct(
    {
        "quote": pl.String,
        "review": pl.Int32,  # its line of all_reviews
        "stars": pl.Float32,
        "day": pl.Date,
        "votes": pl.Int32,
    }
)
EVIDENCE_SCHEMA = pl.Schema(
    {
        "product_id": pl.String(),
        "place": pl.Int32(),  # of the sentence in the summary, from 1
        "side": pl.String(),  # liked or disliked; null where a summary has no sides
        "sentence": pl.String(),
        "reviews": pl.Int64(),
        "support": pl.Int64(),
        "against": pl.Int64(),
        "score": pl.Float64(),
        "supported": pl.Boolean(),
        "quotes": pl.List(QUOTE),
        "evidence_hash": pl.String(),
    }
)
SUMMARY_EVIDENCE = DerivedTable(
    places.SUMMARY_EVIDENCE,
    places.SUMMARY_EVIDENCE_RECORD,
    version=1,
    schema=EVIDENCE_SCHEMA,
    hash_column="evidence_hash",
)
SIDES = ("liked", "disliked")

_PRODUCTS_AT_A_TIME = 500


def evidence_source(grouped: GroupedReviews, merged_sha256: str) -> str:
    """Version of the reviews and summaries that the table is made from."""
    return f"{grouped.version}-{merged_sha256}"


def write_evidence(
    lake: Lake,
    grouped: GroupedReviews,
    merged_sha256: str,
    on_progress: Callable[[int], None] = lambda _: None,
) -> tuple[TableRecord, bool]:
    """Write the evidence of all summaries; the second value is True if it was already there.

    Memory holds ids and hashes of all products, and the summaries and reviews of some.

    Args:
        lake: read from and written to.
        grouped: the grouped reviews on the lake.
        merged_sha256: SHA-256 of the merged Parquet table.
        on_progress: receives the number of products done.

    Raises:
        PlanError: the facts of these reviews are missing.
        DumpError: the grouped reviews are missing or damaged, or another run has grouped since.
    """
    source = evidence_source(grouped, merged_sha256)
    before = SUMMARY_EVIDENCE.undamaged(lake)
    if before is not None and before.source == source:
        return before, True
    facts = PRODUCT_FACTS.undamaged(lake)
    if facts is None or facts.source != grouped.version:
        raise PlanError(
            "the product facts are missing or of other reviews: materialize product_facts, or use "
            "`reviewsum run`"
        )
    hashed = _hashed(lake)
    earlier = SUMMARY_EVIDENCE.earlier(lake, before)

    def parts() -> Iterator[tuple[pl.DataFrame, int]]:
        done = 0
        for key in grouped.tables:
            ids = read_part(lake, grouped, key, "product_id")
            products = ids.join(hashed, on="product_id", maintain_order="left")
            kept = earlier.of(products)
            changed = products.join(kept, on="product_id", how="anti", maintain_order="left")
            computed = [pl.DataFrame(schema=EVIDENCE_SCHEMA)]
            done += products.height - changed.height
            for some in changed.iter_slices(_PRODUCTS_AT_A_TIME):
                reviews = read_part(lake, grouped, key, chosen=some["product_id"])
                computed.append(_computed(some, reviews, _summaries(lake, some)))
                done += some.height
                on_progress(done)
            rows = pl.concat([kept, *computed])
            yield (
                products.select("product_id").join(rows, on="product_id", maintain_order="left"),
                changed.height,
            )

    return SUMMARY_EVIDENCE.write(lake, source, parts()), False


def unsupported_sentences(lake: Lake) -> tuple[pl.DataFrame, int]:
    """Return the sentences without support (product_id, sentence), and the number that claim.

    Raises:
        PlanError: there is no evidence, or it is damaged.
    """
    if SUMMARY_EVIDENCE.undamaged(lake) is None:
        raise PlanError(
            "there is no evidence yet: materialize summary_evidence, or use `reviewsum run`"
        )
    claiming = SUMMARY_EVIDENCE.scan(lake).filter(pl.col("supported").is_not_null())
    count = claiming.select(pl.len()).collect().item()
    found = claiming.filter(~pl.col("supported")).select("product_id", "sentence")
    return found.collect(engine="streaming"), count


def _hashed(lake: Lake) -> pl.DataFrame:
    """product_id and evidence_hash of every product that has a summary, in the order of facts."""
    merged = lake.scan_parquet(places.MERGED_PARQUET).select(
        "product_id", summary=pl.concat_str(_texts(lake), separator="\n", ignore_nulls=True)
    )
    both = (
        PRODUCT_FACTS.scan(lake)
        .select("product_id", "reviews_hash")
        .join(merged, on="product_id", maintain_order="left")
    )
    of_product = pl.struct("reviews_hash", "summary").map_elements(_evidence_hash, pl.String)
    return both.select("product_id", evidence_hash=of_product).collect(engine="streaming")


def _evidence_hash(product: dict[str, str]) -> str:
    content = f"{product['reviews_hash']}\n{product['summary']}"
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _texts(lake: Lake) -> list[str]:
    """The columns of the merged table whose texts the summary is made of."""
    columns = lake.scan_parquet(places.MERGED_PARQUET).collect_schema()
    return [name for name in ("abstracted_summary", *SIDES) if name in columns]


def _summaries(lake: Lake, products: pl.DataFrame) -> pl.DataFrame:
    merged = lake.scan_parquet(places.MERGED_PARQUET).select("product_id", *_texts(lake))
    is_chosen = pl.col("product_id").is_in(products["product_id"].implode())
    return merged.filter(is_chosen).collect()


def _computed(hashed: pl.DataFrame, reviews: pl.DataFrame, summaries: pl.DataFrame) -> pl.DataFrame:
    """The rows of products with their hashes, reviews and summaries, one row per product each."""
    both = hashed.join(reviews, on="product_id").join(summaries, on="product_id")
    rows = [row for product in both.iter_rows(named=True) for row in _rows(product)]
    return pl.DataFrame(rows, schema=EVIDENCE_SCHEMA, orient="row")


def _rows(product: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The rows of one product."""
    sentences = list(_divided(product))
    stars, days, votes = (product[f"review_{name}"] for name in ("ratings", "days", "votes"))
    text = product["all_reviews"] or ""
    # Where one line holds all reviews, sentences support sentences.
    is_separate = stars is not None
    reviews = text.split("\n") if is_separate else SENTENCE_END.split(text)
    if not is_separate:
        stars, days, votes = ([None] * len(reviews) for _ in range(3))
    found = evidence_of([sentence for _, sentence in sentences], reviews, stars, votes)
    for place, ((side, _), one) in enumerate(zip(sentences, found, strict=True), 1):
        quotes = [
            {
                "quote": quote,
                "review": review if is_separate else 0,
                "stars": stars[review],
                "day": days[review],
                "votes": votes[review],
            }
            for quote, review in one.quotes
        ]
        figures = one.reviews, one.support, one.against, one.score, one.supported
        names = product["product_id"], place, side, one.sentence
        yield (*names, *figures, quotes, product["evidence_hash"])


def _divided(product: dict[str, Any]) -> Iterator[tuple[str | None, str]]:
    """The sentences of a summary with their side."""
    sides: list[tuple[str | None, str | None]] = [(side, product.get(side)) for side in SIDES]
    if not any(text for _, text in sides):
        sides = [(None, product["abstracted_summary"])]
    for side, text in sides:
        yield from ((side, sentence) for sentence in SENTENCE_END.split(text or "") if sentence)
