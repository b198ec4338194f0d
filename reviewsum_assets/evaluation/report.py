"""The result of an evaluation, and its tables for a terminal.

Tables show ROUGE and shares times 100, as papers do; the result holds them from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from reviewsum_assets.evaluation.measures import Interval
from reviewsum_assets.evaluation.systems import Kind


class SystemResult(BaseModel):
    """Scores of one system; see ``measures`` and ``opinions`` for definitions.

    ``difference`` is the difference of ROUGE-L from the system that all are compared with.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Kind
    source: str
    rouge1: Interval
    rouge2: Interval
    rouge_l: Interval
    difference: Interval
    words: float
    compression: float
    novelty: float
    repetition: Interval
    repeated_sentences: Interval
    supported: Interval | None
    critical: Interval | None
    critical_gap: Interval | None
    unsupported_words: Interval | None
    sentiment_agreement: float | None


class CriticalReviews(BaseModel):
    """Mean shares of the reviews of ``products`` with stars, beside which summaries are judged.

    ``share`` is that of critical reviews, by stars; ``sentences`` is that of critical sentences in
    all reviews, as it is measured in summaries.
    """

    model_config = ConfigDict(frozen=True)

    products: int
    share: Interval
    sentences: Interval


class EvaluationResult(BaseModel):
    """All scores of one evaluation.

    All systems are compared on the same ``products``; ``left_out`` counts, by name, products with
    references that the reviews or a system lack.
    """

    model_config = ConfigDict(frozen=True)

    references: str
    reviews: str
    products: int
    references_a_product: float
    left_out: dict[str, int]
    compared_with: str
    seed: int
    notes: tuple[str, ...]
    critical_reviews: CriticalReviews | None
    systems: tuple[SystemResult, ...]


def print_tables(console: Console, result: EvaluationResult) -> None:
    """Print tables narrow enough for a terminal."""
    scores = _table("system", "ROUGE-1", "ROUGE-2", "ROUGE-L")
    texts = _table("system", "difference", "words", "compression", "novel", "stars")
    opinions = _table("system", "supported", "critical", "gap")
    has_model = any(system.unsupported_words is not None for system in result.systems)
    last = ["unsupported words"] if has_model else []
    words = _table("system", "repeated trigrams", "repeated sentences", *last)
    for system in result.systems:
        scores.add_row(system.name, *map(_shown, (system.rouge1, system.rouge2, system.rouge_l)))
        texts.add_row(
            system.name,
            "" if system.name == result.compared_with else _shown(system.difference),
            f"{system.words:.0f}",
            f"{system.compression:.1f}",
            f"{system.novelty:.1%}",
            "" if system.sentiment_agreement is None else f"{system.sentiment_agreement:.2f}",
        )
        shares = (system.supported, system.critical, system.critical_gap)
        opinions.add_row(system.name, *map(_shown, shares))
        shares = (system.repetition, system.repeated_sentences, system.unsupported_words)
        words.add_row(system.name, *map(_shown, shares[: 2 + has_model]))
    console.print(scores, texts, opinions, words)
    for sentence in _sentences(result):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _table(first: str, *others: str) -> Table:
    table = Table(first, box=SIMPLE, pad_edge=False, collapse_padding=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _sentences(result: EvaluationResult) -> Iterator[str]:
    yield (
        f"{result.products} products, mean over {result.references_a_product:.2g} references per "
        "product, 95 % intervals in brackets"
    )
    yield f"difference: ROUGE-L minus that of {result.compared_with}"
    if any(system.sentiment_agreement is not None for system in result.systems):
        # For a rank correlation near 0; the error is smaller near 1.
        error = 1.96 / math.sqrt(max(1, result.products - 1))
        yield f"stars: rank correlation of sentiment and stars, within {error:.2f}"
    yield "supported: % of the sentences with a claim that reviews support"
    critical = result.critical_reviews
    if critical is not None:
        yield (
            f"critical: % of the sentences with an opinion, in {critical.products} products with "
            f"stars; gap: mean distance from the % of critical reviews, {_shown(critical.share)}; "
            f"of the sentences of all reviews {_shown(critical.sentences)} % are critical"
        )
    bounds = [system.name for system in result.systems if system.kind == "bound"]
    if bounds:
        yield f"{' and '.join(bounds)}: upper bounds, made with the references"
    if result.left_out:
        lacking = ", ".join(f"{name} {count}" for name, count in result.left_out.items())
        yield f"products left out because they are missing: {lacking}"
    yield from result.notes


def _shown(interval: Interval | None) -> str:
    if interval is None:
        return ""
    mean, low, high = (100 * value for value in interval)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
