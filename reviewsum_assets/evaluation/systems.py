"""Whatever is scored: a system's summaries, a baseline's, or people's own."""

from __future__ import annotations

import random
import re
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
from reviewsum_assets.evaluation.measures import Rouge, words_of
from reviewsum_assets.reviews.grouping import (
    GroupedReviews,
    current_grouped_reviews,
    group_reviews,
    reading_grouped,
    scan_grouped,
)
from reviewsum_assets.settings import Settings, SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import UNREADABLE, first_line

Kind = Literal["summaries", "baseline", "bound"]


@dataclass(frozen=True)
class Candidate:
    """Texts by product: one each, but of people all that they wrote.

    ``kind`` tells summaries from baselines and from bounds, which know the references. With
    ``leaves_itself_out`` each text is one of the references, and scored against the others.
    """

    name: str
    kind: Kind
    texts: Mapping[str, tuple[str, ...]]
    source: str = ""
    leaves_itself_out: bool = False


_ID = "product_id"
_PREFIX = "reference"

References = Mapping[str, tuple[str, ...]]


def read_references(path: Path) -> References:
    """The human summaries of each product; several a product are several opinions of equal worth.

    The columns are ``product_id`` and one or more that begin with ``reference``; others, and empty
    cells, are passed over.

    Raises:
        EvaluationError: the file cannot be read, has other columns, names a product twice or not
            at all, or gives one no summary with a word in it.
    """
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (OSError, *UNREADABLE) as error:
        raise EvaluationError(
            f"references {path} cannot be read as CSV: {first_line(error)}"
        ) from error
    columns = [name for name in table.columns if name.startswith(_PREFIX)]
    if _ID not in table.columns or not columns:
        raise EvaluationError(
            f"references {path} have the columns {', '.join(table.columns)}: expected product_id "
            "and reference_1, reference_2, ... with one human summary each"
        )
    found: dict[str, tuple[str, ...]] = {}
    for product_id, *texts in table.select(_ID, *columns).iter_rows():
        if not product_id or product_id in found:
            trouble = "is there twice" if product_id else "has no product_id"
            raise EvaluationError(
                f"references {path}: product {product_id or 'in a row'} {trouble}"
            )
        # ROUGE's words are of a to z and digits: what has none would score zero, whatever it says.
        found[product_id] = tuple(text for text in texts if text and words_of(text))
        if not found[product_id]:
            raise EvaluationError(
                f"references {path}: product {product_id} has no summary in Latin letters, which "
                "are all that ROUGE reads"
            )
    if not found:
        raise EvaluationError(f"references {path} have no row")
    return found


# Grouping joins reviews, each of which is one line.
_BETWEEN_REVIEWS = "\n"


@dataclass(frozen=True)
class ProductReviews:
    """One product's reviews as the model sees them: no further than its window."""

    reviews: tuple[str, ...]
    rating: float | None  # mean of all its reviews, in stars


@dataclass(frozen=True)
class ReviewTable:
    """Some products' grouped reviews; ``grouped`` has the columns of a grouped table."""

    grouped: pl.DataFrame
    source: str

    def by_product(self, settings: SummarySettings) -> Mapping[str, ProductReviews]:
        """Each product's reviews that are whole in the window which these settings read.

        Raises:
            PlanError: the settings need ratings of reviews, which these lack.
        """
        read = windows(self.grouped.lazy(), settings).collect()
        ratings = dict(self.grouped.select("product_id", "avg_rating").iter_rows())
        return {
            product_id: ProductReviews(_whole_reviews(text or "", cut), ratings[product_id])
            for product_id, text, cut in read.select(
                "product_id", "text", "cut_reviews"
            ).iter_rows()
        }


def _whole_reviews(text: str, cut: Collection[int] | None) -> tuple[str, ...]:
    """Those that are whole; if not even one is, all that there is. None: what is cut is unknown."""
    reviews = text.split(_BETWEEN_REVIEWS)
    without = {len(reviews) - 1} if cut is None else set(cut)
    whole = [one for place, one in enumerate(reviews) if place not in without]
    return tuple(one for one in whole or reviews if one)


def reviews_of_lakes(lakes: Sequence[Lake], products: Collection[str]) -> ReviewTable:
    """The grouped reviews of these products on the first lake that has any.

    Raises:
        EvaluationError: none of the lakes holds grouped reviews.
        DumpError: they are damaged.
    """
    for lake in lakes:
        record = current_grouped_reviews(lake)
        if record is not None:
            return ReviewTable(_chosen(lake, record, products), lake.uri)
    named = ", ".join(lake.uri for lake in lakes) or "no lake"
    raise EvaluationError(
        f"the reviews are needed beside their summaries, and {named} has none: name them with "
        "--dump"
    )


def reviews_of_dumps(settings: Settings, products: Collection[str]) -> ReviewTable:
    """These products' reviews, read and grouped from the dumps that the settings name.

    Raises:
        DumpError: one of them cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="reviewsum-evaluation-") as scratch:
        lake = Lake.open(str(Path(scratch, "lake")))
        record, _ = group_reviews(lake, settings)
        chosen = _chosen(lake, record, products)
    return ReviewTable(chosen, ", ".join(settings.dumps))


def _chosen(lake: Lake, record: GroupedReviews, products: Collection[str]) -> pl.DataFrame:
    of_products = pl.col("product_id").is_in(list(products))
    with reading_grouped(lake.uri_of(places.GROUPED_REVIEWS)):
        return scan_grouped(lake, record).filter(of_products).collect(engine="streaming")


_COLUMNS = ("product_id", "abstracted_summary")
_ROWS_A_SLICE = 50_000


def system_of_lake(name: str, lake: Lake, products: Collection[str]) -> Candidate:
    """What a lake's merged table says of these products.

    Raises:
        CheckpointError: nothing was merged there.
    """
    slices = merged_slices(lake, _ROWS_A_SLICE)
    rows = pl.concat(_systems_chosen(rows.select(_COLUMNS), products) for rows in slices)
    return _system(name, rows, lake.uri)


def system_of_table(name: str, path: Path, products: Collection[str]) -> Candidate:
    """What a CSV or Parquet file says of these products.

    Raises:
        EvaluationError: it cannot be read, has other columns, or a product in two rows.
    """
    is_parquet = path.suffix == ".parquet"
    try:
        table = pl.read_parquet(path) if is_parquet else pl.read_csv(path, infer_schema=False)
    except (OSError, *UNREADABLE) as error:
        raise EvaluationError(f"table {path} cannot be read: {first_line(error)}") from error
    if not set(_COLUMNS) <= set(table.columns):
        raise EvaluationError(
            f"table {path} has the columns {', '.join(table.columns)}: expected product_id and "
            "abstracted_summary, as in merged_summaries.csv"
        )
    return _system(name, _systems_chosen(table.select(_COLUMNS), products), str(path))


def _systems_chosen(table: pl.DataFrame, products: Collection[str]) -> pl.DataFrame:
    return table.filter(pl.col("product_id").is_in(list(products)))


def _system(name: str, rows: pl.DataFrame, source: str) -> Candidate:
    repeated = rows.filter(pl.col("product_id").is_duplicated())
    if not repeated.is_empty():
        raise EvaluationError(f"{source} has product {repeated['product_id'][0]} in several rows")
    texts = {product_id: (summary or "",) for product_id, summary in rows.iter_rows()}
    return Candidate(name, "summaries", texts, source)


LEAD, RANDOM, CENTRAL = "lead sentences", "random review", "central review"
BEST, HUMAN = "best review", "human"

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
# 50 reviews are 1,225 pairs; the first 3,500 characters rarely hold more.
_MOST_COMPARED = 50

Texts = Mapping[str, tuple[str, ...]]


def baselines(reviews: Texts, references: Texts, rouge: Rouge, seed: int) -> list[Candidate]:
    """The baselines, and the best review.

    Args:
        reviews: of each product, those that the model sees.
        references: of the same products; the lead is as long as they are on average.
        rouge: measures how alike reviews are.
        seed: of the random review.
    """
    words = statistics.fmean(len(words_of(text)) for texts in references.values() for text in texts)

    def chosen(choose: Callable[[str], str]) -> Texts:
        return {product: (choose(product),) for product in reviews}

    return [
        Candidate(LEAD, "baseline", chosen(lambda p: lead(reviews[p], words))),
        # A product's own seed: its review does not depend on which other products there are.
        Candidate(
            RANDOM,
            "baseline",
            chosen(lambda p: random.Random(f"{seed} {p}").choice(reviews[p])),
        ),
        Candidate(CENTRAL, "baseline", chosen(lambda p: central_review(reviews[p], rouge))),
        Candidate(BEST, "bound", chosen(lambda p: best_review(reviews[p], references[p], rouge))),
    ]


def people(references: Texts) -> Candidate:
    """Every reference against the others of its product."""
    return Candidate(HUMAN, "bound", references, leaves_itself_out=True)


def lead(reviews: Sequence[str], words: float) -> str:
    """The first sentence of each review, in order, then the second ones; so many words of it."""
    sentences = [_SENTENCE_END.split(review) for review in reviews]
    in_turn = chain.from_iterable(zip_longest(*sentences, fillvalue=""))
    return " ".join(" ".join(in_turn).split()[: round(words)])


def central_review(reviews: Sequence[str], rouge: Rouge) -> str:
    """The review with the highest mean ROUGE-L to the others; among equals the first."""
    compared = reviews[:_MOST_COMPARED]
    sums = [0.0] * len(compared)
    for (one, text), (other, other_text) in combinations(enumerate(compared), 2):
        similarity = rouge.similarity(text, other_text)
        sums[one] += similarity
        sums[other] += similarity
    return compared[sums.index(max(sums))]


def best_review(reviews: Sequence[str], references: Sequence[str], rouge: Rouge) -> str:
    """The review with the highest mean ROUGE-L to the references."""
    return max(
        reviews,
        key=lambda review: statistics.fmean(rouge.similarity(one, review) for one in references),
    )
