"""Everything that can be wrong with the bytes on a lake: those of results and of their sources."""

from __future__ import annotations

from reviewsum_assets.checkpoints.canary_reference import damaged_references
from reviewsum_assets.checkpoints.chunk_records import damaged_chunks
from reviewsum_assets.checkpoints.plan import Plan, partition_key, require_plan
from reviewsum_assets.checkpoints.plan_damage import damaged_inputs
from reviewsum_assets.checkpoints.status import verify_lake
from reviewsum_assets.job.conversion import damaged_conversion
from reviewsum_assets.job.model_directory import damaged_model
from reviewsum_assets.lake import Lake
from reviewsum_assets.reviews.grouping import damaged_tables


def verify(lake: Lake) -> list[str]:
    """Everything that is off on the lake, a sentence each; empty if all is well. Reads it all.

    Raises:
        PlanError: there is no plan to verify against.
    """
    plan = require_plan(lake)
    damaged = _damaged_sources(lake, plan) + damaged_references(lake)
    return [
        *verify_lake(lake),
        *(f"{key} is missing or not what was written" for key in damaged),
        *(
            f"{key} is missing or not what was written: `reviewsum explain` lacks the chunk "
            f"summaries of {partition_key(number)}. To fix: materialize that partition of "
            "chunk_summaries with recompute"
            for number, key in damaged_chunks(lake, plan).items()
        ),
    ]


def remove_damaged(lake: Lake, plan: Plan) -> None:
    """Remove what is damaged of the sources of results, and canary references: all is made again.

    Damaged chunk summaries stay: only `explain` needs them, and a computation would be paid for.

    Only on a disk, where bytes change by themselves. S3 keeps checksums of its own, and reading
    gigabytes from it would make every run wait.
    """
    if lake.directory is not None:
        inputs = [planned.input_key for planned in damaged_inputs(lake, plan)]
        for key in [*inputs, *_damaged_sources(lake, plan), *damaged_references(lake)]:
            lake.delete(key)


def _damaged_sources(lake: Lake, plan: Plan) -> list[str]:
    """Keys of grouped tables and files of the model that are gone or not what was written."""
    model = plan.recipes[plan.recipe].model_version
    return damaged_tables(lake) + damaged_model(lake, model) + damaged_conversion(lake, model)
