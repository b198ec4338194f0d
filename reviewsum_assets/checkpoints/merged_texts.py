"""The text of each row of the merged table: without repeated sentences, and as short as wished.

A product with sides is changed side by side: a sentence that both sides say stays on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reviewsum_assets.checkpoints.manifest import SummarizedProduct, SummaryRow
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint, read_planned_reviews
from reviewsum_assets.checkpoints.review_window import read_reviews
from reviewsum_assets.checkpoints.sides import Sides
from reviewsum_assets.reviews.evidence import shortened
from reviewsum_assets.reviews.sentences import SENTENCE_END, without_repeats
from reviewsum_assets.settings import MergeSettings
from reviewsum_assets.storage.lake import Lake


@dataclass(frozen=True)
class MergedTexts:
    """Makes the texts of the merged table from those of checkpoints."""

    lake: Lake
    settings: MergeSettings

    def of(
        self,
        planned: PlannedCheckpoint,
        rows: Sequence[SummaryRow],
        products: Mapping[str, SummarizedProduct],
    ) -> list[tuple[str, Sides | None]]:
        """The text of each row of one checkpoint, and its sides, if it has some.

        Args:
            planned: the checkpoint.
            rows: some of its rows.
            products: its summarized products by product_id.

        Raises:
            CheckpointError: a text is too long, and the reviews that decide are missing.
        """
        divided = [products[row.product_id].sides_of(row.abstracted_summary) for row in rows]
        parts: list[tuple[str, ...]] = [
            sides or (row.abstracted_summary,) for row, sides in zip(rows, divided, strict=True)
        ]
        if self.settings.repeated_sentences == "drop":
            parts = [tuple(map(without_repeats, some)) for some in parts]
        most = self.settings.summary_words
        if most and any(len(_joined(some)[0].split()) > most for some in parts):
            parts = list(self._limited(planned, rows, parts))
        return [_joined(some) for some in parts]

    def _limited(
        self,
        planned: PlannedCheckpoint,
        rows: Sequence[SummaryRow],
        parts: Iterable[tuple[str, ...]],
    ) -> Iterator[tuple[str, ...]]:
        """Shorten each part by the reviews that it was made of."""
        columns = "product_id", "all_reviews", "ratings"
        read = read_planned_reviews(self.lake, planned).select(columns)
        reviews = {product: (text or "", stars) for product, text, stars in read.iter_rows()}
        for row, some in zip(rows, parts, strict=True):
            text, stars = reviews[row.product_id]
            texts: tuple[str, ...] = (text,) if len(some) == 1 else Sides.of_window(text)
            words = _shares(some, self.settings.summary_words)
            yield tuple(
                shortened(part, most, *read)
                for part, most, read in zip(some, words, _separate(texts, stars), strict=True)
            )


def _joined(parts: tuple[str, ...]) -> tuple[str, Sides | None]:
    """The text of a row from its only part or its two sides, and the sides."""
    if len(parts) == 1:
        return parts[0], None
    sides = Sides(*parts)
    return sides.summary, sides


def _shares(parts: tuple[str, ...], words: int) -> tuple[int, ...]:
    """The words of each part: of sides one half each, or what the other leaves; labels count."""
    if len(parts) == 1:
        return (words,)
    liked, disliked = (len(part.split()) for part in parts)
    room = max(0, words - bool(liked) - bool(disliked))
    half = room // 2
    return max(half, room - disliked), max(room - half, room - liked)


def _separate(
    texts: Iterable[str], stars: list[float | None] | None
) -> Iterator[tuple[list[str], list[float | None]]]:
    """The reviews of each text with their stars; where they are not separate, its sentences."""
    start = 0
    for text in texts:
        lines = SENTENCE_END.split(text) if stars is None else read_reviews(text)
        end = start + len(lines)
        yield lines, [None] * len(lines) if stars is None else stars[start:end]
        start = end
