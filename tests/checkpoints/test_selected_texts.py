from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from reviewsum_assets.checkpoints import review_window
from reviewsum_assets.checkpoints.review_window import SelectedTexts
from reviewsum_assets.settings import SummarySettings
from tests.support.checkpoints import grouped

SETTINGS = SummarySettings(max_chars=6)

TEXTS = {f"P{number}": f"text {number} and more" for number in range(10)} | {"none": None}


@pytest.fixture(autouse=True)
def _small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_window, "CHARS_IN_MEMORY", 4 * SETTINGS.max_chars)


def chosen(*products: str) -> pl.DataFrame:
    return pl.DataFrame({"product_id": products})


def test_only_what_is_selected_is_copied_and_no_more_characters_than_asked_for(
    tmp_path: Path,
) -> None:
    selected = chosen("P7", "none", "P1", "P2", "P9", "P3")
    texts = SelectedTexts.copy(grouped(TEXTS), selected, SETTINGS, tmp_path)
    batches = [batch.select("product_id", "text") for batch in texts.batches()]
    assert [batch.height for batch in batches] == [4, 2]
    expected: dict[str, str | None] = {f"P{number}": f"text {number}" for number in (7, 1, 2, 9, 3)}
    assert dict(pl.concat(batches).iter_rows()) == expected | {"none": None}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 20])
def test_texts_come_beside_their_plan_in_its_order_and_a_checkpoint_at_once(
    tmp_path: Path, size: int
) -> None:
    order = ["P7", "none", "P1", "P2", "P9", "P3", "P4", "P0", "P8"]
    planned = chosen(*order).with_columns(checkpoint=pl.int_range(pl.len()) // size + 12)
    texts = SelectedTexts.copy(grouped(TEXTS), planned, SETTINGS, tmp_path)
    parts = list(texts.beside(planned))
    together = pl.concat(parts)
    assert together["product_id"].to_list() == order
    beginnings = [text and text[: SETTINGS.max_chars] for text in map(TEXTS.get, order)]
    assert together["text"].to_list() == beginnings
    numbers = [number for part in parts for number in part["checkpoint"].unique()]
    assert len(numbers) == len(set(numbers))
    assert all(part.height <= max(4, size) for part in parts)


def test_a_plan_without_new_checkpoints_needs_no_text(tmp_path: Path) -> None:
    texts = SelectedTexts.copy(grouped(TEXTS), chosen("P1"), SETTINGS, tmp_path)
    empty = chosen("P1").with_columns(checkpoint=pl.lit(1)).clear()
    assert list(texts.beside(empty)) == []
