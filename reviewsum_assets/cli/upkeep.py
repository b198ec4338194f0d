"""``reviewsum prune``: make room on the lake."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer
from pydantic import BaseModel

from reviewsum_assets.cli.output import (
    JsonOption,
    LakeOption,
    chosen_settings,
    out,
    print_json,
    printable,
)
from reviewsum_assets.storage.lake import Lake

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
