"""``reviewsum``: the command line.

Exit codes: 0 success; 1 a failure, or a problem that was found; 2 wrong call or settings; 130
interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from reviewsum_assets import __version__
from reviewsum_assets.cli.comparison import bench, evaluate
from reviewsum_assets.cli.inspection import doctor, estimate, explain, report, show_estimate
from reviewsum_assets.cli.output import (
    JsonOption,
    LakeOption,
    ProgressBars,
    chosen_settings,
    err,
    out,
    print_json,
    print_run,
    print_status,
    show,
    status_result,
    warn_of_another_lake,
)
from reviewsum_assets.environment import ENVIRONMENT_PREFIX
from reviewsum_assets.errors import (
    ReviewsumError,
    RunInterrupted,
    SettingsError,
    escape_what_terminals_lack,
)
from reviewsum_assets.lake_state import lake_status, plan_differences
from reviewsum_assets.reviews.dumps import put_sample
from reviewsum_assets.storage.lake import Lake

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From raw product reviews to one trustworthy summary per product.",
    epilog="Exit codes: 0 success, 1 failure or problem found, 2 wrong call, 130 interrupted.",
)


@app.command()
def run(
    lake: LakeOption = None,
    dump: Annotated[
        list[str] | None,
        typer.Option(help="Read this dump in place of the lake's review_dumps/; may be repeated."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns of dumps in a layout of your own: product_id=SKU,review_text=Comment,"
            "rating=Grade,review_date=When."
        ),
    ] = None,
    verified_only: Annotated[
        bool | None, typer.Option("--verified-only", help="Only reviews of verified purchases.")
    ] = None,
    reviews_since: Annotated[
        str | None, typer.Option(help="Only reviews of this day (YYYY-MM-DD) or later.")
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
            help="Change nothing: print the plan of a run and its estimate, or the request to "
            "SageMaker.",
        ),
    ] = False,
    as_json: JsonOption = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show Dagster's log on standard error.")
    ] = False,
) -> None:
    """Read dumps, plan, summarize missing products and merge; run again to resume or update."""
    # Dagster takes a second to import, which status and verify do not need. Its warnings are for
    # developers of assets.
    warnings.filterwarnings("ignore", module="dagster")
    from reviewsum_assets.assets.dagster_home import persistent_instance
    from reviewsum_assets.assets.pipeline import Pipeline
    from reviewsum_assets.automation.alerts import alert_of_failed_command
    from reviewsum_assets.cli import local_run

    settings = chosen_settings(
        lake=lake,
        dumps=tuple(dump) if dump else None,
        columns=columns,
        verified_only=verified_only,
        reviews_since=reviews_since,
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
            local_run.dry_run(
                settings, log_level=level, say=err.say, on_progress=bars.update_stage
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
        alert_of_failed_command(instance, settings),
        ProgressBars() as bars,
    ):
        pipeline = Pipeline(settings, on_progress=bars.update_stage, on_message=err.say)
        if put_sample(pipeline.lake, settings):
            err.say(f"{pipeline.lake.uri} is empty: using the sample reviews")
        result = local_run.materialize_pending(instance, pipeline, log_level=level, say=err.say)
    show(result, as_json, print_run)


@app.command()
def status(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Show every checkpoint's state, from the lake alone, and whether a run would plan again."""
    settings = chosen_settings(lake=lake)
    opened = Lake.open(settings.lake, create=False)
    found = lake_status(opened)
    differences = [] if found is None else plan_differences(opened, found.plan, settings)
    show(status_result(opened, found, differences), as_json, print_status)


@app.command()
def verify(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Read every file of the lake and compare it with the plan and the recorded hashes."""
    from reviewsum_assets.lake_state import verify as problems_of

    opened = Lake.open(chosen_settings(lake=lake).lake, create=False)
    problems = problems_of(opened)
    if as_json:
        print_json({"lake": opened.uri, "ok": not problems, "problems": problems})
    else:
        for problem in problems:
            out.say(problem, "red")
        out.say(f"{len(problems)} problems" if problems else "no problem found")
    if problems:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def reconcile(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Make Dagster's partition states agree with the lake; compute nothing."""
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
        print_json(
            {
                "lake": opened.uri,
                "did_nothing": found.did_nothing,
                "adopted": list(found.adopted),
                "failed": {state.planned.partition_key: state.reason for state in found.lost},
                "added": list(found.alignment.added),
                "retired": list(found.alignment.retired),
                "merged_adopted": found.merged.adopted,
                "merged_failed": found.merged.lost,
                "in_progress": found.in_progress,
            }
        )
    else:
        for sentence in found.sentences():
            out.say(sentence)


@app.command()
def prune(
    lake: LakeOption = None,
    older_than: Annotated[
        float, typer.Option(help="Hours; objects that were written or retired later stay.", min=0)
    ] = 24.0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List the objects and their sizes; remove nothing."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove unused checkpoints, plans, models, and leftovers of ended jobs."""
    from reviewsum_assets.checkpoints import prune as pruning
    from reviewsum_assets.checkpoints.plan import require_plan
    from reviewsum_assets.compute import leftovers as left
    from reviewsum_assets.compute.local import LocalCompute

    age = timedelta(hours=older_than)
    opened = Lake.open(chosen_settings(lake=lake).lake, create=False)
    found = pruning.prune(
        opened,
        older_than=age,
        dry_run=dry_run,
        live_jobs=[job.spec.name for job in LocalCompute(opened).live_jobs()],
    )
    leftovers = left.leftovers(opened, age)
    models = {recipe.model_version for recipe in require_plan(opened).recipes.values()}
    cache, copies = left.unused_model_copies(age, models)
    if not dry_run:
        left.remove(opened, leftovers)
        left.remove(cache, copies)
    kinds = {**found.objects, **leftovers}
    for kind, items in copies.items():
        kinds[kind] = tuple(replace(item, key=cache.uri_of(item.key)) for item in items)
    removed = {
        kind: {"objects": len(items), "bytes": sum(item.size for item in items)}
        for kind, items in kinds.items()
    }
    if as_json:
        keys = [item.key for items in kinds.values() for item in items]
        result = {"lake": opened.uri, "dry_run": dry_run, "removed": removed, "keys": keys}
        print_json({**result, "retired_checkpoints": list(found.retired)})
        return
    for item in chain.from_iterable(kinds.values()) if dry_run else ():
        out.say(f"{item.size:>15,} bytes  {item.key}")
    for kind, some in removed.items():
        out.print(f"{kind}: {some['objects']:,} objects, {some['bytes'] / 1e6:,.1f} MB")
    out.print("nothing was removed: this was a dry run" if dry_run else "removed")


for command in (doctor, estimate, explain, report, bench, evaluate):
    app.command()(command)


@app.command()
def package(
    directory: Annotated[Path, typer.Argument(help="Output directory; made if need be.")],
) -> None:
    """Write code, requirements and archive for a Processing job that is started by other means."""
    from reviewsum_assets.compute.job_package import build_package, write

    built = build_package()
    write(built, directory)
    out.say(f"{', '.join(sorted(built.files))} are in {directory}")


@app.command()
def ui(
    lake: LakeOption = None,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Start the Dagster UI and daemon on the instance of `reviewsum run`."""
    warnings.filterwarnings("ignore", module="dagster")
    from reviewsum_assets.assets.dagster_home import become_ui, prepare_home, require_free_port
    from reviewsum_assets.automation.jobs import refresh_schedule

    # After the start, a wrong setting would be shown on a page without assets.
    settings = chosen_settings(lake=lake)
    refresh_schedule(settings.refresh_cron)
    require_free_port(host, port)
    opened = Lake.open(settings.lake)
    os.environ[f"{ENVIRONMENT_PREFIX}LAKE"] = opened.uri
    warn_of_another_lake(opened.uri)
    home = prepare_home()
    err.say(f"runs are kept in {home}")
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
    """Entry point of the console script: errors end it with their message, without a traceback."""
    escape_what_terminals_lack()
    try:
        app()
    except ReviewsumError as error:
        err.say(f"error: {error}", "red")
        codes = {SettingsError: EXIT_USAGE, RunInterrupted: EXIT_INTERRUPTED}
        sys.exit(codes.get(type(error), EXIT_FAILED))
