"""Commands that keep a lake small: ``reviewsum prune`` and ``reviewsum repack``."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer
from pydantic import BaseModel

from reviewsum_assets.cli_options import JsonOption, LakeOption, chosen_settings
from reviewsum_assets.cli_output import out, print_json, printable, warn_of_another_lake
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import Settings

_MEGABYTE = 1e6


class PrunedKind(BaseModel):
    """How much of one kind was removed."""

    objects: int
    bytes: int


class PruneResult(BaseModel):
    """What ``reviewsum prune --json`` prints; ``keys`` are the objects that were removed.

    Copies of models on this machine are named by their paths.
    """

    lake: str
    dry_run: bool
    retired_checkpoints: list[int]
    removed: dict[str, PrunedKind]
    keys: list[str]


class RepackResult(BaseModel):
    """What ``reviewsum repack --json`` prints."""

    lake: str
    products: int
    packed: list[int]
    into: list[int]


def prune(
    lake: LakeOption = None,
    older_than: Annotated[
        float, typer.Option(help="Hours; what was written or retired later stays.", min=0)
    ] = 24.0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List what would be removed, with sizes; remove nothing."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what nothing uses: checkpoints, plans, models, and what ended jobs have left."""
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
    result = PruneResult(
        lake=opened.uri,
        dry_run=dry_run,
        retired_checkpoints=list(found.retired),
        removed={
            kind: PrunedKind(objects=len(items), bytes=sum(item.size for item in items))
            for kind, items in kinds.items()
        },
        keys=[item.key for items in kinds.values() for item in items],
    )
    if as_json:
        print_json(result)
        return
    for items in kinds.values() if dry_run else ():
        for item in items:
            out.print(
                f"{item.size:>15,} bytes  {printable(item.key)}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    for kind, some in result.removed.items():
        out.print(f"{kind}: {some.objects:,} objects, {some.bytes / _MEGABYTE:,.1f} MB")
    out.print("nothing was removed: this was a dry run" if dry_run else "removed")


def repack(
    lake: LakeOption = None,
    below: Annotated[
        float,
        typer.Option(
            help="Pack checkpoints of which less than this share is current.", min=0, max=1
        ),
    ] = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Pack the summaries of rather empty checkpoints into full ones; compute nothing."""
    from reviewsum_assets.checkpoints import repack as repacking

    settings = chosen_settings(lake=lake)
    opened = Lake.open(settings.lake, create=False)
    found = repacking.repack(opened, checkpoint_size=settings.checkpoint_size, below=below)
    if found.targets:
        warn_of_another_lake(opened.uri)
        _tell_dagster(settings)
    result = RepackResult(
        lake=opened.uri,
        products=found.products,
        packed=list(found.sources),
        into=list(found.targets),
    )
    if as_json:
        print_json(result)
    elif found.targets:
        out.print(
            f"{found.products:,} products of {len(found.sources)} checkpoints are in "
            f"{len(found.targets)} new ones; `reviewsum run` merges them, `reviewsum prune` "
            "removes the old ones after a day",
            soft_wrap=True,
        )
    else:
        out.print("nothing to pack: it would not leave fewer checkpoints", soft_wrap=True)


def _tell_dagster(settings: Settings) -> None:
    """Let the new checkpoints be partitions, and the old ones be none."""
    warnings.filterwarnings("ignore", module="dagster")
    from reviewsum_assets.assets.pipeline import Pipeline
    from reviewsum_assets.dagster_home import persistent_instance
    from reviewsum_assets.local_run import reconcile_lake

    with persistent_instance() as instance:
        reconcile_lake(instance, Pipeline(settings))
