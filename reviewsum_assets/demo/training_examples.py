"""Makes chunk and summary pairs without end, of the shape that the pipeline gives the model.

A chunk starts and ends at any word, as the later chunks of a product do. Only clauses that are
wholly inside it count for its summary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from reviewsum_assets.demo import phrasebook
from reviewsum_assets.demo.common_words import COMMON_WORDS, ENDINGS
from reviewsum_assets.demo.product_grammar import Clause, Product, draw_product, write_review
from reviewsum_assets.demo.product_kinds import Kind
from reviewsum_assets.demo.reference_summary import Facts, facts_of, reference_summary

TokenCount = Callable[[str], int]


@dataclass(frozen=True)
class Example:
    """One chunk, what it says, and the summary to learn."""

    text: str
    facts: Facts
    summary: str


def training_example(
    rng: Random, *, tokens: int, count: TokenCount, kind: Kind | None = None
) -> Example:
    """Make up a product and cut a chunk of fewer than ``tokens`` tokens from its reviews."""
    product = draw_product(rng, kind)
    stream = _clauses(rng, product)
    # Two chunks in three continue a text that an earlier chunk began.
    skip = rng.randrange(1, 12) if rng.random() < 0.67 else 0
    words: list[str] = []
    whole: list[Clause] = []
    room = tokens
    for clause in stream:
        of_clause = clause.text.split()
        skipped, of_clause = of_clause[:skip], of_clause[skip:]
        skip -= len(skipped)
        taken = 0
        for word in of_clause:
            room -= count(word)
            if room <= 0:
                break
            words.append(word)
            taken += 1
        if taken < len(of_clause):
            break
        if of_clause and not skipped:
            whole.append(clause)
    facts = facts_of(whole, product.kind)
    return Example(text=" ".join(words), facts=facts, summary=reference_summary(facts))


def _clauses(rng: Random, product: Product) -> Iterator[Clause]:
    while True:
        noise = rng.random()
        if noise < 0.03:
            yield Clause(rng.choice(phrasebook.FOREIGN_REVIEWS))
        elif noise < 0.06:
            yield Clause(rng.choice(phrasebook.EMOJI))
        elif noise < 0.07:
            yield Clause("https://www.example.com/review")
        elif noise < 0.14:
            yield Clause(unrelated_sentence(rng))
        else:
            yield from write_review(rng, product).clauses


def unrelated_sentence(rng: Random) -> str:
    """A row of common words that says nothing about the product."""
    words = [rng.choice(COMMON_WORDS) + rng.choice(ENDINGS) for _ in range(rng.randrange(3, 11))]
    return " ".join(words).capitalize() + rng.choice((".", ".", "!", "?", " -", " ;"))
