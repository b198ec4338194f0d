from __future__ import annotations

from pathlib import Path

import pytest

from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.evaluation.systems import read_references


def written(folder: Path, content: str) -> Path:
    path = folder / "references.csv"
    path.write_text(content)
    return path


def test_every_reference_column_counts_and_others_are_passed_over(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "product_id,category,reference_1,reference_2\n"
        '1,shoes,"Good, but small.",Fits.\n2,,Nice.,\n',
    )
    assert read_references(path) == {"1": ("Good, but small.", "Fits."), "2": ("Nice.",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("product_id,summary\n1,Good.\n", "columns product_id, summary: expected product_id and"),
        ("asin,reference_1\n1,Good.\n", "columns asin, reference_1: expected product_id and"),
        ("product_id,reference_1\n1,Good.\n1,Bad.\n", "product 1 is there twice"),
        ("product_id,reference_1\n,Good.\n", "a row has no product_id"),
        ("product_id,reference_1\n1,\n", "product 1 has no summary in Latin letters"),
        ("product_id,reference_1\n1,хорошо\n", "product 1 has no summary in Latin letters"),
        ("product_id,reference_1\n", "have no row"),
        ("", "cannot be read as CSV"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        read_references(written(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"none\.csv cannot be read"):
        read_references(tmp_path / "none.csv")
