"""``reviewsum``: the command line.

Exit codes: 0 all is well; 1 something failed or is off, and was named; 2 the call itself is
wrong; 130 interrupted.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from reviewsum_assets import lake as places
from reviewsum_assets.checkpoints.status import LakeStatus, lake_status, verify_lake
from reviewsum_assets.checkpoints.validity import Validity
from reviewsum_assets.errors import ReviewsumError, RunInterrupted, SettingsError
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from reviewsum_assets.assets.pipeline import StageProgress
    from reviewsum_assets.compute.estimate import Estimate
    from reviewsum_assets.local_run import RunReport

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From raw product reviews to one trustworthy summary per product.",
    epilog="Exit codes: 0 all is well, 1 something failed or is off, 2 wrong call, "
    "130 interrupted.",
)
# Standard output carries results only, so that --json can be piped.
_out = Console()
_err = Console(stderr=True)

LakeOption = Annotated[
    str | None, typer.Option("--lake", help="Directory or s3://bucket/prefix that holds all data.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output.")
]


class RunResult(BaseModel):
    """What ``reviewsum run --json`` prints."""

    lake: str
    merged_csv: str
    merged_parquet: str
    plan: int
    checkpoints: int
    checkpoints_computed: int
    products: int
    products_quarantined: int
    chunks: int
    demo_model: bool
    did_nothing: bool
    seconds: float


class CheckpointReport(BaseModel):
    """One checkpoint in ``reviewsum status --json``."""

    checkpoint: int
    state: str
    reason: str
    products: int


class StatusResult(BaseModel):
    """What ``reviewsum status --json`` prints; no plan yet: everything zero."""

    lake: str
    plan: int | None
    checkpoints: list[CheckpointReport]
    products_selected: int
    products_summarized: int
    products_quarantined: int
    products_pending: int
    merged: bool


class VerifyResult(BaseModel):
    """What ``reviewsum verify --json`` prints."""

    lake: str
    ok: bool
    problems: list[str]


@app.command()
def run(
    lake: LakeOption = None,
    dump: Annotated[
        list[str] | None,
        typer.Option(help="Read this dump in place of the lake's review_dumps/; may be repeated."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model directory, lake path, NAME@REVISION on the hub, or demo."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Products to summarize.")] = None,
    checkpoint_size: Annotated[int | None, typer.Option(help="Products a checkpoint.")] = None,
    compute: Annotated[
        str | None, typer.Option(help="Where jobs run: local, or sagemaker.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Plan, then print the request to SageMaker; start nothing."),
    ] = False,
    as_json: JsonOption = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show Dagster's log on standard error.")
    ] = False,
) -> None:
    """Read dumps, plan, summarize what is missing and merge; run again to resume or to update."""
    # Dagster takes a second to import, which status and verify need not pay.
    # Its warnings are for developers of assets, not for users of the command.
    warnings.filterwarnings("ignore", module="dagster")
    from reviewsum_assets import local_run
    from reviewsum_assets.assets.pipeline import Pipeline
    from reviewsum_assets.dagster_home import persistent_instance

    settings = _settings(
        lake=lake,
        dumps=tuple(dump) if dump else None,
        model=model,
        top_k=top_k,
        checkpoint_size=checkpoint_size,
        compute=compute,
    )
    with persistent_instance() as instance, _ProgressBars() as bars:
        pipeline = Pipeline(settings, on_progress=bars.update_stage)
        if local_run.seed_empty_lake(pipeline):
            _err.print(f"{pipeline.lake.uri} is empty: using the sample reviews", soft_wrap=True)
        level = "INFO" if verbose else "CRITICAL"  # failures are printed once, by main()
        if dry_run:
            request = local_run.dry_run(instance, pipeline, log_level=level)
            sys.stdout.write(json.dumps(request, indent=2) + "\n")
            return
        report = local_run.materialize_pending(instance, pipeline, log_level=level)
    result = _run_result(pipeline.lake, report)
    if as_json:
        _print_json(result)
    else:
        _print_run(result)


@app.command()
def status(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Show every checkpoint's state, from the lake alone."""
    opened = Lake.open(_settings(lake=lake).lake)
    found = lake_status(opened)
    result = _status_result(opened, found)
    if as_json:
        _print_json(result)
    elif found is None:
        _out.print(f"{opened.uri} holds no plan yet: `reviewsum run` makes one")
    else:
        _print_status(result)


@app.command("estimate")
def estimate_pending(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Show what the pending checkpoints will take, in time and money, before it is spent."""
    # Polars and the tokenizer take seconds to import, which other commands need not pay.
    from reviewsum_assets.compute import compute_for
    from reviewsum_assets.compute.estimate import estimate

    settings = _settings(lake=lake)
    opened = Lake.open(settings.lake)
    found = lake_status(opened)
    result = estimate(
        opened,
        None if found is None else found.plan,
        [] if found is None else [state.planned for state in found.incomplete],
        settings,
        compute_for(settings, opened).capacity,
    )
    if as_json:
        _print_json(result)
    elif not result.checkpoints:
        _out.print(f"{opened.uri}: {result.basis}", soft_wrap=True)
    else:
        _print_estimate(result)


@app.command()
def verify(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Check every manifest, CSV and the merged table against the plan."""
    opened = Lake.open(_settings(lake=lake).lake)
    problems = verify_lake(opened)
    if as_json:
        _print_json(VerifyResult(lake=opened.uri, ok=not problems, problems=problems))
    else:
        for problem in problems:
            _out.print(problem, style="red", markup=False, highlight=False)
        _out.print(f"{len(problems)} problems" if problems else "all is well")
    if problems:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def package(
    directory: Annotated[Path, typer.Argument(help="Where to write; made if need be.")],
) -> None:
    """Write what a Processing job started by other means needs: code, requirements, archive."""
    from reviewsum_assets.compute.job_package import build_package, write

    built = build_package()
    write(built, directory)
    _out.print(f"{', '.join(sorted(built.files))} are in {directory}", soft_wrap=True)


def main() -> None:
    """Entry point of the console script: errors end it with their message, not a traceback."""
    try:
        app()
    except SettingsError as error:
        _fail(error, EXIT_USAGE)
    except RunInterrupted as error:
        _fail(error, EXIT_INTERRUPTED)
    except ReviewsumError as error:
        _fail(error, EXIT_FAILED)


def _fail(message: object, code: int) -> None:
    _err.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


def _settings(**options: Any) -> Settings:
    """Settings from the environment and the options that were given."""
    return load_settings(**{name: value for name, value in options.items() if value is not None})


class _ProgressBars(Progress):
    """One bar a stage on standard error, with rate and time left."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description:>16}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=_err,
        )
        self._stages: dict[str, TaskID] = {}

    def update_stage(self, stage: StageProgress) -> None:
        """Show how far a stage is."""
        if stage.stage not in self._stages:
            self._stages[stage.stage] = self.add_task(stage.stage, rate="", detail="")
        task = self.tasks[self._stages[stage.stage]]
        rate = "" if not task.speed or stage.unit == "bytes" else f"{task.speed:.1f} {stage.unit}/s"
        self.update(
            task.id, completed=stage.done, total=stage.total, rate=rate, detail=stage.detail
        )


def _run_result(lake: Lake, report: RunReport) -> RunResult:
    plan, manifests = report.status.plan, [state.manifest for state in report.status.states]
    return RunResult(
        lake=lake.uri,
        merged_csv=lake.uri_of(places.MERGED_CSV),
        merged_parquet=lake.uri_of(places.MERGED_PARQUET),
        plan=plan.sequence,
        checkpoints=len(plan.checkpoints),
        checkpoints_computed=len(report.computed),
        products=report.status.summarized,
        products_quarantined=report.status.quarantined,
        chunks=sum(manifest.chunks for manifest in manifests if manifest is not None),
        demo_model=report.demo_model,
        did_nothing=report.did_nothing,
        seconds=round(report.seconds, 2),
    )


def _print_run(result: RunResult) -> None:
    table = Table(Column(style="dim"), Column(overflow="fold"), show_header=False, box=None)
    for name, value in (
        ("summaries", result.merged_csv),
        ("", result.merged_parquet),
        ("products", f"{result.products:,} ({result.products_quarantined:,} quarantined)"),
        ("chunks", f"{result.chunks:,}"),
        ("checkpoints", f"{result.checkpoints:,} ({result.checkpoints_computed:,} computed now)"),
        ("seconds", f"{result.seconds:,.1f}"),
    ):
        table.add_row(name, value)
    if result.did_nothing:
        _out.print("Nothing to do: everything is up to date.")
    _out.print(table)
    if result.demo_model:
        _out.print(
            "These summaries come from the demo model. For real ones name a real model, e.g. "
            "--model DIRECTORY_OF_google/pegasus-cnn_dailymail.",
            style="yellow",
        )


def _status_result(lake: Lake, found: LakeStatus | None) -> StatusResult:
    if found is None:
        return StatusResult(
            lake=lake.uri,
            plan=None,
            checkpoints=[],
            products_selected=0,
            products_summarized=0,
            products_quarantined=0,
            products_pending=0,
            merged=False,
        )
    reports = [
        CheckpointReport(
            checkpoint=state.planned.number,
            state=state.validity.value,
            reason=state.reason,
            products=state.planned.products,
        )
        for state in found.states
    ]
    reports += [
        CheckpointReport(
            checkpoint=planned.number,
            state="retired",
            reason="newer checkpoints hold its products, or none is selected",
            products=planned.products,
        )
        for planned in found.plan.retired
    ]
    return StatusResult(
        lake=lake.uri,
        plan=found.plan.sequence,
        checkpoints=sorted(reports, key=lambda report: report.checkpoint),
        products_selected=found.plan.selected,
        products_summarized=found.summarized,
        products_quarantined=found.quarantined,
        products_pending=found.pending,
        merged=found.is_merged,
    )


def _print_status(result: StatusResult) -> None:
    table = Table("checkpoint", "state", "products", "reason", box=None)
    colours = {Validity.VALID.value: "green", "retired": "dim"}
    for report in result.checkpoints:
        table.add_row(
            str(report.checkpoint),
            Text(report.state, style=colours.get(report.state, "red")),
            str(report.products),
            Text(report.reason),
        )
    _out.print(table)
    _out.print(
        f"plan {result.plan}: {result.products_summarized:,} of {result.products_selected:,} "
        f"products summarized, {result.products_quarantined:,} quarantined, "
        f"{result.products_pending:,} pending; merged table is "
        f"{'up to date' if result.merged else 'not up to date'}"
    )


def _print_estimate(result: Estimate) -> None:
    table = Table("pending", Column(justify="right"), Column("range", justify="right"), box=None)
    for name, count in (
        ("checkpoints", result.checkpoints),
        ("products", result.products),
        ("chunks", result.chunks),
        ("tokens in", result.tokens_in),
        ("tokens out", result.tokens_out),
    ):
        table.add_row(name, f"{count:,}", "")
    for name, span, unit in (
        ("worker time", result.worker_seconds.times(1 / 60), "min"),
        ("GPU time", result.gpu_hours.times(60), "min"),
        ("wall-clock", result.hours.times(60), "min"),
        ("bill", result.usd, "USD"),
    ):
        low, expected, high = (f"{v:,.2f}" for v in (span.low, span.expected, span.high))
        table.add_row(name, f"{expected} {unit}", f"{low} to {high}")
    _out.print(table)
    _out.print(f"{result.instances} x {result.instance_type}, {result.workers} workers")
    _out.print(f"basis: {result.basis}", highlight=False)


def _print_json(result: BaseModel) -> None:
    sys.stdout.write(result.model_dump_json(indent=2) + "\n")
