"""Endless chunks with the summaries that the small Pegasus learns to write of them.

A chunk starts and ends at any word, as the later chunks of a product do; only clauses wholly inside
it count. A summary is a function of these counts alone, so that a small model can learn it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tests.demo_maker.language import ASPECTS, COMMON_WORDS, LANGUAGE, Kind
from tests.demo_maker.reviews import Clause, Product, draw_product, write_review

SENTENCE_MARK = "<n>"
# A side is taken when it has at least this many times the mentions of the other.
_DOMINANCE = 2
# Below this many words a summary would be padded by the generator's minimum length.
_MINIMUM_WORDS = 28


@dataclass(frozen=True)
class Facts:
    """Content of a text: the product's kind if it is named, and opinions by aspect.

    The aspects of each tuple are sorted by number of mentions, most first.
    """

    kind: Kind | None
    praised: tuple[str, ...]
    criticized: tuple[str, ...]
    disputed: tuple[str, ...]
    positive: int
    negative: int


@dataclass(frozen=True)
class Claims:
    """Content of a summary, as names of kind and aspects."""

    kind: str | None
    praised: frozenset[str]
    criticized: frozenset[str]


@dataclass(frozen=True)
class Example:
    """One chunk, its content, and the summary to learn."""

    text: str
    facts: Facts
    summary: str


def training_example(rng: Random, *, tokens: int, count: Callable[[str], int]) -> Example:
    """Make up a product and cut a chunk from its reviews.

    The chunk has fewer than ``tokens`` tokens; ``count`` returns the number of tokens of a word.
    """
    product = draw_product(rng)
    # Two chunks in three continue a text that an earlier chunk began.
    skip = rng.randrange(1, 12) if rng.random() < 0.67 else 0
    words: list[str] = []
    whole: list[Clause] = []
    for clause in _clauses(rng, product):
        of_clause = clause.text.split()
        skipped, of_clause = of_clause[:skip], of_clause[skip:]
        skip -= len(skipped)
        for word in of_clause:
            tokens -= count(word)
            if tokens <= 0:
                facts = facts_of(whole, product.kind)
                return Example(" ".join(words), facts, reference_summary(facts))
            words.append(word)
        if of_clause and not skipped:
            whole.append(clause)
    raise AssertionError("clauses never end")


def _clauses(rng: Random, product: Product) -> Iterator[Clause]:
    while True:
        noise = rng.random()
        if noise < 0.03:
            yield Clause(rng.choice(LANGUAGE.foreign_reviews))
        elif noise < 0.06:
            yield Clause(rng.choice(LANGUAGE.emoji))
        elif noise < 0.07:
            yield Clause("https://www.example.com/review")
        elif noise < 0.14:
            yield Clause(unrelated_sentence(rng))
        else:
            yield from write_review(rng, product).clauses


def unrelated_sentence(rng: Random) -> str:
    """Make a row of common words, which says nothing about the product."""
    count = rng.randrange(3, 11)
    words = [rng.choice(COMMON_WORDS) + rng.choice(LANGUAGE.endings) for _ in range(count)]
    return " ".join(words).capitalize() + rng.choice((".", ".", "!", "?", " -", " ;"))


def facts_of(clauses: Iterable[Clause], kind: Kind) -> Facts:
    """Count the content of clauses that are all about one product of this kind."""
    clauses = list(clauses)
    opinions = [clause.opinion for clause in clauses if clause.opinion is not None]
    praise = Counter(item.aspect for item in opinions if item.positive and item.aspect)
    blame = Counter(item.aspect for item in opinions if not item.positive and item.aspect)
    ranked = [name for name, _ in (praise + blame).most_common()]
    praised = tuple(name for name in ranked if praise[name] >= _DOMINANCE * blame[name])
    criticized = tuple(name for name in ranked if blame[name] >= _DOMINANCE * praise[name])
    return Facts(
        kind=kind if any(clause.names_kind for clause in clauses) else None,
        praised=praised,
        criticized=criticized,
        disputed=tuple(name for name in ranked if name not in praised + criticized),
        positive=sum(item.positive for item in opinions),
        negative=sum(not item.positive for item in opinions),
    )


def reference_summary(facts: Facts) -> str:
    """Write the summary; `SENTENCE_MARK` separates its sentences."""
    thing = facts.kind.name if facts.kind else "product"
    opinions = facts.positive + facts.negative
    if not opinions:
        return SENTENCE_MARK.join(LANGUAGE.no_opinions).format(thing=thing)
    # From 0, nearly all is criticism, to 4, nearly all is praise.
    verdict = sum(facts.positive / opinions >= bound for bound in (0.15, 0.4, 0.6, 0.85))
    # The rarer side of the opinions gets fewer words.
    praise = [ASPECTS[name].praise for name in facts.praised[: 3 if verdict >= 2 else 2]]
    blame = [ASPECTS[name].complaint for name in facts.criticized[: 2 if verdict >= 2 else 3]]
    disputed = [ASPECTS[name].topic for name in facts.disputed[:2]]
    openings = LANGUAGE.openings_with_praise if praise else LANGUAGE.openings_without_praise
    wording = LANGUAGE.kinds.index(facts.kind) % 2 if facts.kind else 0
    sentences = [openings[verdict][wording].format(thing=thing, praise=_enumerate(praise))]
    complaints = LANGUAGE.complaints[verdict] if blame else LANGUAGE.no_complaints
    if len(blame) == 1:
        complaints = complaints.replace("problems are", "problem is")
    sentences.append(complaints.format(blame=_enumerate(blame)))
    if disputed:
        sentences.append(LANGUAGE.disputed.format(disputed=_enumerate(disputed)))
    if not disputed or len(" ".join(sentences).split()) < _MINIMUM_WORDS:
        sentences.append(LANGUAGE.closings[verdict])
    return SENTENCE_MARK.join(sentences)


def _enumerate(phrases: Sequence[str]) -> str:
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def claims_of(summary: str) -> Claims:
    """Read a summary back into the kind and the aspects that it names."""
    aspects = LANGUAGE.aspects
    return Claims(
        next((kind.name for kind in LANGUAGE.kinds if f"this {kind.name}" in summary), None),
        frozenset(aspect.name for aspect in aspects if aspect.praise in summary),
        frozenset(aspect.name for aspect in aspects if aspect.complaint in summary),
    )


def accuracy(scored: Iterable[tuple[str, Example]]) -> dict[str, float]:
    """Compare summaries with their chunks; each score is a share from 0 to 1.

    Precision is the share of claims that are facts; recall the share of the reference summary's
    claims that the summary makes too.
    """
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for summary, example in scored:
        claimed, wanted = claims_of(summary), claims_of(example.summary)
        praised, criticized = claimed.praised, claimed.criticized
        for name, hits, of in (
            ("kind", int(claimed.kind == wanted.kind), 1),
            ("praise precision", len(praised & {*example.facts.praised}), len(praised)),
            ("complaint precision", len(criticized & {*example.facts.criticized}), len(criticized)),
            ("recall", len(praised & wanted.praised), len(wanted.praised)),
            ("recall", len(criticized & wanted.criticized), len(wanted.criticized)),
        ):
            right[name] += hits
            total[name] += of
    return {name: right[name] / total[name] if total[name] else 1.0 for name in total}
