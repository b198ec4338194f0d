"""The origin of one product's summary: reviews, chunks, settings, engine, and job."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from reviewsum_assets.checkpoints.manifest import (
    ChunkRecord,
    Manifest,
    Producer,
    SummarizedProduct,
    read_chunks,
)
from reviewsum_assets.checkpoints.plan import (
    Plan,
    PlannedCheckpoint,
    partition_key,
    read_planned_reviews,
    read_table,
    require_plan,
)
from reviewsum_assets.checkpoints.review_window import read_reviews
from reviewsum_assets.checkpoints.sides import Sides
from reviewsum_assets.checkpoints.validity import CheckpointState, check_checkpoint
from reviewsum_assets.errors import CheckpointError, PlanError
from reviewsum_assets.reviews.evidence_table import SUMMARY_EVIDENCE
from reviewsum_assets.storage.lake import Lake

_OF_PRODUCT = {
    *("product_id", "reviews", "reviews_read", "reviews_cut"),
    *("chunks_by_level", "tokens_in", "tokens_out"),
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class ReadReview(_Part):
    """One review as the model read it, with stars if known; ``cut``: only its beginning.

    ``side`` is ``liked`` or ``disliked`` with the strategy two_sided, otherwise empty.
    """

    side: str
    rating: float | None
    cut: bool
    text: str


class ExplainedChunk(_Part):
    """One chunk as the model read it, and its summary; ``side`` as of a review.

    ``first`` and ``last`` count from 1: words of the reviews on level 1, above it summaries of the
    level below. A ``carried`` chunk is the last summary of the level below, not generated again.
    """

    side: str
    level: int
    first: int
    last: int
    carried: bool
    tokens_in: int
    tokens_out: int
    text: str
    summary: str


class ExplainedQuote(_Part):
    """A sentence of a review that says what a sentence of the summary says."""

    quote: str
    stars: float | None
    day: date | None
    votes: int | None


class ExplainedSentence(_Part):
    """A sentence of the merged summary with its evidence; see ``reviews.evidence.Evidence``."""

    sentence: str
    reviews: int
    support: int
    against: int
    score: float
    supported: bool | None
    quotes: tuple[ExplainedQuote, ...]


class Explanation(_Part):
    """All known facts of one summary.

    ``review_count`` is that of the current plan, ``reviews`` that of the time of the summary, with
    those read, cut and left out, if known. ``chunks`` is None if the lake has no chunk summaries.
    ``liked`` and ``disliked`` are the parts of ``summary``, if it has sides. ``sentences`` is None
    if the lake has no evidence for this summary.
    """

    product_id: str
    summary: str
    liked: str | None
    disliked: str | None
    sentences: tuple[ExplainedSentence, ...] | None
    plan_id: str
    checkpoint: str
    finished_at: str
    review_count: int
    reviews: int
    reviews_read: int | None
    reviews_cut: int | None
    reviews_left_out: int | None
    read: tuple[ReadReview, ...]
    chunks_by_level: tuple[int, ...]
    chunks: tuple[ExplainedChunk, ...] | None
    tokens_in: int
    tokens_out: int
    settings: dict[str, Any]
    producer: Producer


def explain(lake: Lake, product_id: str) -> Explanation:
    """Explain the summary of a product of the current plan.

    Raises:
        PlanError: there is no plan, or it does not select this product.
        CheckpointError: the checkpoint is not valid, the product is in quarantine, or its reviews
            are missing or damaged.
    """
    plan = require_plan(lake)
    review_count, planned = _planned(lake, plan, product_id)
    state = check_checkpoint(lake, planned)
    manifest, product = _summarized(state, product_id)
    recipe = plan.recipes[planned.recipe]
    is_it = pl.col("product_id") == product_id
    found = read_planned_reviews(lake, planned).row(by_predicate=is_it, named=True)
    text = found["all_reviews"] or ""
    texts = Sides.of_window(text)._asdict() if recipe.settings.is_two_sided else {"": text}
    (summary,) = (r.abstracted_summary for r in state.rows if r.product_id == product_id)
    sides = product.sides_of(summary) or Sides("", "")
    return Explanation(
        **product.model_dump(include=_OF_PRODUCT),
        summary=summary,
        liked=sides.liked or None,
        disliked=sides.disliked or None,
        sentences=_sentences(lake, product_id, summary),
        plan_id=planned.plan_id,
        checkpoint=planned.partition_key,
        finished_at=manifest.finished_at,
        review_count=review_count,
        reviews_left_out=product.reviews_left_out,
        read=_reviews(texts, found["cut_reviews"] or (), found["ratings"] or ()),
        chunks=_chunks(lake, manifest, product_id, texts),
        settings=recipe.settings.model_dump(),
        producer=manifest.producer,
    )


def _planned(lake: Lake, plan: Plan, product_id: str) -> tuple[int, PlannedCheckpoint]:
    """A selected product's review count and checkpoint."""
    rows = read_table(lake, plan).filter(pl.col("product_id") == product_id)
    if rows.is_empty():
        raise PlanError(
            f"product {product_id!r} is not in the current plan {plan.plan_id}. Ids are those of "
            "the merged table, upper and lower case count. Products with fewer than min_reviews "
            f"reviews are not grouped, of the others the {plan.top_k:,} with most reviews are "
            "summarized, and those of a new dump once `reviewsum run` has planned them"
        )
    row = rows.row(0, named=True)
    if not row["selected"]:
        raise PlanError(
            f"product {product_id!r} is no longer selected: others have more reviews than its "
            f"{row['review_count']:,}, or it left the dumps. What was made of it is in "
            f"{partition_key(row['checkpoint'])}; a higher top_k may select it again"
        )
    return row["review_count"], plan.checkpoint(row["checkpoint"])


def _summarized(state: CheckpointState, product_id: str) -> tuple[Manifest, SummarizedProduct]:
    if state.manifest is None:
        raise CheckpointError(
            f"product {product_id!r} is not summarized yet: {state.describe()}. Use `reviewsum run`"
        )
    for failed in state.manifest.quarantined:
        if failed.product_id == product_id:
            raise CheckpointError(
                f"product {product_id!r} has no summary, it is in quarantine: {failed.reason} "
                f"({state.planned.partition_key}, job {state.manifest.producer.job_name})"
            )
    (product,) = (one for one in state.manifest.products if one.product_id == product_id)
    return state.manifest, product


def _reviews(
    texts: Mapping[str, str], cut: Collection[int], ratings: Sequence[float | None]
) -> tuple[ReadReview, ...]:
    """The reviews of each side, whose places ``cut`` counts on from one side to the next."""
    lines = [(side, line) for side, text in texts.items() for line in read_reviews(text)]
    known = ratings if len(ratings) == len(lines) else [None] * len(lines)
    return tuple(
        ReadReview(side=side, rating=rating, cut=place in cut, text=line)
        for place, ((side, line), rating) in enumerate(zip(lines, known, strict=True))
    )


def _sentences(lake: Lake, product_id: str, summary: str) -> tuple[ExplainedSentence, ...] | None:
    """The evidence for the sentences of a summary, of which the merged table has some or all."""
    if SUMMARY_EVIDENCE.undamaged(lake) is None:
        return None
    rows = SUMMARY_EVIDENCE.scan(lake).filter(pl.col("product_id") == product_id).sort("place")
    found = [row for row in rows.collect().iter_rows(named=True) if row["sentence"] in summary]
    return tuple(ExplainedSentence.model_validate(row) for row in found) or None


def _chunks(
    lake: Lake, manifest: Manifest, product_id: str, texts: Mapping[str, str]
) -> tuple[ExplainedChunk, ...] | None:
    table = read_chunks(lake, manifest)
    if table is None:
        return None
    records = [
        ChunkRecord(*row) for row in table.filter(pl.col("product_id") == product_id).iter_rows()
    ]
    chunks: list[ExplainedChunk] = []
    below: list[str] = []
    for (side, level), same in groupby(records, key=lambda record: (record.side, record.level)):
        start, made = 0, list(same)
        if level == 1:
            below = texts.get(side, "").split()
        for record in made:
            end = start + max(1, record.parts)
            chunks.append(
                ExplainedChunk(
                    side=side,
                    level=level,
                    first=start + 1,
                    last=end,
                    carried=record.parts == 0,
                    tokens_in=record.tokens_in,
                    tokens_out=record.tokens_out,
                    text=" ".join(below[start:end]),
                    summary=record.summary,
                )
            )
            start = end
        below = [record.summary for record in made]
    return tuple(chunks) or None
