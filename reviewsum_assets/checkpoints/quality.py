"""Quality of the merged table: defects of summaries, unsupported numbers, missing products.

All of it streams over slices of the table; findings keep a count and a few examples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import polars as pl

from reviewsum_assets.checkpoints.merge import merged_slices
from reviewsum_assets.checkpoints.plan import (
    INPUT_NULLABLE,
    INPUT_SCHEMA,
    Plan,
    partition_key,
    read_table,
)
from reviewsum_assets.reviews.sentences import NUMBER_WORDS
from reviewsum_assets.settings import QualitySettings
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import parse_table

MOST_EXAMPLES = 20


@dataclass
class Finding:
    """Products with a problem; ``examples`` are (product_id, problem)."""

    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, products: pl.DataFrame, problem: pl.Expr) -> Finding:
        """Add products (product_id)."""
        self.count += products.height
        first = products.head(MOST_EXAMPLES - len(self.examples))
        self.examples += first.select("product_id", problem.alias("problem")).iter_rows()
        return self

    def share(self, total: int) -> float:
        """Share of ``total``, at most 1."""
        return self.count / max(1, total, self.count)


_NUMBER = "|".join(
    (
        r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?",
        r"[0-9]*\.[0-9]+",
        r"[0-9]+",
        rf"\b(?:{'|'.join(NUMBER_WORDS)})\b",
    )
)


def unsupported_numbers(summary: pl.Expr, source: pl.Expr) -> pl.Expr:
    """The numbers of a summary that its source lacks, as a list.

    Numbers are compared by value: ``$1,000`` is ``1000.00``, ``two`` is ``2``, and ``twenty-five``
    is 20 and 5.
    """
    return _numbers(summary).list.set_difference(_numbers(source))


def has_number(text: pl.Expr) -> pl.Expr:
    """Whether a text contains a number."""
    return text.str.to_lowercase().str.contains(_NUMBER)


def _numbers(text: pl.Expr) -> pl.Expr:
    found = text.fill_null("").str.to_lowercase().str.extract_all(_NUMBER)
    number = pl.element().str.replace_all(",", "").replace(NUMBER_WORDS)
    return found.list.eval(number.cast(pl.Float64))


class Defect(StrEnum):
    """A defect that a summary's own text shows."""

    EMPTY = "empty"
    TRUNCATED = "truncated"
    REPETITIVE = "repetitive"
    PLACEHOLDER = "placeholder"
    FOREIGN = "foreign"
    LENGTH = "length"


_WORD = r"[\p{L}\p{N}]+(?:['\x{2019}]\p{L}+)*"

# The end of a sentence (also an emoji), and possible quotes, brackets, and emoji after it.
_ENDED = r"[.!?…。\x{FF01}\x{FF1F}\p{Extended_Pictographic}][^\p{L}\p{N}]*$"

# Marks of tokenizers, remains of web pages, and phrases for absent reviews.
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

# Frequent in English texts and, unlike "in" or "a", absent from related languages.
_ENGLISH = (
    "the and is of to it this that for with but not are very they have has had you were from be my "
    "its it's these those would which when than if there all just will can your we what"
)
_LEAST_LATIN_SHARE = 0.8
_LEAST_ENGLISH_SHARE = 0.08
# Shorter texts need no such word: "Great sound, poor battery."
_WORDS_TO_JUDGE_LANGUAGE = 12

# Summaries of several chunks may repeat a phrase; a model in a loop produces little else.
_LEAST_REPETITIONS = 4
_MOST_REPEATED_SHARE = 1 / 8
_PHRASE_WORDS = 3


def with_defects(summaries: pl.DataFrame, settings: QualitySettings) -> pl.DataFrame:
    """Summaries (``abstracted_summary``) with ``words`` and a Boolean column per ``Defect``.

    An empty summary has that defect only. Memory is about ten times that of the texts.
    """
    text = pl.col("abstracted_summary").fill_null("").str.strip_chars()
    split = summaries.with_columns(
        _text=text, _words=text.str.to_lowercase().str.extract_all(_WORD)
    ).with_columns(words=pl.col("_words").list.len())
    length = pl.col("words").is_between(settings.min_summary_words, settings.max_summary_words)
    found = {
        Defect.TRUNCATED: ~pl.col("_text").str.contains(_ENDED),
        Defect.REPETITIVE: pl.lit(_is_repetitive(split["_words"])),
        Defect.PLACEHOLDER: pl.col("_text").str.contains(_PLACEHOLDER),
        Defect.FOREIGN: _is_foreign() if settings.english_summaries else pl.lit(value=False),
        Defect.LENGTH: ~length,
    }
    is_empty = pl.col("_text") == ""
    others = {defect.value: is_it & ~is_empty for defect, is_it in found.items()}
    return split.with_columns(is_empty.alias(Defect.EMPTY.value), **others).drop("_text", "_words")


def _is_foreign() -> pl.Expr:
    """Whether most letters are not Latin, or frequent English words are rare."""
    letters = pl.col("_text").str.count_matches(r"\p{L}")
    latin = pl.col("_text").str.count_matches(r"\p{Latin}")
    english = pl.col("_words").list.eval(pl.element().is_in(_ENGLISH.split()).sum()).list.first()
    is_long = pl.col("words") >= _WORDS_TO_JUDGE_LANGUAGE
    return (latin < _LEAST_LATIN_SHARE * letters) | (
        is_long & (english < _LEAST_ENGLISH_SHARE * pl.col("words"))
    )


def _is_repetitive(words: pl.Series) -> pl.Series:
    """For each text, whether a phrase of three words makes up much of it."""
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


_ROWS_A_SLICE = 10_000
# The reviews of a slice's products are read, too.
_CHARS_A_SLICE = 35_000_000
_EXCERPT_CHARS = 120
_REVIEWS_SCHEMA = pl.Schema({"product_id": pl.String, "all_reviews": pl.String})


@dataclass
class QualityReport:
    """Counts of defects; ``compared``: summaries with a number and readable reviews."""

    summaries: int = 0
    compared: int = 0
    defects: dict[Defect, Finding] = field(
        default_factory=lambda: {defect: Finding() for defect in Defect}
    )
    numbers: Finding = field(default_factory=Finding)


def judge_summaries(lake: Lake, plan: Plan, settings: QualitySettings) -> QualityReport:
    """Judge the merged table of ``plan``.

    Raises:
        CheckpointError: there is no merged table.
    """
    holders = read_table(lake, plan).select("product_id", "checkpoint")
    report = QualityReport()
    for rows in merged_slices(lake, _rows_a_slice(plan)):
        report.summaries += rows.height
        judged = with_defects(rows, settings)
        for defect, finding in report.defects.items():
            finding.add(judged.filter(defect.value), _excerpt(defect))
        sourced = _beside_reviews(lake, plan, rows.join(holders, on="product_id"))
        report.compared += sourced.height
        numbers = unsupported_numbers(pl.col("abstracted_summary"), pl.col("all_reviews"))
        named = sourced.with_columns(numbers=numbers).filter(pl.col("numbers").list.len() > 0)
        report.numbers.add(named, _number_list())
    return report


def _rows_a_slice(plan: Plan) -> int:
    recipes = {planned.recipe for planned in plan.checkpoints}
    longest = max(plan.recipes[recipe].settings.window_chars for recipe in recipes)
    return min(_ROWS_A_SLICE, max(1, _CHARS_A_SLICE // longest))


def _beside_reviews(lake: Lake, plan: Plan, rows: pl.DataFrame) -> pl.DataFrame:
    """The summaries that contain a number, with their reviews."""
    numeric = rows.filter(has_number(pl.col("abstracted_summary")))
    chosen = set(numeric["checkpoint"].unique())
    keys = [planned.input_key for planned in plan.checkpoints if planned.number in chosen]
    reviews = [_reviews(content) for content in lake.get_many(keys)]
    return numeric.join(pl.concat([_reviews(None), *reviews]), on="product_id")


def _reviews(content: bytes | None) -> pl.DataFrame:
    """product_id and all_reviews of a checkpoint; empty if missing or damaged."""
    try:
        table = parse_table(content or b"", INPUT_SCHEMA, nullable=INPUT_NULLABLE)
    except ValueError:  # reported by the job that needs them
        table = pl.DataFrame(schema=INPUT_SCHEMA)
    return table.select("product_id", "all_reviews")


def _excerpt(defect: Defect) -> pl.Expr:
    """The part of a summary with the defect."""
    if defect is Defect.TRUNCATED:
        text = pl.col("abstracted_summary").fill_null("")
        return pl.concat_str(pl.lit("… "), text.str.tail(_EXCERPT_CHARS))
    if defect is Defect.LENGTH:
        return pl.format("{} words: {}", "words", _beginning())
    return _beginning()


def _number_list() -> pl.Expr:
    """``2.5, 30: the summary …`` for a product's table row."""
    found = pl.col("numbers").list.eval(pl.element().cast(pl.String).str.replace(r"\.0$", ""))
    return pl.format("{}: {}", found.list.join(", "), _beginning())


def _beginning() -> pl.Expr:
    text = pl.col("abstracted_summary").fill_null("")
    is_long = text.str.len_chars() > _EXCERPT_CHARS
    return pl.concat_str(
        text.str.head(_EXCERPT_CHARS), pl.when(is_long).then(pl.lit(" …")).otherwise(pl.lit(""))
    )


_COVERED_ROWS = 100_000


@dataclass(frozen=True)
class MergedCoverage:
    """The place of each selected product; ``missing_checkpoints`` contain the missing ones."""

    selected: int
    rows: int
    missing: Finding
    missing_checkpoints: frozenset[int]
    unplanned: Finding
    repeated: Finding
    quarantined: Finding


def cover(lake: Lake, plan: Plan, quarantined: Iterable[tuple[str, int, str]]) -> MergedCoverage:
    """Compare the merged table with the products of ``plan``; memory holds ids, not summaries.

    Args:
        lake: holds the table.
        plan: the current plan.
        quarantined: product id, checkpoint number and reason, of all valid checkpoints.

    Raises:
        CheckpointError: there is no merged table.
    """
    selected = read_table(lake, plan).filter("selected").select("product_id", "checkpoint")
    ids = pl.concat(rows.select("product_id") for rows in merged_slices(lake, _COVERED_ROWS))
    failed = pl.DataFrame(
        list(quarantined), schema={**selected.schema, "reason": pl.String}, orient="row"
    ).join(selected, on=["product_id", "checkpoint"])
    missing = selected.join(ids, on="product_id", how="anti").join(
        failed, on="product_id", how="anti"
    )
    unplanned = ids.join(selected, on="product_id", how="anti")
    times = ids.group_by("product_id").len("times").filter(pl.col("times") > 1).sort("product_id")
    key = pl.col("checkpoint").map_elements(partition_key, return_dtype=pl.String)
    return MergedCoverage(
        selected=selected.height,
        rows=ids.height,
        missing=Finding().add(missing, key),
        missing_checkpoints=frozenset(missing["checkpoint"].unique()),
        unplanned=Finding().add(unplanned, pl.lit("not selected by the plan")),
        repeated=Finding().add(times, pl.format("{} rows", "times")),
        quarantined=Finding().add(failed, pl.col("reason")),
    )
