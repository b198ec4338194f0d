from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from reviewsum_assets.checkpoints import review_window
from reviewsum_assets.checkpoints.review_window import SelectedTexts
from reviewsum_assets.settings import SummarySettings
from tests.support.checkpoints import grouped

TEXTS = {f"P{number}": f"text {number} and more" for number in range(10)} | {"none": None}
ORDER = ["P7", "none", "P1", "P2", "P9", "P3", "P4", "P0", "P8"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 20])
def test_texts_come_beside_their_plan_in_its_order_and_a_checkpoint_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    settings = SummarySettings(max_chars=6)
    monkeypatch.setattr(review_window, "CHARS_IN_MEMORY", 4 * settings.max_chars)
    planned = pl.DataFrame({"product_id": ORDER}).with_columns(
        checkpoint=pl.int_range(pl.len()) // size + 12
    )
    texts = SelectedTexts.copy(grouped(TEXTS), planned, settings, tmp_path)
    assert [batch.height for batch in texts.batches()] == [4, 4, 1]
    parts = list(texts.beside(planned))
    assert pl.concat(parts)["product_id"].to_list() == ORDER
    assert pl.concat(parts)["text"].to_list() == [t and t[:6] for t in map(TEXTS.get, ORDER)]
    numbers = [number for part in parts for number in part["checkpoint"].unique()]
    assert len(numbers) == len(set(numbers))
    assert all(part.height <= max(4, size) for part in parts)
    assert list(texts.beside(planned.clear())) == []
