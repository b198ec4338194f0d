"""What can be wrong with a summary's text, found for many summaries at once and without a model.

Each defect is a rule of thumb that a good summary may break now and then: the share of summaries
that break it tells whether a model or its settings are at fault.
"""

from __future__ import annotations

from enum import Enum

import polars as pl

from reviewsum_assets.settings import QualitySettings


class Defect(str, Enum):
    """A defect that a summary's own text shows."""

    EMPTY = "empty"
    TRUNCATED = "truncated"
    REPETITIVE = "repetitive"
    PLACEHOLDER = "placeholder"
    FOREIGN = "foreign"
    LENGTH = "length"


_WORD = r"[\p{L}\p{N}]+(?:['\x{2019}]\p{L}+)*"

# A sentence's end, and what may follow it: quotes, brackets, emoji. An emoji ends one by itself.
_ENDED = r"[.!?…。\x{FF01}\x{FF1F}\p{Extended_Pictographic}][^\p{L}\p{N}]*$"

# Marks of tokenizers, remains of web pages, and what people write where there is no review.
_PLACEHOLDERS = (
    r"</?(?:n|s|unk|pad|bos|eos|cls|sep|mask)(?:_\d+)?>",
    r"<extra_id_\d+>",
    r"\[(?:UNK|PAD|CLS|SEP|MASK)\]",
    r"[⁇▁�]",
    r"https?://|\bwww\.\w",
    r"<(?:br|p|a|b|i|div|span|img)\b[^>]*>",
    r"&(?:[a-z]{2,6}|#\d+);",
    r"\[\[(?:VIDEOID|ASIN)",
    r"\bno (?:customer )?reviews?\b(?: (?:text|yet|available|found|provided))?[.!]?$",
    r"\bno reviews? (?:text|yet|available|found|provided)\b",
    r"^(?:nan|null|none|n/a)\W*$",
)
_PLACEHOLDER = f"(?i){'|'.join(_PLACEHOLDERS)}"

# Frequent in any English text of some length and, unlike "in" or "a", no words of its neighbours.
_ENGLISH = (
    "the and is of to it this that for with but not are very they have has had you were from be my "
    "its it's these those would which when than if there all just will can your we what"
)
_LEAST_LATIN_SHARE = 0.8
_LEAST_ENGLISH_SHARE = 0.08
# Shorter texts need no such word: "Great sound, poor battery."
_WORDS_TO_JUDGE_LANGUAGE = 12

# Chunks of one product are summarized one by one and may well say the same in the same words; a
# model that is caught in a loop says little else.
_LEAST_REPETITIONS = 4
_MOST_REPEATED_SHARE = 1 / 8
_PHRASE_WORDS = 3


def with_defects(summaries: pl.DataFrame, settings: QualitySettings) -> pl.DataFrame:
    """Each summary with its count of ``words`` and, named by ``Defect``, whether it has a defect.

    An empty summary has that defect only. Memory is some ten times that of the texts.

    Args:
        summaries: with a column ``abstracted_summary``, which stays, as all others do.
        settings: bounds of a summary's length, and whether it has to be English.
    """
    text = pl.col("abstracted_summary").fill_null("").str.strip_chars()
    split = summaries.with_columns(
        _text=text, _words=text.str.to_lowercase().str.extract_all(_WORD)
    ).with_columns(words=pl.col("_words").list.len())
    judged = split.with_columns(
        (pl.col("_text") == "").alias(Defect.EMPTY.value),
        (~pl.col("_text").str.contains(_ENDED)).alias(Defect.TRUNCATED.value),
        _is_repetitive(split["_words"]).alias(Defect.REPETITIVE.value),
        pl.col("_text").str.contains(_PLACEHOLDER).alias(Defect.PLACEHOLDER.value),
        (_is_foreign() if settings.english_summaries else pl.lit(value=False)).alias(
            Defect.FOREIGN.value
        ),
        (~pl.col("words").is_between(settings.min_summary_words, settings.max_summary_words)).alias(
            Defect.LENGTH.value
        ),
    )
    others = [defect.value for defect in Defect if defect is not Defect.EMPTY]
    return judged.with_columns(pl.col(others) & ~pl.col(Defect.EMPTY.value)).drop("_text", "_words")


def _is_foreign() -> pl.Expr:
    """Mostly other letters than Latin ones, or hardly any word of those that English abounds in."""
    letters = pl.col("_text").str.count_matches(r"\p{L}")
    latin = pl.col("_text").str.count_matches(r"\p{Latin}")
    english = pl.col("_words").list.eval(pl.element().is_in(_ENGLISH.split()).sum()).list.first()
    is_long = pl.col("words") >= _WORDS_TO_JUDGE_LANGUAGE
    return (latin < _LEAST_LATIN_SHARE * letters) | (
        is_long & (english < _LEAST_ENGLISH_SHARE * pl.col("words"))
    )


def _is_repetitive(words: pl.Series) -> pl.Series:
    """For each text, whether one phrase of three words makes up much of it."""
    spoken = (
        pl.DataFrame({"word": words})
        .with_row_index("row")
        .explode("word")
        .with_columns(pl.col("word").hash())
    )
    first, second, third = (pl.col("word").shift(-place) for place in range(_PHRASE_WORDS))
    # Overflow wraps: this is a hash of the three words in their order.
    phrases = spoken.with_columns(phrase=first + 31 * second + 961 * third).filter(
        pl.col("row") == pl.col("row").shift(1 - _PHRASE_WORDS)
    )
    times = phrases.group_by("row", "phrase").len("times").group_by("row").agg(pl.max("times"))
    lengths = pl.DataFrame({"words": words.list.len()}).with_row_index("row")
    found = lengths.join(times, on="row", how="left", maintain_order="left").select(
        is_it=(pl.col("times") >= _LEAST_REPETITIONS)
        & (_PHRASE_WORDS * pl.col("times") > _MOST_REPEATED_SHARE * pl.col("words"))
    )
    return found["is_it"].fill_null(value=False)
