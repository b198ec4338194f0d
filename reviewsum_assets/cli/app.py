"""``reviewsum``: the command line.

Exit codes: 0 all is well; 1 something failed or is off, and was named; 2 the call itself is
wrong; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from reviewsum_assets import __version__
from reviewsum_assets.cli.comparison import bench, evaluate
from reviewsum_assets.cli.inspection import doctor, estimate, explain, show_estimate
from reviewsum_assets.cli.output import (
    JsonOption,
    LakeOption,
    ProgressBars,
    VerifyResult,
    chosen_settings,
    err,
    out,
    print_json,
    print_run,
    print_status,
    printable,
    reconcile_result,
    run_result,
    status_result,
    warn_of_another_lake,
)
from reviewsum_assets.cli.upkeep import prune
from reviewsum_assets.errors import ReviewsumError, RunInterrupted, SettingsError
from reviewsum_assets.lake_state import lake_status, plan_differences
from reviewsum_assets.reviews.dumps import put_sample
from reviewsum_assets.settings import ENVIRONMENT_PREFIX, escape_what_terminals_lack
from reviewsum_assets.storage.lake import Lake

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From raw product reviews to one trustworthy summary per product.",
    epilog="Exit codes: 0 all is well, 1 something failed or is off, 2 wrong call, "
    "130 interrupted.",
)


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
    checkpoint_size: Annotated[int | None, typer.Option(help="Products per checkpoint.")] = None,
    max_vanished_share: Annotated[
        float | None,
        typer.Option(help="Share of the products that a new plan may lose; 1 confirms any loss."),
    ] = None,
    compute: Annotated[
        str | None, typer.Option(help="Where jobs run: local, or sagemaker.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Change nothing: print what a run would plan and what that takes, or the request "
            "to SageMaker.",
        ),
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
    from reviewsum_assets.assets.dagster_home import persistent_instance
    from reviewsum_assets.assets.pipeline import Pipeline
    from reviewsum_assets.automation.alerts import telling_of_failure
    from reviewsum_assets.cli import local_run

    settings = chosen_settings(
        lake=lake,
        dumps=tuple(dump) if dump else None,
        model=model,
        top_k=top_k,
        checkpoint_size=checkpoint_size,
        max_vanished_share=max_vanished_share,
        compute=compute,
    )
    level = "INFO" if verbose else "CRITICAL"  # failures are printed once, by main()
    if dry_run:
        with (
            ProgressBars() as bars,
            local_run.foreseen(
                settings, log_level=level, say=_say, on_progress=bars.update_stage
            ) as (pipeline, found),
        ):
            if settings.compute == "sagemaker":
                request = local_run.first_request(pipeline, found)
                sys.stdout.write(json.dumps(request, indent=2) + "\n")
            else:
                show_estimate(pipeline.lake, found, settings, as_json)
        return
    warn_of_another_lake(Lake.open(settings.lake).uri)
    with (
        persistent_instance() as instance,
        telling_of_failure(instance, settings),
        ProgressBars() as bars,
    ):
        pipeline = Pipeline(settings, on_progress=bars.update_stage, on_message=_say)
        if put_sample(pipeline.lake, settings):
            err.print(f"{pipeline.lake.uri} is empty: using the sample reviews", soft_wrap=True)
        report = local_run.materialize_pending(instance, pipeline, log_level=level, say=_say)
    result = run_result(pipeline.lake, report)
    if as_json:
        print_json(result)
    else:
        print_run(result)


@app.command()
def status(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Show every checkpoint's state, from the lake alone, and whether a run would plan anew."""
    settings = chosen_settings(lake=lake)
    opened = Lake.open(settings.lake, create=False)
    found = lake_status(opened)
    differences = [] if found is None else plan_differences(opened, found.plan, settings)
    result = status_result(opened, found, differences)
    if as_json:
        print_json(result)
    elif found is None:
        out.print(f"{opened.uri} holds no plan yet: `reviewsum run` makes one")
    else:
        print_status(result)


@app.command()
def verify(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Read every byte that a run has written: is it what was written, and what was planned?"""
    from reviewsum_assets.lake_state import verify as problems_of

    opened = Lake.open(chosen_settings(lake=lake).lake, create=False)
    problems = problems_of(opened)
    if as_json:
        print_json(VerifyResult(lake=opened.uri, ok=not problems, problems=problems))
    else:
        for problem in problems:
            out.print(printable(problem), style="red", markup=False, highlight=False)
        out.print(f"{len(problems)} problems" if problems else "all is well")
    if problems:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def reconcile(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Make Dagster's partition states those of the lake: adopt, fail, retire; compute nothing."""
    warnings.filterwarnings("ignore", module="dagster")
    from reviewsum_assets.assets.dagster_home import persistent_instance
    from reviewsum_assets.assets.pipeline import Pipeline
    from reviewsum_assets.cli.local_run import reconcile_lake

    settings = chosen_settings(lake=lake)
    opened = Lake.open(settings.lake, create=False)
    warn_of_another_lake(opened.uri)
    with persistent_instance() as instance:
        found = reconcile_lake(instance, Pipeline(settings))
    if as_json:
        print_json(reconcile_result(opened, found))
    else:
        for sentence in found.told():
            out.print(sentence, markup=False, highlight=False, soft_wrap=True)


app.command()(doctor)
app.command()(estimate)
app.command()(explain)
app.command()(prune)
app.command()(bench)
app.command()(evaluate)


@app.command()
def package(
    directory: Annotated[Path, typer.Argument(help="Where to write; made if need be.")],
) -> None:
    """Write what a Processing job started by other means needs: code, requirements, archive."""
    from reviewsum_assets.compute.job_package import build_package, write

    built = build_package()
    write(built, directory)
    out.print(f"{', '.join(sorted(built.files))} are in {directory}", soft_wrap=True)


@app.command()
def ui(
    lake: LakeOption = None,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Start the Dagster UI and daemon on the instance that `reviewsum run` keeps its runs in."""
    warnings.filterwarnings("ignore", module="dagster")
    from reviewsum_assets.assets.dagster_home import become_ui, prepare_home, require_free_port
    from reviewsum_assets.automation.jobs import refresh_schedule

    # Once it has started, what is wrong is said on a page without assets.
    settings = chosen_settings(lake=lake)
    refresh_schedule(settings.refresh_cron)
    require_free_port(host, port)
    opened = Lake.open(settings.lake)
    os.environ[f"{ENVIRONMENT_PREFIX}LAKE"] = opened.uri
    warn_of_another_lake(opened.uri)
    home = prepare_home()
    err.print(f"runs are kept in {home}", soft_wrap=True)
    become_ui(home, host, port)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """From raw product reviews to one trustworthy summary per product."""


def main() -> None:
    """Entry point of the console script: errors end it with their message, not a traceback."""
    escape_what_terminals_lack()
    try:
        app()
    except SettingsError as error:
        _fail(error, EXIT_USAGE)
    except RunInterrupted as error:
        _fail(error, EXIT_INTERRUPTED)
    except ReviewsumError as error:
        _fail(error, EXIT_FAILED)


def _say(text: str) -> None:
    err.print(printable(text), markup=False, soft_wrap=True)


def _fail(message: object, code: int) -> None:
    text = f"error: {printable(str(message))}"
    err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)
