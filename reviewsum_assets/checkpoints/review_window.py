"""Which of a product's reviews the model reads, and in which order: the window.

Reviews are chosen by rank, then laid by day. A vote can therefore change a window only by changing
which reviews it contains, never by changing their order:

1. Rank. ``helpful`` takes reviews in the order of the grouped table: by class of helpfulness, then
   the most recent. ``representative`` divides them into critical (below 3 of 5 stars), mixed (3),
   favourable (4 and more) and unrated ones; the first of each present side opens the window, all
   others follow by the Sainte-Laguë method, so that wherever the window ends, each side has about
   the share in it that it has among all reviews. Nothing is drawn at random. ``consensus`` takes
   the reviews that hold the product's highlights, in the order of the highlights, then the others
   in the order of ``helpful``. Highlights are searched from the oldest review to the newest, so
   that votes do not change them.
2. Choice. Reviews are taken while they fit. Each counts at most an equal part of the window: half
   of it, or with three or four sides a third or a quarter, so that a long review crowds out neither
   the others nor the one complaint. The first review that does not fit ends the choice. No review
   is cut because it is the last one: which one is last depends on votes.
3. Length. Characters that are left go to the long reviews, in equal parts. A review that is longer
   still is cut at a word's end.
4. Order. The oldest review comes first. A new review is appended, so that while the window has
   room, all chunks before the new review stay as they are, and so do their summaries.

With the strategy ``two_sided`` each side of a product, see ``sides``, has a window of its own by
these rules, and reviews without stars are left out. A side gets its share of the characters, at
least a quarter of them if the other has reviews too, so that few complaints among much praise are
not cut to a line. Characters that one side does not need go to the other.

A grouped CSV has one line per product. Its reviews cannot be separated, so that its window is the
first characters, and how many reviews that window contains is null unless it contains all of them.

https://en.wikipedia.org/wiki/Sainte-Lagu%C3%AB_method
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reviewsum_assets.checkpoints.sides import LIKED_FROM_STARS, WINDOW_EXTRA, window_text
from reviewsum_assets.errors import PlanError
from reviewsum_assets.reviews.highlights import highlights_of
from reviewsum_assets.settings import SummarySettings

# Reviews that a window contains in full; its reviews, counted from 0 as in ``read_reviews``, of
# which it has only the beginning; their ratings in stars.
COVERAGE = pl.Schema(
    [
        ("reviews_read", pl.Int64()),
        ("cut_reviews", pl.List(pl.Int64)),
        ("ratings", pl.List(pl.Float32)),
    ]
)
_WINDOW = pl.Schema([("text", pl.String()), *COVERAGE.items()])
_OF_EACH_REVIEW = ("review_ratings", "review_places")
_LEAST_PART_OF_SIDE = 4  # a quarter of the characters
# Products laid or written at a time; reviews that are divided take many times their memory.
_PRODUCTS_AT_A_TIME = 2_000


def windows(grouped: pl.LazyFrame, settings: SummarySettings) -> pl.LazyFrame:
    """product_id, ``text`` and ``COVERAGE`` of grouped reviews.

    Reviews read in full, cut, and left out add up to ``review_count``.

    Args:
        grouped: one row per product with product_id, all_reviews, review_count and, for separable
            reviews, review_ratings and review_places.
        settings: strategy, characters and order of the window.

    Raises:
        PlanError: the order ranks reviews that cannot be separated, or the strategy two_sided
            needs ratings, which are unknown.
    """
    is_separable = _are_separable(grouped)
    if settings.is_two_sided and not (is_separable and _have_ratings(grouped)):
        raise PlanError(
            "strategy two_sided divides reviews by their stars, which all of these grouped reviews "
            "lack; a grouped CSV has none. Name dumps of raw reviews with stars, name their column "
            "if it is not recognized (--columns rating=COLUMN), or set strategy to hierarchical"
        )
    if is_separable:
        window = _laid(settings)
        return grouped.select("product_id", window.alias("window")).unnest("window")
    if settings.review_order != "helpful":
        raise PlanError(
            f"review_order {settings.review_order} ranks the reviews of each product, which cannot "
            "be separated here: a grouped CSV has one text per product. Name dumps of raw reviews, "
            "or set review_order to helpful"
        )
    return grouped.select("product_id", *_first(settings.window_chars))


def _are_separable(grouped: pl.LazyFrame) -> bool:
    """Whether each line of all_reviews is known to be one review; dumps are of one kind."""
    if not set(_OF_EACH_REVIEW) <= set(grouped.collect_schema()):
        return False
    is_unknown = pl.any_horizontal(pl.col(_OF_EACH_REVIEW).is_null())
    return not grouped.select(is_unknown.any()).collect(engine="streaming").item()


def _have_ratings(grouped: pl.LazyFrame) -> bool:
    is_rated = pl.col("review_ratings").list.max().is_not_null()
    return bool(grouped.select(is_rated.any()).collect(engine="streaming").item())


def read_reviews(text: str) -> list[str]:
    """The reviews of a window's text, in its order."""
    return [line for line in text.split("\n") if line]


def _first(max_chars: int) -> list[pl.Expr]:
    """The window of the first characters."""
    reviews = pl.col("all_reviews")
    text = reviews.str.slice(0, max_chars)
    is_whole = reviews.str.len_bytes() == text.str.len_bytes()
    read = pl.when(is_whole).then(pl.col("review_count").cast(pl.Int64))
    none = pl.when(is_whole).then(pl.lit([], dtype=COVERAGE["cut_reviews"]))
    return [
        text.alias("text"),
        read.alias("reviews_read"),
        none.alias("cut_reviews"),
        pl.lit(None, dtype=COVERAGE["ratings"]).alias("ratings"),
    ]


def _laid(settings: SummarySettings) -> pl.Expr:
    """The window of chosen reviews, as a struct of ``_WINDOW``."""

    def lay(products: pl.Series) -> pl.Series:
        size = _PRODUCTS_AT_A_TIME
        starts = range(0, max(1, len(products)), size)
        return pl.concat([lay_some(products.slice(start, size)) for start in starts])

    def lay_some(products: pl.Series) -> pl.Series:
        reviews = (
            products.struct.unnest()
            .select(
                pl.int_range(pl.len()).alias("row"),
                pl.col("all_reviews").str.split("\n").alias("text"),
                pl.col("review_ratings").alias("rating"),
                pl.col("review_places").alias("place"),
            )
            .explode("text", "rating", "place")
            .with_columns(
                chars=pl.col("text").str.len_chars().cast(pl.Int64),
                most=pl.lit(settings.window_chars, pl.Int64),
                product="row",
                is_disliked=pl.lit(value=False),
            )
        )
        if settings.is_two_sided:
            reviews = _divided(reviews)
        ranked = _ranked(reviews, settings.review_order)
        return _joined(_cut(_chosen(ranked)), len(products)).to_struct()

    return pl.struct("all_reviews", *_OF_EACH_REVIEW).map_batches(
        lay, return_dtype=pl.Struct(_WINDOW), is_elementwise=True
    )


def _divided(reviews: pl.DataFrame) -> pl.DataFrame:
    """Make each side of a product a product of its own, with its part of the window."""
    most = (pl.col("most") - WINDOW_EXTRA).clip(lower_bound=2)
    side = ("row", "is_disliked")
    taken = pl.col("chars") + 1
    least = most // _LEAST_PART_OF_SIDE
    share = (most * pl.len().over(side) // pl.len().over("row")).clip(least, most - least)
    of_other = taken.sum().over("row") - taken.sum().over(side) - 1
    return (
        reviews.filter(pl.col("rating").is_not_null())
        .with_columns(is_disliked=pl.col("rating") < LIKED_FROM_STARS)
        .with_columns(
            product=2 * pl.col("row") + pl.col("is_disliked"),
            most=pl.max_horizontal(share, most - of_other.clip(lower_bound=0), 1),
        )
    )


def _ranked(reviews: pl.DataFrame, order: str) -> pl.DataFrame:
    """Rank reviews that come in the order of the grouped table; ``sides`` counts those present."""
    if order == "representative":
        return _by_side(reviews)
    if order == "consensus":
        reviews = _by_highlights(reviews)
    return reviews.with_columns(sides=1)


def _by_side(reviews: pl.DataFrame) -> pl.DataFrame:
    """Rank reviews so that every side has its share; among equals the most critical is first."""
    stars, taken = pl.col("rating"), pl.int_range(pl.len()).over("product", "side")
    side = pl.when(stars < 3).then(0).when(stars < 4).then(1).when(stars >= 4).then(2).otherwise(3)
    return (
        reviews.with_columns(side=side)
        .with_columns(
            opens=taken == 0,
            # Equal quotients are equal floats, since division rounds correctly.
            quotient=(2 * taken + 1) / pl.len().over("product", "side"),
            sides=pl.col("side").n_unique().over("product").cast(pl.Int64),
        )
        .sort("product", "opens", "quotient", "side", descending=[False, True, False, False])
    )


def _by_highlights(reviews: pl.DataFrame) -> pl.DataFrame:
    """Rank reviews that hold highlights first; the others keep their order."""
    # Where all reviews fit, all are chosen: their rank does not matter.
    is_over = (pl.col("chars") + 1).sum().over("product") > pl.col("most") + 1
    competing = reviews.filter(is_over).sort("product", "place")
    ranks = [
        (product, place, rank)
        for (product,), own in competing.group_by("product", maintain_order=True)
        for rank, place in enumerate(_places_of_highlights(own))
    ]
    keys = ["product", "place"]
    schema = pl.Schema({**reviews.select(keys).schema, "rank": pl.Int64()})
    return reviews.join(
        pl.DataFrame(ranks, schema, orient="row"), on=keys, how="left", maintain_order="left"
    ).sort("product", "rank", nulls_last=True, maintain_order=True)


def _places_of_highlights(reviews: pl.DataFrame) -> Iterable[int]:
    """The places of one product's reviews that hold highlights, in the order of highlights."""
    found = highlights_of(reviews["text"].to_list(), reviews["rating"].to_list())
    # A review may hold several.
    return dict.fromkeys(reviews["place"][highlight.review] for highlight in found)


def _chosen(ranked: pl.DataFrame) -> pl.DataFrame:
    """The first of each product's reviews, while they fit; a line break follows each."""
    part = ((pl.col("most") + 1) // pl.col("sides").clip(lower_bound=2) - 1).clip(lower_bound=1)
    used = (pl.min_horizontal("chars", part) + 1).cum_sum().over("product")
    return ranked.filter(used <= pl.col("most") + 1)


def _cut(chosen: pl.DataFrame) -> pl.DataFrame:
    """Cut the longest reviews of each product to a length at which all of them fit."""
    taken = pl.col("chars") + 1
    marked = chosen.with_columns(is_cut=taken.sum().over("product") > pl.col("most") + 1)
    over = marked.filter("is_cut").sort("product", "chars")
    others = pl.len().over("product") - pl.int_range(pl.len()).over("product")
    room = pl.col("most") + 1 - taken.cum_sum().over("product") + taken
    # Characters for each of the longer ones, once all shorter ones are whole.
    share = room // others - 1
    length = share.filter(pl.col("chars") > share).max().over("product")
    beginning = pl.col("text").str.head(pl.col("length") + 1).str.replace(r" [^ ]*$", "")
    cut = over.with_columns(length=length).with_columns(
        is_cut=pl.col("chars") > pl.col("length"),
        text=pl.when(pl.col("chars") > pl.col("length"))
        .then(beginning.str.head(pl.col("length")))
        .otherwise("text"),
    )
    return pl.concat([marked.filter(~pl.col("is_cut")), cut.drop("length")])


def _joined(reviews: pl.DataFrame, rows: int) -> pl.DataFrame:
    """One row of ``_WINDOW`` per product, in the order of rows; the oldest review first."""
    liked, disliked = (
        pl.col("text").filter(pl.col("is_disliked") == is_it).str.join("\n")
        for is_it in (False, True)
    )
    found = (
        reviews.sort("row", "is_disliked", "place")
        .group_by("row")
        .agg(
            text=window_text(liked, disliked),
            reviews_read=(~pl.col("is_cut")).sum().cast(pl.Int64),
            cut_reviews=pl.col("is_cut").arg_true().cast(pl.Int64),
            ratings=pl.col("rating").cast(pl.Float32),
        )
    )
    # A product whose reviews have no stars has no side.
    return (
        pl.DataFrame({"row": range(rows)}, schema={"row": pl.Int64})
        .join(found, on="row", how="left", maintain_order="left")
        .select(
            pl.col("text").fill_null(""),
            pl.col("reviews_read").fill_null(0),
            pl.col("cut_reviews", "ratings").fill_null([]),
        )
    )


# Of 50,000 products of 3,500 characters, or of 875 that are read in full: about 200 MB.
CHARS_IN_MEMORY = 175_000_000


@dataclass(frozen=True)
class SelectedTexts:
    """The windows of selected products in a local ``directory`` of their own, unordered."""

    directory: Path
    products_in_memory: int

    @classmethod
    def copy(
        cls,
        grouped: pl.LazyFrame,
        products: pl.DataFrame,
        settings: SummarySettings,
        directory: Path,
    ) -> SelectedTexts:
        """Copy the windows of ``products`` (product_id) from grouped reviews (see ``windows``)."""
        texts = cls(directory, max(1, CHARS_IN_MEMORY // settings.window_chars))
        # Not a semi-join, which holds all texts in memory.
        is_chosen = pl.col("product_id").is_in(products["product_id"].implode())
        windows(grouped.filter(is_chosen), settings).sink_parquet(
            texts._path,
            compression="lz4",
            row_group_size=min(_PRODUCTS_AT_A_TIME, texts.products_in_memory),
        )
        return texts

    def batches(self) -> Iterator[pl.DataFrame]:
        """Rows of ``windows``, ``products_in_memory`` at a time."""
        scan = pl.scan_parquet(self._path)
        rows = scan.select(pl.len()).collect().item()
        for start in range(0, rows, self.products_in_memory):
            yield scan.slice(start, self.products_in_memory).collect()

    def beside(self, planned: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Rows of ``planned`` with the columns of ``windows``, whole checkpoints at a time.

        ``planned`` has product_id and checkpoint, in the order of checkpoints, which is kept.
        """
        if planned.is_empty():
            return
        largest = planned.group_by("checkpoint").len()["len"].max()
        assert isinstance(largest, int)
        # Slices end between checkpoints; a checkpoint too large for memory is one slice.
        place = pl.col("checkpoint") - planned["checkpoint"].min()
        sliced = planned.with_columns(slice=place // max(1, self.products_in_memory // largest))
        self._scatter(sliced)
        for (number,), rows in sliced.partition_by(
            "slice", as_dict=True, include_key=False, maintain_order=True
        ).items():
            folder = self._folder(number)
            texts = pl.read_parquet(folder / "*.parquet")
            yield rows.join(texts, on="product_id", how="left", maintain_order="left")

    def _scatter(self, sliced: pl.DataFrame) -> None:
        """Write the texts of each slice to its folder."""
        for count, batch in enumerate(self.batches()):
            found = batch.join(sliced.select("product_id", "slice"), on="product_id")
            parts = found.partition_by("slice", as_dict=True, include_key=False)
            for (number,), part in parts.items():
                folder = self._folder(number)
                folder.mkdir(exist_ok=True)
                part.write_parquet(folder / f"{count}.parquet", compression="lz4")

    def _folder(self, number: object) -> Path:
        return self.directory / f"slice_{number}"

    @property
    def _path(self) -> Path:
        return self.directory / "texts.parquet"
