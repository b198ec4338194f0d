from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.cli.app import app
from reviewsum_assets.errors import CheckpointError, EvaluationError
from reviewsum_assets.evaluation import command
from reviewsum_assets.evaluation.report import EvaluationResult, SystemResult, print_tables
from reviewsum_assets.reviews.grouped import scan_grouped
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete
from tests.support.dumps import FORMATS, Review, write
from tests.support.jobs import FAST
from tests.support.ready_models import put_ready_model

# Reviews of three products, and the summaries of two people.
REVIEWS = {
    "B1": (
        "The sound is great.",
        "Great sound, weak battery.",
        "The battery is weak.",
        "I like it",
    ),
    "B2": ("It broke at once.", "Broke after a week.", "Nice color, but it broke.", "Never again"),
    "B3": ("Easy to clean.", "So easy to clean!", "It is heavy.", "Heavy, but easy to clean it is"),
}
REFERENCES = {
    "B1": ("Buyers like the great sound.", "The sound is great, but the battery is weak."),
    "B2": ("It has a nice color, but it broke.", "Buyers say that it broke after a week."),
    "B3": ("It is easy to clean and heavy.", "Heavy, but easy to clean."),
}
STARS = {"B1": 4, "B2": 1, "B3": 5}


@pytest.fixture
def dump(tmp_path: Path) -> str:
    """The reviews as published; the first is the most helpful one."""
    reviews = [
        Review(
            product, f"A{place}", f"{text} Said by a buyer.", rating=STARS[product], votes=-place
        )
        for product, texts in REVIEWS.items()
        for place, text in enumerate(texts, start=-4)
    ]
    return write(tmp_path / "dump.jsonl", FORMATS["2018"](reviews))


@pytest.fixture
def references(tmp_path: Path) -> Path:
    path = tmp_path / "references.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["product_id", "reference_1", "reference_2"])
        writer.writerows([product, *texts] for product, texts in REFERENCES.items())
    return path


def lake_of(folder: Path, dump: str, texts: dict[str, str], **settings: Any) -> Lake:
    """A lake with a merged table of these summaries."""
    lake = Lake.open(str(folder))
    chosen = load_settings(dumps=(dump,), min_reviews=4, **settings)
    record, _ = group_reviews(lake, chosen)
    plan = make_plan(lake, scan_grouped(lake, record), record.version, "model-1", chosen).plan
    complete(lake, plan, texts=texts)
    merge_checkpoints(lake, plan)
    return lake


def table(path: Path, texts: dict[str, str], columns: str = "product_id,abstracted_summary") -> str:
    lines = [columns, *(f'{product},"{text}"' for product, text in texts.items())]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def evaluated(
    references: Path,
    dump: str = "",
    on_step: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> EvaluationResult:
    settings = load_settings(
        dumps=(dump,) if dump else (), min_reviews=4, device="cpu", workers=1, **FAST
    )
    return command.evaluate(references, settings, on_step, **options)


def by_name(result: EvaluationResult) -> dict[str, SystemResult]:
    return {system.name: system for system in result.systems}


PERFECT = {product: texts[0] for product, texts in REFERENCES.items()}
COPIED = {product: texts[0] for product, texts in REVIEWS.items()}


def test_lakes_and_tables_are_compared_with_baselines_and_people(
    tmp_path: Path, dump: str, references: Path
) -> None:
    lake = lake_of(tmp_path / "copying", dump, COPIED)
    perfect = table(tmp_path / "perfect.csv", PERFECT)
    result = evaluated(references, lakes=(lake.uri,), tables=(f"ours={perfect}",))
    found = by_name(result)
    assert list(found) == [
        *("copying", "ours", "highlights", "lead sentences", "random review"),
        *("central review", "best review", "human"),
    ]
    assert (result.products, result.references_a_product, result.left_out) == (3, 2, {})
    # A perfect copy of one of two references scores 1 for it, and their similarity for the other.
    assert found["ours"].rouge_l.mean == pytest.approx((1 + found["human"].rouge_l.mean) / 2)
    assert found["ours"].rouge_l.mean > found["best review"].rouge_l.mean
    assert found["best review"].rouge_l.mean >= found["central review"].rouge_l.mean
    assert found["copying"].novelty == 0 < found["ours"].novelty
    # Of the products one has critical reviews only, the others have none.
    assert result.critical_reviews is not None
    assert result.critical_reviews.products == 3
    assert result.critical_reviews.share.mean == pytest.approx(1 / 3)
    for name in ("copying", "highlights"):
        assert found[name].supported == (1, 1, 1)
    assert found["lead sentences"].difference.low == found["lead sentences"].difference.high == 0
    expected = found["ours"].rouge_l.mean - found["lead sentences"].rouge_l.mean
    assert found["ours"].difference.mean == pytest.approx(expected)
    other = evaluated(
        references, lakes=(lake.uri,), tables=(f"ours={perfect}",), compared_with="ours"
    )
    assert by_name(other)["lead sentences"].difference.mean == pytest.approx(-expected)


@pytest.mark.parametrize(
    "planned",
    [
        {"strategy": "hierarchical", "max_chars": 40},
        {"strategy": "two_sided", "max_chars": 40},
        {"max_chars": 40},
    ],
)
def test_the_window_of_reviews_is_that_of_the_lakes_plan(
    tmp_path: Path, dump: str, references: Path, planned: dict[str, Any]
) -> None:
    lake = lake_of(tmp_path / "lake", dump, COPIED, **planned)
    found = by_name(evaluated(references, lakes=(lake.uri,)))["lake"]
    texts = {
        product: f"{' '.join(REVIEWS[product])}{' Said by a buyer.' * 4}" for product in COPIED
    }
    whole = [len(texts[p].split()) / len(COPIED[p].split()) for p in COPIED]
    if "strategy" in planned:
        assert found.compression == pytest.approx(sum(whole) / 3)
    else:
        assert found.compression < sum(whole) / 6


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("s3://b/env=prod/lake", ("lake", "s3://b/env=prod/lake")),
        ("/data/env=prod/table.csv", ("table", "/data/env=prod/table.csv")),
        ("ours=s3://b/env=prod/lake", ("ours", "s3://b/env=prod/lake")),
    ],
)
def test_a_folder_with_an_equals_sign_is_no_name(option: str, named: tuple[str, str]) -> None:
    assert command._named(option) == named


def test_systems_are_compared_on_the_products_that_all_have(
    tmp_path: Path, dump: str, references: Path
) -> None:
    whole = table(tmp_path / "whole.csv", PERFECT)
    part = table(tmp_path / "part.csv", {"B1": "Great sound.", "B9": "Of another dump."})
    result = evaluated(references, dump, tables=(whole, part))
    assert (result.products, result.left_out) == (1, {"part": 2})
    assert evaluated(references, dump, tables=(whole,)).products == 3


def test_a_model_summarizes_once_and_its_lake_is_reused(
    tmp_path: Path, dump: str, references: Path, pegasus: Path
) -> None:
    options: dict[str, Any] = {"models": (f"small={pegasus}",), "model_lakes": tmp_path / "lakes"}
    lake = Lake.open(str(tmp_path / "lakes" / "small"))
    put_ready_model(lake, pegasus)
    steps: list[str] = []
    first = evaluated(references, dump, steps.append, **options)
    assert any("small: checkpoint_00001 landed: 3 products" in step for step in steps)
    assert [planned.products for planned in require_plan(lake).checkpoints] == [3]
    before = lake.head(places.checkpoint_manifest(1))
    assert evaluated(references, dump, **options) == first
    assert lake.head(places.checkpoint_manifest(1)) == before


def test_reviews_that_came_grouped_have_no_baselines(tmp_path: Path, references: Path) -> None:
    rows = [f'{product},"{" ".join(texts)}",4' for product, texts in REVIEWS.items()]
    dump = tmp_path / "product_grouped.csv"
    dump.write_text("\n".join(["product_id,all_reviews,review_count", *rows]) + "\n")
    result = evaluated(references, str(dump), tables=(table(tmp_path / "ours.csv", PERFECT),))
    assert [system.name for system in result.systems] == ["ours", "human"]
    assert (result.compared_with, len(result.notes)) == ("ours", 1)
    ours = by_name(result)["ours"]
    assert (result.critical_reviews, ours.critical, ours.critical_gap) == (None, None, None)
    assert ours.supported is not None
    print_tables(Console(file=io.StringIO()), result)


def test_tables_and_json_hold_the_same_figures(
    tmp_path: Path, dump: str, references: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWSUM_MIN_REVIEWS", "4")
    call = ["evaluate", "--references", str(references), "--dump", dump, "--seed", "7"]
    call += ["--table", f"ours={table(tmp_path / 'any.csv', PERFECT)}", "--compare-with", "human"]
    printed = CliRunner().invoke(app, [*call, "--json"], catch_exceptions=False)
    result = EvaluationResult.model_validate_json(printed.stdout)
    assert (result.seed, result.compared_with, result.products) == (7, "human", 3)
    console = Console(file=io.StringIO(), width=80)
    print_tables(console, result)
    assert isinstance(console.file, io.StringIO)
    for system in result.systems:
        for interval in (
            *(system.rouge_l, system.supported, system.critical, system.critical_gap),
            *(system.repetition, system.repeated_sentences),
        ):
            assert interval is not None
            mean, low, high = (100 * value for value in interval)
            assert f"{mean:.1f} [{low:.1f}, {high:.1f}]" in console.file.getvalue()


def test_inputs_that_do_not_fit_together_are_named(
    tmp_path: Path, dump: str, references: Path
) -> None:
    ours = table(tmp_path / "ours.csv", PERFECT)
    strangers = table(tmp_path / "strangers.csv", {"X1": "Something else."})
    other = table(tmp_path / "other.csv", PERFECT, columns="id,text")
    twice = tmp_path / "twice.csv"
    twice.write_text("product_id,abstracted_summary\nB1,a\nB1,b\n")
    empty = Lake.open(str(tmp_path / "empty"))
    for options, message in (
        ({"tables": (strangers,)}, "no product is in all inputs.* reviews 3, strangers 0"),
        ({"tables": (other,)}, "has the columns id, text: expected product_id"),
        ({"tables": (str(twice),)}, "product B1 in several rows"),
        ({"tables": (str(tmp_path / "none.csv"),)}, r"none\.csv cannot be read"),
        ({"tables": (ours, f"ours={strangers}")}, "two systems are called ours"),
        ({"tables": (f"human={ours}",)}, "two systems are called human"),
        ({"tables": (ours,), "compared_with": "theirs"}, "cannot compare with 'theirs'.* ours, "),
        ({"tables": (ours,), "entailment_model": tmp_path / "none"}, "entailment model "),
    ):
        with pytest.raises(EvaluationError, match=message):
            evaluated(references, dump, **options)
    with pytest.raises(EvaluationError, match=r"empty has no grouped reviews.*--dump"):
        evaluated(references, lakes=(empty.uri,))
    with pytest.raises(CheckpointError, match=r"`reviewsum run`, or materialize merged_summa"):
        evaluated(references, dump, lakes=(empty.uri,))
