"""Numbers that a summary names and the reviews it was made from do not: made up, or garbled."""

from __future__ import annotations

import polars as pl

# "one" is left out: it is a pronoun more often than a number. So are "hundred" and "thousand",
# which are figures of speech.
_SMALL = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {
    **{word: str(number) for number, word in enumerate(_SMALL.split(), start=2)},
    **{word: str(10 * number) for number, word in enumerate(_TENS.split(), start=2)},
}
_NUMBER = "|".join(
    (
        r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?",
        r"[0-9]*\.[0-9]+",
        r"[0-9]+",
        rf"\b(?:{'|'.join(_WORDS)})\b",
    )
)


def unsupported_numbers(summary: pl.Expr, source: pl.Expr) -> pl.Expr:
    """The numbers of a summary that its source does not name; a list, empty if all is well.

    Numbers count by value: ``$1,000`` is ``1000.00``, and ``two`` is ``2``. Units and compounds
    are not looked at: ``twenty-five`` is 20 and 5.
    """
    return _numbers(summary).list.set_difference(_numbers(source))


def has_number(text: pl.Expr) -> pl.Expr:
    """Whether a text names any number at all."""
    return text.str.to_lowercase().str.contains(_NUMBER)


def _numbers(text: pl.Expr) -> pl.Expr:
    found = text.fill_null("").str.to_lowercase().str.extract_all(_NUMBER)
    return found.list.eval(pl.element().str.replace_all(",", "").replace(_WORDS).cast(pl.Float64))
