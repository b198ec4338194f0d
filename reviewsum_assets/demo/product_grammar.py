"""Writes reviews of made-up products, and knows for each clause what opinion it holds.

A product has a true profile: aspects most buyers love, aspects most hate, aspects they disagree
about. Its reviews follow that profile, with exceptions, and their stars follow their own words.
Everything is drawn from the caller's `random.Random`, so that one seed always gives one text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from reviewsum_assets.demo import phrasebook
from reviewsum_assets.demo.aspect import Aspect
from reviewsum_assets.demo.aspects_device import DEVICE_ASPECTS
from reviewsum_assets.demo.aspects_ownership import OWNERSHIP_ASPECTS
from reviewsum_assets.demo.product_kinds import KINDS, Kind

ASPECTS: dict[str, Aspect] = {
    aspect.name: aspect for aspect in (*DEVICE_ASPECTS, *OWNERSHIP_ASPECTS)
}


@dataclass(frozen=True)
class Opinion:
    """Praise or criticism of one aspect; of the product as a whole if the aspect is None."""

    aspect: str | None
    positive: bool


@dataclass(frozen=True)
class Clause:
    """A piece of review text and what it tells the reader."""

    text: str
    opinion: Opinion | None = None
    names_kind: bool = False


@dataclass(frozen=True)
class Review:
    """One review: its clauses, joined by single spaces, are its text."""

    clauses: tuple[Clause, ...]
    stars: int
    title: str

    @property
    def text(self) -> str:
        """The whole text."""
        return " ".join(clause.text for clause in self.clauses)


@dataclass(frozen=True)
class Product:
    """A product and how likely a reviewer is to praise each of the aspects that come up."""

    kind: Kind
    approval: dict[str, float]
    salience: dict[str, int]


_LOVED, _HATED, _DISPUTED = 0.95, 0.06, 0.5
_MARKS_OF_PRAISE = (".", ".", ".", ".", "!")
_MARKS_OF_BLAME = (".", ".", ".", ".", ".", ".", "!")


def draw_product(rng: Random, kind: Kind | None = None) -> Product:
    """Make up a product; without ``kind``, of any kind."""
    kind = kind or rng.choice(KINDS)
    names = list(kind.aspects)
    rng.shuffle(names)
    loved = rng.choice((0, 1, 1, 2, 2, 3, 3, 4))
    hated = rng.choice((0, 1, 1, 2, 2, 3)) if loved else rng.choice((2, 3))
    disputed = rng.choice((0, 0, 0, 1, 1))
    base = rng.choice((0.25, 0.5, 0.75, 0.75))
    approval = dict.fromkeys(names, base)
    salience = dict.fromkeys(names, 1)
    for name in names[:loved]:
        approval[name], salience[name] = _LOVED, rng.choice((4, 6, 8))
    for name in names[loved : loved + hated]:
        approval[name], salience[name] = _HATED, rng.choice((4, 6, 8))
    for name in names[loved + hated : loved + hated + disputed]:
        approval[name], salience[name] = _DISPUTED, 8
    return Product(kind=kind, approval=approval, salience=salience)


def write_review(rng: Random, product: Product) -> Review:
    """Write one review of the product."""
    opinions = _draw_opinions(rng, product)
    writer = _Writer(rng, product.kind)
    sentences: list[tuple[Clause, ...]] = []
    if rng.random() < 0.75:
        sentences.append((writer.sentence(phrasebook.OPENERS),))
    sentences.extend(writer.opinion_sentences(opinions))
    if rng.random() < 0.45:
        story = (writer.sentence(phrasebook.STORIES),)
        sentences.insert(rng.randrange(len(sentences) + 1), story)
    share = sum(opinion.positive for opinion in opinions) / len(opinions)
    if share != 0.5 and rng.random() < 0.4:
        positive = share > 0.5
        verdicts = phrasebook.GOOD_VERDICTS if positive else phrasebook.BAD_VERDICTS
        sentences.append((writer.sentence(verdicts, Opinion(None, positive)),))
    stars = _stars(rng, share)
    clauses = [clause for sentence in sentences for clause in sentence]
    if rng.random() < 0.06:
        clauses = [_carelessly(clause) for clause in clauses]
    return Review(clauses=tuple(clauses), stars=stars, title=_title(rng, stars))


def _draw_opinions(rng: Random, product: Product) -> list[Opinion]:
    names = list(product.approval)
    weights = [product.salience[name] for name in names]
    wanted = rng.choice((1, 1, 2, 2, 3, 3, 4, 5))
    chosen = dict.fromkeys(rng.choices(names, weights, k=wanted))
    return [Opinion(name, rng.random() < product.approval[name]) for name in chosen]


def _stars(rng: Random, share: float) -> int:
    nearest = 1 + round(4 * share)
    return min(5, max(1, nearest + rng.choice((-1, 0, 0, 0, 0, 1))))


def _title(rng: Random, stars: int) -> str:
    if stars == 3:
        return rng.choice(phrasebook.EVEN_TITLES)
    return rng.choice(phrasebook.GOOD_TITLES if stars > 3 else phrasebook.BAD_TITLES)


def _carelessly(clause: Clause) -> Clause:
    text = clause.text.lower().replace("'", "")
    return Clause(text, clause.opinion, clause.names_kind)


class _Writer:
    """Fills phrases for one review, so that the review never says the same twice."""

    def __init__(self, rng: Random, kind: Kind) -> None:
        self._rng = rng
        self._kind = kind
        self._used: set[str] = set()

    def sentence(self, phrases: Sequence[str], opinion: Opinion | None = None) -> Clause:
        """One whole sentence from the phrases."""
        clause = self._fill(self._choose(phrases), opinion)
        return self._with_text(clause, _capitalized(clause.text) + self._full_stop(opinion))

    def opinion_sentences(self, opinions: Sequence[Opinion]) -> list[tuple[Clause, ...]]:
        """Sentences for the opinions in order, some of two clauses."""
        sentences: list[tuple[Clause, ...]] = []
        rest = list(opinions)
        while rest:
            if len(rest) > 1 and self._rng.random() < 0.35:
                sentences.append(self._pair(rest.pop(0), rest.pop(0)))
            else:
                sentences.append((self._single(rest.pop(0)),))
        return sentences

    def _pair(self, first: Opinion, second: Opinion) -> tuple[Clause, Clause]:
        agree = first.positive == second.positive
        link = self._rng.choice(phrasebook.AND_LINKS if agree else phrasebook.BUT_LINKS)
        left, right = self._judgement(first), self._judgement(second)
        return (
            self._with_text(left, _capitalized(left.text) + link.mark),
            self._with_text(right, f"{link.word} {right.text}{self._full_stop(second)}"),
        )

    def _single(self, opinion: Opinion) -> Clause:
        clause = self._judgement(opinion)
        text = clause.text
        if self._rng.random() < 0.25:
            leads = phrasebook.GOOD_LEADS if opinion.positive else phrasebook.BAD_LEADS
            text = f"{self._rng.choice(leads)} {text}"
        return self._with_text(clause, _capitalized(text) + self._full_stop(opinion))

    def _judgement(self, opinion: Opinion) -> Clause:
        assert opinion.aspect is not None
        aspect = ASPECTS[opinion.aspect]
        if self._rng.random() < 0.35:
            general = phrasebook.GENERAL_PRAISE if opinion.positive else phrasebook.GENERAL_BLAME
            phrase = self._choose(general).replace("{noun}", self._rng.choice(aspect.nouns))
        else:
            phrase = self._choose(aspect.loved if opinion.positive else aspect.hated)
        return self._fill(phrase, opinion)

    def _choose(self, phrases: Sequence[str]) -> str:
        fresh = [phrase for phrase in phrases if phrase not in self._used]
        phrase = self._rng.choice(fresh or list(phrases))
        self._used.add(phrase)
        return phrase

    def _fill(self, phrase: str, opinion: Opinion | None) -> Clause:
        names_kind = "{thing}" in phrase or "{a thing}" in phrase
        thing = self._rng.choice(self._kind.nouns)
        text = phrase.replace("{thing}", thing).replace("{a thing}", _with_article(thing))
        text = text.replace("{use}", self._rng.choice(self._kind.uses))
        for slot, fillers in phrasebook.SLOTS.items():
            while slot in text:
                text = text.replace(slot, self._rng.choice(fillers), 1)
        return Clause(text, opinion, names_kind)

    def _full_stop(self, opinion: Opinion | None) -> str:
        if opinion is None:
            return "."
        return self._rng.choice(_MARKS_OF_PRAISE if opinion.positive else _MARKS_OF_BLAME)

    @staticmethod
    def _with_text(clause: Clause, text: str) -> Clause:
        return Clause(text, clause.opinion, clause.names_kind)


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun.startswith((*"aeiou", "SSD")) else f"a {noun}"
