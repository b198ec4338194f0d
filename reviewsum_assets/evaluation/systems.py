"""Inputs of an evaluation: human references, reviews, and the systems whose texts are scored."""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, zip_longest
from pathlib import Path
from typing import Literal

import polars as pl

from reviewsum_assets.checkpoints.merge import merged_slices
from reviewsum_assets.checkpoints.review_window import windows
from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.evaluation.measures import similarity, words_of
from reviewsum_assets.reviews.grouped import (
    GroupedReviews,
    current_grouped_reviews,
    reading_grouped,
    scan_grouped,
)
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.reviews.highlights import highlights_of_product
from reviewsum_assets.reviews.sentences import SENTENCE_END
from reviewsum_assets.settings import Settings, SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import UNREADABLE, first_line

LEAD, RANDOM, CENTRAL = "lead sentences", "random review", "central review"
HIGHLIGHTS = "highlights"
BEST, HUMAN = "best review", "human"

_COLUMNS = ("product_id", "abstracted_summary")
_ROWS_PER_SLICE = 50_000
# 50 reviews make 1,225 pairs; the first 3,500 characters rarely hold more.
_MOST_COMPARED = 50

Kind = Literal["summaries", "baseline", "bound"]
Texts = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Candidate:
    """A system to score: one text per product, or all references for people.

    Baselines need no references, bounds do. With ``leaves_itself_out`` each text is a reference
    and is scored against the others.
    """

    name: str
    kind: Kind
    texts: Texts
    source: str = ""
    leaves_itself_out: bool = False


def read_references(path: Path) -> Texts:
    """Return the human summaries of each product; several are equally valid.

    The columns are ``product_id`` and one or more that begin with ``reference``; other columns
    and empty cells are ignored.

    Raises:
        EvaluationError: the file cannot be read, has other columns, has no product_id in a row or
            one twice, or a product has no summary with a word.
    """
    table = _read_table(f"references {path}", path)
    columns = [name for name in table.columns if name.startswith("reference")]
    if "product_id" not in table.columns or not columns:
        raise EvaluationError(
            f"references {path} have the columns {', '.join(table.columns)}: expected product_id "
            "and reference_1, reference_2, ... with one human summary each"
        )
    found: dict[str, tuple[str, ...]] = {}
    for product_id, *texts in table.select("product_id", *columns).iter_rows():
        if not product_id or product_id in found:
            trouble = f"product {product_id} occurs twice" if product_id else "a row has no id"
            raise EvaluationError(f"references {path}: {trouble} in the column product_id")
        # A text without a to z and digits would score zero with ROUGE, regardless of its content.
        found[product_id] = tuple(text for text in texts if text and words_of(text))
        if not found[product_id]:
            raise EvaluationError(
                f"references {path}: product {product_id} has no summary in Latin letters, the "
                "only ones that ROUGE reads"
            )
    if not found:
        raise EvaluationError(f"references {path} have no rows")
    return found


def load_reviews(
    settings: Settings, lakes: Sequence[Lake], products: Collection[str]
) -> tuple[pl.DataFrame, str]:
    """Return the products' grouped reviews and their source.

    They are grouped from the dumps that the settings name, if any, else taken from the first lake
    that holds grouped reviews.

    Raises:
        EvaluationError: no lake holds grouped reviews.
        DumpError: a dump or the grouped reviews cannot be read.
    """
    if settings.dumps:
        with tempfile.TemporaryDirectory(prefix="reviewsum-evaluation-") as scratch:
            lake = Lake.open(str(Path(scratch, "lake")))
            grouped = _of_products(lake, group_reviews(lake, settings)[0], products)
        return grouped, ", ".join(settings.dumps)
    for lake in lakes:
        record = current_grouped_reviews(lake)
        if record is not None:
            return _of_products(lake, record, products), lake.uri
    named = ", ".join(lake.uri for lake in lakes)
    raise EvaluationError(
        f"scores need the reviews, and {named} has no grouped reviews. To fix: name the reviews "
        "with --dump"
    )


def reviews_in_window(grouped: pl.DataFrame, settings: SummarySettings) -> Texts:
    """Return the reviews of each product that fit whole into the window of these settings.

    Raises:
        PlanError: the settings need ratings of single reviews, which are missing.
    """
    read = windows(grouped.lazy(), settings).collect()
    return {
        product_id: _whole_reviews(text or "", cut)
        for product_id, text, cut in read.select("product_id", "text", "cut_reviews").iter_rows()
    }


def system_of_lake(name: str, lake: Lake, products: Collection[str]) -> Candidate:
    """Return the summaries of these products in a lake's merged table.

    Raises:
        CheckpointError: the lake has no merged table.
    """
    slices = merged_slices(lake, _ROWS_PER_SLICE)
    return _system(name, pl.concat(_chosen(rows, products) for rows in slices), lake.uri)


def system_of_table(name: str, path: Path, products: Collection[str]) -> Candidate:
    """Return the summaries of these products in a CSV or Parquet file.

    Raises:
        EvaluationError: it cannot be read, has other columns, or has a product in two rows.
    """
    table = _read_table(f"table {path}", path)
    if not set(_COLUMNS) <= set(table.columns):
        raise EvaluationError(
            f"table {path} has the columns {', '.join(table.columns)}: expected product_id and "
            "abstracted_summary, as in merged_summaries.csv"
        )
    return _system(name, _chosen(table, products), str(path))


def baselines(reviews: Texts, references: Texts, seed: int) -> list[Candidate]:
    """Return the baselines and the best review, for the products of ``reviews``.

    Args:
        reviews: the reviews in the model's window.
        references: sets the length of the lead, which is their mean.
        seed: seed of the random review.
    """
    words = statistics.fmean(len(words_of(text)) for texts in references.values() for text in texts)

    def candidate(name: str, kind: Kind, choose: Callable[[str], str]) -> Candidate:
        return Candidate(name, kind, {product: (choose(product),) for product in reviews})

    return [
        candidate(LEAD, "baseline", lambda p: lead(reviews[p], words)),
        # One seed per product: its review does not depend on the other products.
        candidate(RANDOM, "baseline", lambda p: random.Random(f"{seed} {p}").choice(reviews[p])),
        candidate(CENTRAL, "baseline", lambda p: central_review(reviews[p])),
        candidate(BEST, "bound", lambda p: best_review(reviews[p], references[p])),
    ]


def highlights(grouped: pl.DataFrame) -> Candidate:
    """Return the highlights of products, from all of their reviews, as in product_facts."""
    columns = grouped.select("product_id", "all_reviews", "review_ratings").iter_rows()
    texts = {
        product_id: (" ".join(one.sentence for one in highlights_of_product(text or "", stars)),)
        for product_id, text, stars in columns
    }
    return Candidate(HIGHLIGHTS, "baseline", texts)


def lead(reviews: Sequence[str], words: float) -> str:
    """Return the first sentence of each review, then the second ones, cut at ``words`` words."""
    sentences = [SENTENCE_END.split(review) for review in reviews]
    interleaved = chain.from_iterable(zip_longest(*sentences, fillvalue=""))
    return " ".join(" ".join(interleaved).split()[: round(words)])


def central_review(reviews: Sequence[str]) -> str:
    """Return the review with the highest mean ROUGE-L to the others; of equals the first."""
    compared = reviews[:_MOST_COMPARED]
    sums = [0.0] * len(compared)
    for one, other in combinations(range(len(compared)), 2):
        score = similarity(compared[one], compared[other])
        sums[one] += score
        sums[other] += score
    return compared[sums.index(max(sums))]


def best_review(reviews: Sequence[str], references: Sequence[str]) -> str:
    """Return the review with the highest mean ROUGE-L to the references."""
    return max(
        reviews,
        key=lambda review: statistics.fmean(similarity(one, review) for one in references),
    )


def _read_table(named: str, path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        return pl.read_csv(path, infer_schema=False)
    except (OSError, *UNREADABLE) as error:
        raise EvaluationError(f"{named} cannot be read: {first_line(error)}") from error


def _of_products(lake: Lake, record: GroupedReviews, products: Collection[str]) -> pl.DataFrame:
    is_chosen = pl.col("product_id").is_in(list(products))
    with reading_grouped(lake.uri_of(places.GROUPED_REVIEWS)):
        return scan_grouped(lake, record).filter(is_chosen).collect(engine="streaming")


def _whole_reviews(text: str, cut: Collection[int] | None) -> tuple[str, ...]:
    """Return the uncut reviews, or all if none is whole; None means only the last may be cut."""
    reviews = text.split("\n")  # a grouped review is one line
    without = {len(reviews) - 1} if cut is None else set(cut)
    whole = [review for place, review in enumerate(reviews) if place not in without]
    return tuple(review for review in whole or reviews if review)


def _chosen(table: pl.DataFrame, products: Collection[str]) -> pl.DataFrame:
    return table.select(_COLUMNS).filter(pl.col("product_id").is_in(list(products)))


def _system(name: str, rows: pl.DataFrame, source: str) -> Candidate:
    repeated = rows.filter(pl.col("product_id").is_duplicated())
    if not repeated.is_empty():
        raise EvaluationError(f"{source} has product {repeated['product_id'][0]} in several rows")
    texts = {product_id: (summary or "",) for product_id, summary in rows.iter_rows()}
    return Candidate(name, "summaries", texts, source)
