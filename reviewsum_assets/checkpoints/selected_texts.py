"""The texts of selected products on local disk, so that grouped reviews are read once.

However many products there are, memory holds as many of their texts as ``CHARS_IN_MEMORY`` allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reviewsum_assets.checkpoints.review_window import windows
from reviewsum_assets.settings import SummarySettings

# Of 50,000 products of 3,500 characters, or of 875 that are read in full: about 200 MB.
CHARS_IN_MEMORY = 175_000_000
_ROWS_A_GROUP = 10_000


@dataclass(frozen=True)
class SelectedTexts:
    """The window of each selected product's reviews, in no particular order.

    ``directory`` is a local one that holds nothing else. So many products are held in memory.
    """

    directory: Path
    products_in_memory: int

    @classmethod
    def copy(
        cls,
        grouped: pl.LazyFrame,
        products: pl.DataFrame,
        settings: SummarySettings,
        directory: Path,
    ) -> SelectedTexts:
        """Copy the texts of ``products`` out of the grouped reviews.

        Args:
            grouped: one row a product, as ``review_window.windows`` takes it.
            products: those to take, by product_id.
            settings: say which part of each text is taken.
            directory: where to.
        """
        texts = cls(directory, max(1, CHARS_IN_MEMORY // settings.window_chars))
        # Not a semi-join, which holds all texts in memory.
        is_chosen = pl.col("product_id").is_in(products["product_id"].implode())
        windows(grouped.filter(is_chosen), settings).sink_parquet(
            texts._path,
            compression="lz4",
            row_group_size=min(_ROWS_A_GROUP, texts.products_in_memory),
        )
        return texts

    def batches(self) -> Iterator[pl.DataFrame]:
        """``review_window.windows``, of as many products at a time as memory bears."""
        scan = pl.scan_parquet(self._path)
        rows = scan.select(pl.len()).collect().item()
        for start in range(0, rows, self.products_in_memory):
            yield scan.slice(start, self.products_in_memory).collect()

    def beside(self, planned: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Rows of ``planned`` with the columns of ``windows``; a checkpoint's rows come together.

        Args:
            planned: product_id and checkpoint, in the order of checkpoints; its order is kept.
        """
        if planned.is_empty():
            return
        largest = planned.group_by("checkpoint").len()["len"].max()
        assert isinstance(largest, int)
        # Slices end between checkpoints; one checkpoint too large for memory is a slice by itself.
        place = pl.col("checkpoint") - planned["checkpoint"].min()
        sliced = planned.with_columns(slice=place // max(1, self.products_in_memory // largest))
        self._scatter(sliced)
        for (number,), rows in sliced.partition_by(
            "slice", as_dict=True, include_key=False, maintain_order=True
        ).items():
            folder = self._folder(number)
            texts = pl.read_parquet(folder / "*.parquet")
            yield rows.join(texts, on="product_id", how="left", maintain_order="left")

    def _scatter(self, sliced: pl.DataFrame) -> None:
        """Write the texts of each slice to a folder of its own."""
        for count, batch in enumerate(self.batches()):
            found = batch.join(sliced.select("product_id", "slice"), on="product_id")
            parts = found.partition_by("slice", as_dict=True, include_key=False)
            for (number,), part in parts.items():
                folder = self._folder(number)
                folder.mkdir(exist_ok=True)
                part.write_parquet(folder / f"{count}.parquet", compression="lz4")

    def _folder(self, number: object) -> Path:
        return self.directory / f"slice_{number}"

    @property
    def _path(self) -> Path:
        return self.directory / "texts.parquet"
