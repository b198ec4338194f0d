"""Reviews of made-up products, whose clauses carry the opinion that they express.

A product has a true profile: aspects that most buyers love, aspects that most hate, aspects that
divide them. Its reviews follow that profile, with exceptions, and the stars follow the review's
own words. Everything is drawn from the caller's `random.Random`: one seed gives one text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from tests.demo_maker.language import ASPECTS, LANGUAGE, Kind

_LOVED, _HATED, _DISPUTED = 0.95, 0.06, 0.5


@dataclass(frozen=True)
class Opinion:
    """Praise or criticism of one aspect, or of the whole product if the aspect is None."""

    aspect: str | None
    positive: bool


@dataclass(frozen=True)
class Clause:
    """A piece of review text and its meaning."""

    text: str
    opinion: Opinion | None = None
    names_kind: bool = False


@dataclass(frozen=True)
class Review:
    """One review; its text is its clauses joined by single spaces."""

    clauses: tuple[Clause, ...]
    stars: int
    title: str

    @property
    def text(self) -> str:
        return " ".join(clause.text for clause in self.clauses)


@dataclass(frozen=True)
class Product:
    """A product: per aspect the probability of praise, and the weight of being mentioned."""

    kind: Kind
    approval: dict[str, float]
    salience: dict[str, int]


def draw_product(rng: Random, kind: Kind | None = None) -> Product:
    """Make up a product; without ``kind``, of any kind."""
    kind = kind or rng.choice(LANGUAGE.kinds)
    names = list(kind.aspects)
    rng.shuffle(names)
    loved = rng.choice((0, 1, 1, 2, 2, 3, 3, 4))
    hated = rng.choice((0, 1, 1, 2, 2, 3)) if loved else rng.choice((2, 3))
    disputed = rng.choice((0, 0, 0, 1, 1))
    approval = dict.fromkeys(names, rng.choice((0.25, 0.5, 0.75, 0.75)))
    salience = dict.fromkeys(names, 1)
    for number, name in enumerate(names[: loved + hated]):
        approval[name] = _LOVED if number < loved else _HATED
        salience[name] = rng.choice((4, 6, 8))
    for name in names[loved + hated : loved + hated + disputed]:
        approval[name], salience[name] = _DISPUTED, 8
    return Product(kind, approval, salience)


def write_review(rng: Random, product: Product) -> Review:
    """Write one review of the product."""
    opinions = _draw_opinions(rng, product)
    writer = _Writer(rng, product.kind)
    sentences: list[tuple[Clause, ...]] = []
    if rng.random() < 0.75:
        sentences.append((writer.sentence(LANGUAGE.openers),))
    sentences += writer.opinion_sentences(opinions)
    if rng.random() < 0.45:
        story = writer.sentence(LANGUAGE.stories)
        sentences.insert(rng.randrange(len(sentences) + 1), (story,))
    share = sum(opinion.positive for opinion in opinions) / len(opinions)
    if share != 0.5 and rng.random() < 0.4:
        verdicts = LANGUAGE.good_verdicts if share > 0.5 else LANGUAGE.bad_verdicts
        sentences.append((writer.sentence(verdicts, Opinion(None, share > 0.5)),))
    stars = min(5, max(1, 1 + round(4 * share) + rng.choice((-1, 0, 0, 0, 0, 1))))
    clauses = [clause for sentence in sentences for clause in sentence]
    if rng.random() < 0.06:  # a careless writer
        clauses = [replace(item, text=item.text.lower().replace("'", "")) for item in clauses]
    return Review(tuple(clauses), stars, _title(rng, stars))


def _draw_opinions(rng: Random, product: Product) -> list[Opinion]:
    wanted = rng.choice((1, 1, 2, 2, 3, 3, 4, 5))
    names = rng.choices(list(product.approval), list(product.salience.values()), k=wanted)
    return [Opinion(name, rng.random() < product.approval[name]) for name in dict.fromkeys(names)]


def _title(rng: Random, stars: int) -> str:
    if stars == 3:
        return rng.choice(LANGUAGE.even_titles)
    return rng.choice(LANGUAGE.good_titles if stars > 3 else LANGUAGE.bad_titles)


class _Writer:
    """Fills phrases for one review, so that the review repeats none."""

    def __init__(self, rng: Random, kind: Kind) -> None:
        self._rng = rng
        self._kind = kind
        self._used: set[str] = set()

    def sentence(self, phrases: Sequence[str], opinion: Opinion | None = None) -> Clause:
        """Write one whole sentence from the phrases."""
        clause = self._fill(self._choose(phrases), opinion)
        return replace(clause, text=_capitalized(clause.text) + self._full_stop(opinion))

    def opinion_sentences(self, opinions: Sequence[Opinion]) -> list[tuple[Clause, ...]]:
        """Write the opinions in order, some sentences with two of them."""
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
        mark, word = self._rng.choice(LANGUAGE.and_links if agree else LANGUAGE.but_links)
        left, right = self._judgement(first), self._judgement(second)
        return (
            replace(left, text=_capitalized(left.text) + mark),
            replace(right, text=f"{word} {right.text}{self._full_stop(second)}"),
        )

    def _single(self, opinion: Opinion) -> Clause:
        clause = self._judgement(opinion)
        text = clause.text
        if self._rng.random() < 0.25:
            leads = LANGUAGE.good_leads if opinion.positive else LANGUAGE.bad_leads
            text = f"{self._rng.choice(leads)} {text}"
        return replace(clause, text=_capitalized(text) + self._full_stop(opinion))

    def _judgement(self, opinion: Opinion) -> Clause:
        assert opinion.aspect is not None
        aspect = ASPECTS[opinion.aspect]
        if self._rng.random() < 0.35:
            general = LANGUAGE.general_praise if opinion.positive else LANGUAGE.general_blame
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
        article = "an" if thing.startswith((*"aeiou", "SSD")) else "a"
        text = phrase.replace("{thing}", thing).replace("{a thing}", f"{article} {thing}")
        text = text.replace("{use}", self._rng.choice(self._kind.uses))
        for slot, fillers in LANGUAGE.slots.items():
            while slot in text:
                text = text.replace(slot, self._rng.choice(fillers), 1)
        return Clause(text, opinion, names_kind)

    def _full_stop(self, opinion: Opinion | None) -> str:
        if opinion is None:
            return "."
        return self._rng.choice("....!" if opinion.positive else "......!")


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
