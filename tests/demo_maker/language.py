"""Typed view of the texts that made-up reviews and reference summaries consist of.

The texts lie in ``language.json`` and ``common_words.txt``. Dump and training examples are drawn by
position, so an entry that is added, removed or moved changes both.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

Phrases = tuple[str, ...]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kind(_Record):
    """A kind of product: ``name`` stands in summaries, ``nouns`` in reviews.

    ``uses`` fit behind "I use it"; ``aspects`` are the names of the aspects that reviewers judge.
    """

    name: str
    nouns: Phrases
    uses: Phrases
    styles: Phrases
    aspects: Phrases


class Aspect(_Record):
    """One side of a product.

    ``topic``, ``praise`` and ``complaint`` stand in summaries and are true of each of the clauses
    ``loved`` and ``hated``, whose ``{slots}`` are filled when a review is written.
    """

    name: str
    topic: str
    praise: str
    complaint: str
    nouns: Phrases
    loved: Phrases
    hated: Phrases


class Language(_Record):
    """All texts.

    A link is the mark after a sentence's first clause and the word that follows. From
    ``openings_with_praise`` on, these are sentences of reference summaries; lists of five are
    sorted by verdict, bad to good, and each opening has a wording per half of the product kinds.
    """

    kinds: tuple[Kind, ...]
    aspects: tuple[Aspect, ...]
    slots: dict[str, Phrases]
    openers: Phrases
    stories: Phrases
    general_praise: Phrases
    general_blame: Phrases
    good_leads: Phrases
    bad_leads: Phrases
    and_links: tuple[tuple[str, str], ...]
    but_links: tuple[tuple[str, str], ...]
    good_verdicts: Phrases
    bad_verdicts: Phrases
    good_titles: Phrases
    even_titles: Phrases
    bad_titles: Phrases
    foreign_reviews: Phrases
    unusable_texts: tuple[str | None, ...]
    emoji: Phrases
    first_names: Phrases
    handles: Phrases
    endings: Phrases
    openings_with_praise: tuple[tuple[str, str], ...]
    openings_without_praise: tuple[tuple[str, str], ...]
    complaints: Phrases
    no_complaints: str
    disputed: str
    closings: Phrases
    no_opinions: Phrases


_HERE = Path(__file__).parent
LANGUAGE = Language.model_validate_json((_HERE / "language.json").read_bytes())
ASPECTS = {aspect.name: aspect for aspect in LANGUAGE.aspects}
COMMON_WORDS = tuple((_HERE / "common_words.txt").read_text(encoding="utf-8").split())
