"""What the asset checks find in real runs, and what a run does then."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from reviewsum_assets.assets.checks import merged_summaries_checks
from reviewsum_assets.assets.quality_checks import summary_quality_checks
from reviewsum_assets.checkpoints.plan import current_plan, require_plan
from reviewsum_assets.cli.local_run import materialize_pending
from reviewsum_assets.errors import CheckError
from reviewsum_assets.reviews.grouped import RECORD, current_grouped_reviews
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.assets.conftest import Planned
from tests.support.checkpoints import complete
from tests.support.lake_records import rewrite
from tests.support.pipeline import SmallPipeline, failure, texts, write_dump

# Long enough, a sentence, and of its reviews' numbers: nothing is wrong with it.
GOOD = "Buyers say that the sound is good, but not the battery."
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


@pytest.fixture
def small(planned: Planned) -> SmallPipeline:
    """Eight products in four checkpoints, planned; no defect is allowed."""
    return planned(8, max_defective_share=0.0)


def summarized(small: SmallPipeline, bad: Mapping[str, str] | None = None, **how: Any) -> None:
    """Write the checkpoints: good summaries, but for ``bad`` ones."""
    written = {**dict.fromkeys(texts(8), GOOD), **(bad or {})}
    complete(small.pipeline.lake, require_plan(small.pipeline.lake), texts=written, **how)


def evaluations(run: Any) -> dict[str, dg.AssetCheckEvaluation]:
    """A run's check results by name."""
    return {found.check_name: found for found in run.get_asset_check_evaluations()}


def failed(run: Any) -> set[str]:
    return {name for name, found in evaluations(run).items() if not found.passed}


def require_findings(
    run: Any, found: Mapping[str, str], severity: dg.AssetCheckSeverity = WARN
) -> None:
    """Require that these checks fail, and no others, with one example each."""
    assert failed(run) == found.keys()
    for name, example in found.items():
        check = evaluations(run)[name]
        assert check.severity is severity
        assert f"| {example} |" in str(check.metadata["examples"].value)
        assert str(check.metadata["what_to_do"].value) in str(check.description)


def check_again(small: SmallPipeline, *names: str) -> Any:
    """Execute checks of the merged table without an asset, all or some, as the UI does."""
    keys = [dg.AssetCheckKey(dg.AssetKey("merged_summaries"), name) for name in names]
    chosen = dg.AssetSelection.checks(*keys) if keys else dg.AssetSelection.all_asset_checks()
    job = dg.Definitions(
        asset_checks=[merged_summaries_checks, summary_quality_checks],
        jobs=[dg.define_asset_job("checks", selection=chosen)],
        resources={"pipeline": small.pipeline},
    ).resolve_job_def("checks")
    return job.execute_in_process(instance=small.instance, raise_on_error=False)


def test_a_good_table_passes_until_dumps_or_plan_are_newer(small: SmallPipeline) -> None:
    summarized(small)
    run = small.execute("merge")
    assert (run.success, failed(run), len(evaluations(run))) == (True, set(), 13)
    for name in ("up_to_date", "no_loops"):
        assert evaluations(check_again(small, name)).keys() == {name}
    dump = Path(small.pipeline.settings.dumps[0])
    content = dump.read_bytes()
    write_dump(dump, texts(9))
    run = check_again(small)
    assert (run.success, failed(run)) == (True, {"up_to_date"})
    assert "dump.csv |" in str(evaluations(run)["up_to_date"].metadata["examples"].value)
    dump.write_bytes(content)
    assert small.with_settings(top_k=4).execute("ingest").success
    found = evaluations(check_again(small))
    assert "checkpoint\\_plan" in str(found["up_to_date"].metadata["examples"].value)
    assert found["only_planned_products"].metadata["found"].value == 4


FOUND = {
    "whole_sentences": "P000",
    "no_loops": "P001",
    "no_placeholders": "P002",
    "in_english": "P003",
    "sensible_length": "P004",
    "numbers_from_reviews": "P005 | 45: Buyers say that the sound is good for 45 hours.",
}
BAD = {
    "P000": "Buyers say that the sound of this one is good, but that the",
    "P001": f"Buyers say that {'the sound is good and ' * 9}that is all.",
    "P002": "Buyers say that the sound is good, see www.example.com for more.",
    "P003": "Die Käufer sagen, dass der Klang gut ist, der Akku aber leider schwach ausfällt.",
    "P004": "It is good.",
    "P005": "Buyers say that the sound is good for 45 hours.",
}


def test_each_defect_is_a_warning_that_names_the_product_and_what_to_do(
    small: SmallPipeline,
) -> None:
    summarized(small, BAD)
    run = small.execute("merge")
    assert run.success
    for name, product in FOUND.items():
        found = evaluations(run)[name]
        assert found.metadata["found"].value == 1
        assert f"| {product}" in str(found.metadata["examples"].value)
    assert failed(run) == FOUND.keys()
    assert {found.severity for name, found in evaluations(run).items() if name in FOUND} == {WARN}
    run = small.with_settings(max_defective_share=0.125).execute("merge")
    assert failed(run) == {"numbers_from_reviews"}, "which is a share of those with numbers"
    found = evaluations(run)["sensible_length"]
    assert (found.metadata["share"].value, found.metadata["of"].value) == (0.125, 8)
    assert "| P004 |" in str(found.metadata["examples"].value)


def test_a_run_stops_at_an_empty_summary_reports_other_defects_and_forgets_neither(
    small: SmallPipeline,
) -> None:
    summarized(small, {"P003": " "})
    for _ in range(2):
        with pytest.raises(CheckError, match=r"no_empty_summaries: 1 of 8 .* `recompute`"):
            materialize_pending(small.instance, small.pipeline, log_level="CRITICAL")
    summarized(small, {"P004": "It is good."})
    report = materialize_pending(small.instance, small.pipeline, log_level="CRITICAL")
    warning, unsupported = sorted(report.warnings)
    assert warning.startswith("merged_summaries: sensible_length: 1 of 8 summaries")
    assert unsupported.startswith("summary_evidence: sentences_have_support")
    again = materialize_pending(small.instance, small.pipeline, log_level="CRITICAL")
    assert again.did_nothing


def test_what_is_missing_or_in_quarantine_is_accounted_for_and_warned_of(
    small: SmallPipeline,
) -> None:
    summarized(small, numbers=(1, 2, 4))
    run = small.execute("merge", merged_summaries={"config": {"allow_incomplete": True}})
    assert run.success
    require_findings(run, {"all_accounted_for": "P004 | checkpoint\\_00003"})
    assert evaluations(run)["all_accounted_for"].metadata["found"].value == 2
    summarized(small, poison=["P002"])
    run = small.execute("merge")
    assert run.success
    require_findings(run, {"few_in_quarantine": "P002 | poison"})
    few = small.with_settings(max_quarantined_share=0.125)
    assert failed(few.execute("merge")) == set()


def test_a_table_that_lost_and_gained_rows_fails(small: SmallPipeline) -> None:
    summarized(small)
    small.execute("merge")
    lake = small.pipeline.lake
    table = pl.read_parquet(io.BytesIO(lake.get(places.MERGED_PARQUET) or b""))
    stranger = table.head(1).with_columns(product_id=pl.lit("X1"))
    content = io.BytesIO()
    pl.concat([table.tail(7), table.tail(1), stranger]).write_parquet(content)
    lake.put(places.MERGED_PARQUET, content.getvalue())
    run = check_again(small)
    assert not run.success
    found = {
        "all_accounted_for": "P000 | checkpoint\\_00001",
        "one_row_a_product": "P007 | 2 rows",
        "only_planned_products": "X1 | not selected by the plan",
    }
    require_findings(run, found, ERROR)


def test_rows_that_could_not_be_read_and_a_dump_that_breaks_off_are_named(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    whole = write_dump(tmp_path / "whole.csv", {"": "no product id", **texts(200)}).read_bytes()
    dump = tmp_path / "dump.csv.gz"
    dump.write_bytes(gzip.compress(whole)[:-200])
    run = SmallPipeline.build(instance, lake, pegasus, dump).execute("ingest")
    assert run.success
    assert failed(run) <= {"rows_are_readable", "dumps_are_whole"}
    assert evaluations(run).keys() == {
        "one_row_a_product",
        "rows_are_readable",
        "fields_are_readable",
        "dumps_are_whole",
    }
    rows, whole_dumps = (
        evaluations(run)[name] for name in ("rows_are_readable", "dumps_are_whole")
    )
    assert "dump.csv.gz, line 2 | no product id |" in str(rows.metadata["examples"].value)
    assert str(whole_dumps.description).startswith("1 of 1 dumps are damaged; rows before")
    assert "dump.csv.gz" in str(whole_dumps.metadata["examples"].value)


def test_no_plan_is_made_of_products_in_two_rows(small: SmallPipeline) -> None:
    lake = small.pipeline.lake
    before = current_plan(lake)
    grouped = current_grouped_reviews(lake)
    assert grouped is not None
    table = pl.read_parquet(io.BytesIO(lake.get(grouped.tables[0]) or b""))
    content = io.BytesIO()
    pl.concat([table, table.head(1)]).write_parquet(content)
    lake.put(grouped.tables[0], content.getvalue())
    rewrite(lake, RECORD, lambda record: record.update(sha256={}))  # not damaged, but wrong
    other = small.with_settings(top_k=5)
    with pytest.raises(CheckError, match=r"grouped_reviews: one_row_a_product: 1 of 8 products"):
        materialize_pending(other.instance, other.pipeline, log_level="CRITICAL")
    assert current_plan(lake) == before


def test_fields_that_could_not_be_read_are_named_with_values_and_a_plan_without_products_says_why(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    rows = [f"P1,This text is long enough to be kept {n},good{n},2020-01-15" for n in range(4)]
    dump = tmp_path / "dump.csv"
    dump.write_text("\n".join(["product_id,review_text,rating,review_date", *rows]))
    run = SmallPipeline.build(instance, lake, pegasus, dump).execute("ingest")
    assert failed(run) == {"fields_are_readable"}
    check = evaluations(run)["fields_are_readable"]
    assert check.severity is WARN
    assert "rating of" in str(check.description)
    assert "(not 'good0', 'good1', 'good2')" in str(check.description)
    assert (check.metadata["found"].value, check.metadata["of"].value) == (1, 2)
    assert "no product is left of 4 reviews: 1 products have fewer than 5" in failure(run)
