"""Options, consoles that hostile text cannot control, and results that commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
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

from reviewsum_assets.checkpoints.validity import Validity
from reviewsum_assets.lake_state import LakeStatus
from reviewsum_assets.settings import Settings, load_settings
from reviewsum_assets.storage.lake import Lake

if TYPE_CHECKING:
    from reviewsum_assets.assets.pipeline import StageProgress
    from reviewsum_assets.compute.estimate import Estimate


LakeOption = Annotated[
    str | None, typer.Option("--lake", help="Directory or s3://bucket/prefix that holds all data.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output.")
]


def chosen_settings(**options: Any) -> Settings:
    """Settings from the environment and the options that were given."""
    return load_settings(**{name: value for name, value in options.items() if value is not None})


def printable(text: str) -> str:
    """A text with escapes in place of control characters, so that it cannot control a terminal."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


class _Console(Console):
    """Shows control characters as escapes: text of dumps must not control a terminal."""

    def say(self, text: str, style: str | None = None, end: str = "\n") -> None:
        """Print a text literally and unbroken, so that paths can be copied."""
        self.print(
            printable(text), style=style, end=end, markup=False, highlight=False, soft_wrap=True
        )

    def entry(self, name: str, text: str) -> None:
        """Print a name and a text; a table would break paths at the edge of the terminal."""
        line = f"[dim]{escape(name):>12}[/dim]  {escape(text)}"
        self.print(line, soft_wrap=True, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


# Standard output carries results only, so that --json can be piped.
out = _Console()
err = _Console(stderr=True)


def warn_of_another_lake(uri: str) -> None:
    """Assign the Dagster home to a lake; warn if another one used it last."""
    from reviewsum_assets.assets.dagster_home import note_lake

    if before := note_lake(uri):
        err.say(
            f"warning: this Dagster home was used for another lake, {before}, whose partition "
            f"states are replaced: for {uri} set DAGSTER_HOME to a home of its own",
            "yellow",
        )


class RunResult(BaseModel):
    """Output of ``reviewsum run --json``."""

    lake: str
    merged_csv: str
    merged_parquet: str
    report: str
    plan: int
    checkpoints: int
    checkpoints_computed: int
    products: int
    products_quarantined: int
    reviews: int
    rows_quarantined: int
    quarantine: str | None
    chunks: int
    demo_model: bool
    warnings: list[str]
    did_nothing: bool
    seconds: float


class CheckpointReport(BaseModel):
    """One checkpoint in ``reviewsum status --json``."""

    checkpoint: int
    state: str
    reason: str
    products: int


class StatusResult(BaseModel):
    """Output of ``reviewsum status --json``; without a plan all numbers are zero."""

    lake: str
    plan: int | None = None
    checkpoints: list[CheckpointReport] = []
    products_selected: int = 0
    products_summarized: int = 0
    products_quarantined: int = 0
    products_pending: int = 0
    merged: bool = False
    # Difference from the plan before; products gone by cause, empty before the second plan.
    products_new: int = 0
    products_changed: int = 0
    products_gone: dict[str, int] = {}
    planned_otherwise: list[str] = []  # changed input and settings since the plan


class ProgressBars(Progress):
    """One bar per stage on standard error, with rate and time left."""

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
            console=err,
        )
        self._stages: dict[str, TaskID] = {}

    def update_stage(self, stage: StageProgress) -> None:
        """Show the progress of a stage."""
        if stage.stage not in self._stages:
            self._stages[stage.stage] = self.add_task(stage.stage, rate="", detail="")
        task = self.tasks[self._stages[stage.stage]]
        rate = "" if not task.speed or stage.unit == "bytes" else f"{task.speed:.1f} {stage.unit}/s"
        self.update(
            task.id, completed=stage.done, total=stage.total, rate=rate, detail=stage.detail
        )


def print_run(result: RunResult) -> None:
    """Print the result of a run."""
    if result.did_nothing:
        out.print("Nothing to do: everything is up to date.")
    rows = f"{result.reviews:,}"
    if result.rows_quarantined:
        rows += f"; {result.rows_quarantined:,} rows could not be read: {result.quarantine}"
    for name, value in (
        ("summaries", result.merged_csv),
        ("", result.merged_parquet),
        ("report", result.report),
        ("products", f"{result.products:,} ({result.products_quarantined:,} quarantined)"),
        ("reviews", rows),
        ("chunks", f"{result.chunks:,}"),
        ("checkpoints", f"{result.checkpoints:,} ({result.checkpoints_computed:,} computed now)"),
        ("seconds", f"{result.seconds:,.1f}"),
    ):
        out.entry(name, value)
    for warning in result.warnings:
        out.say(f"warning: {warning}", "yellow")
    if result.demo_model:
        out.say(
            "These summaries come from the demo model. For real ones choose a real model, e.g. "
            "--model DIRECTORY_OF_google/pegasus-cnn_dailymail.",
            "yellow",
        )


_RETIRED = "newer checkpoints hold its products, or none is selected"


def status_result(
    lake: Lake, found: LakeStatus | None, differences: Sequence[str] = ()
) -> StatusResult:
    """State of every checkpoint, counts, and differences; zero before the first plan."""
    if found is None:
        return StatusResult(lake=lake.uri)
    states = [(state.planned, state.validity.value, state.reason) for state in found.checkpoints]
    states += [(planned, "retired", _RETIRED) for planned in found.plan.retired]
    reports = [
        CheckpointReport(
            checkpoint=planned.number, state=state, reason=reason, products=planned.products
        )
        for planned, state, reason in states
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
        products_new=found.plan.new,
        products_changed=found.plan.changed,
        products_gone={} if found.plan.vanished is None else found.plan.vanished.by_cause,
        planned_otherwise=list(differences),
    )


def print_status(result: StatusResult) -> None:
    """Print every checkpoint as a table."""
    if result.plan is None:
        out.say(f"{result.lake} holds no plan yet: `reviewsum run` makes one")
        return
    table = Table("checkpoint", "state", "products", "reason", box=None)
    colours = {Validity.VALID.value: "green", "retired": "dim"}
    for report in result.checkpoints:
        table.add_row(
            str(report.checkpoint),
            Text(report.state, style=colours.get(report.state, "red")),
            str(report.products),
            Text(printable(report.reason)),
        )
    out.print(table)
    out.print(
        f"plan {result.plan}: {result.products_summarized:,} of {result.products_selected:,} "
        f"products summarized, {result.products_quarantined:,} quarantined, "
        f"{result.products_pending:,} pending; merged table is "
        f"{'up to date' if result.merged else 'not up to date'}"
    )
    if any(result.products_gone.values()):
        causes = (
            f"{count:,} {name.replace('_', ' ')}" for name, count in result.products_gone.items()
        )
        out.print(f"gone since the plan before: {', '.join(causes)}")
    if result.planned_otherwise:
        print_differences(result.planned_otherwise)


def print_differences(differences: Sequence[str]) -> None:
    """Warn that the next run replaces the plan that the output describes."""
    err.say(
        "the current plan was made from other input than that of this environment: "
        f"{'; '.join(differences)}. `reviewsum run` plans again; with --dry-run it shows the bill "
        "and changes nothing",
        "yellow",
    )


def print_estimate(result: Estimate) -> None:
    """Print an estimate as a table."""
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
    out.print(table)
    out.print(f"{result.instances} x {result.instance_type}, {result.workers} workers")
    out.print(f"basis: {result.basis}", highlight=False)


def show(result: BaseModel, as_json: bool, print_it: Callable[[Any], None]) -> None:
    """Print a result as JSON or for people."""
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_it(result)


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on standard output, in ASCII, which is equal in every encoding."""
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
