"""Sentences of reviews and summaries: words, direction, and repetition.

Sentences are compared by the stems of their words (Porter2, the English stemmer of Snowball),
without words that have no meaning of their own. The direction of a sentence, favourable or
critical, comes from VADER (Hutto and Gilbert 2014). Both know English only.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import snowballstemmer
from vaderSentiment.vaderSentiment import NEGATE

# A line ends a sentence, too: the text of a product in a grouped CSV may have several.
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\s*\n\s*")
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
LINE_OR_WORD = re.compile(rf"\n|{WORD.pattern}")
# Words without a meaning of their own, which would make any two sentences similar.
_WITHOUT_MEANING = (
    "a about all also am an and any are as at be been but by can could did do does for from get "
    "got had has have he her him his how i i'd i'll i'm i've if in into is it it's its just me my "
    "no not of on one or our out she so some than that that's the their them then there these "
    "they this to too up us very was we were what when which who will with would you your"
)
STOP_WORDS = frozenset(_WITHOUT_MEANING.split())
CRITICAL_BELOW = 3  # stars of a review
# Words that turn the meaning of a sentence.
NEGATIONS = frozenset((*NEGATE, "no"))
_UNTOLD = STOP_WORDS | NEGATIONS
# VADER's own limit of a neutral text, https://github.com/cjhutto/vaderSentiment#about-the-scoring
NEUTRAL = 0.05
# Without "one", mostly a pronoun, and "hundred" and "thousand", mostly figures of speech.
_SMALL = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS = {
    **{word: str(number) for number, word in enumerate(_SMALL.split(), start=2)},
    **{word: str(10 * number) for number, word in enumerate(_TENS.split(), start=2)},
}

# Share of a sentence's words that an earlier sentence has, from which on it is left out. Below it,
# a sentence of four words would be left out although one of them is new.
_MOST_REPEATED = 0.75
_CACHED_WORDS = 200_000
_STEMMER = snowballstemmer.stemmer("english")
_OPPOSITES = ("un", "in", "im", "ir", "dis", "non")
# Words between two things whose exchange turns the meaning, as stems.
_COMPARING = frozenset(("than", "over", "outweigh", "beat", "exceed", "surpass", "instead"))


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case, with straight apostrophes."""
    return WORD.findall(text.lower().replace("\u2019", "'"))


def has_meaning(word: str) -> bool:
    """Whether a word in lower case has a meaning of its own; "gets" has no more than "get"."""
    return not (word in _UNTOLD or stem(word) in STOP_WORDS)


@lru_cache(_CACHED_WORDS)
def stem(word: str) -> str:
    """The stem of a word in lower case."""
    return str(_STEMMER.stemWord(word))


def direction(text: str) -> float:
    """How favourable a text is: above 0 favourable, below 0 critical, from -1 to 1."""
    return float(_analyzer().polarity_scores(text)["compound"])


def is_opinion(word: str) -> bool:
    """Whether a word, in lower case, has a direction of its own."""
    return word in _analyzer().lexicon


def without_repeats(text: str) -> str:
    """Leave out the sentences that say what an earlier one said; other texts stay as they are."""
    sentences = SENTENCE_END.split(text)
    if len(sentences) == 1:
        return text
    kept: list[str] = []
    contents: list[_Content] = []
    for sentence in sentences:
        content = _content(sentence)
        if not any(_repeats(content, earlier) for earlier in contents):
            kept.append(sentence)
            contents.append(content)
    return text if len(kept) == len(sentences) else " ".join(kept)


class _Content(NamedTuple):
    """What decides whether sentences say the same.

    ``order`` has the ``stems`` as they are written; ``opinions`` are those with a direction, with
    their valence in VADER.
    """

    text: str
    order: tuple[str, ...]
    stems: frozenset[str]
    numbers: frozenset[str]
    is_negated: bool
    opinions: tuple[tuple[str, float], ...]


@lru_cache(_CACHED_WORDS // 10)
def _content(sentence: str) -> _Content:
    words, valences = words_of(sentence), _analyzer().lexicon
    told = [w for w in words if w in _COMPARING or has_meaning(w)]
    numbers = {NUMBER_WORDS.get(w, w) for w in told if w in NUMBER_WORDS or w[0].isdigit()}
    return _Content(
        " ".join(words) or sentence,
        tuple(map(stem, told)),
        frozenset(map(stem, told)),
        frozenset(numbers),
        sum(word in NEGATIONS for word in words) % 2 == 1,
        tuple((stem(word), valences[word]) for word in told if word in valences),
    )


def _repeats(content: _Content, earlier: _Content) -> bool:
    """Whether a sentence says what an earlier one said.

    Sentences with other numbers, with a negation more, or of another direction differ in what they
    say, however many words they share.
    """
    if content.text == earlier.text:
        return True
    if not content.stems or not content.numbers <= earlier.numbers:
        return False
    shared = len(content.stems & earlier.stems)
    is_like = shared >= _MOST_REPEATED * len(content.stems)
    return is_like and content.is_negated == earlier.is_negated and not _differ(content, earlier)


def _differ(content: _Content, earlier: _Content) -> bool:
    """Whether two sentences of the same words differ in their opinion."""
    shared = content.stems & earlier.stems
    if shared & _COMPARING:  # "the good outweighs the bad", "the bad outweighs the good"
        mine, other = ([word for word in one.order if word in shared] for one in (content, earlier))
        if mine != other:
            return True
    added, lost = content.stems - shared, earlier.stems - shared
    turned = (sum(v for word, v in content.opinions if word in added)) * (
        sum(v for word, v in earlier.opinions if word in lost)
    )
    return turned < 0 or any(
        prefix + one == other or prefix + other == one
        for one in added
        for other in lost
        for prefix in _OPPOSITES
    )


@lru_cache(1)
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
