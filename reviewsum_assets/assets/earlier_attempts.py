"""What a run goes on from, when it is a re-execution or a retry of one that did not succeed."""

from __future__ import annotations

import dagster as dg

from reviewsum_assets.assets.partition_metadata import CHUNK_SUMMARIES

# What is looked for comes before all partitions, of which there may be 10,000.
_EVENTS_AT_A_TIME = 1_000


def earlier_attempts(instance: dg.DagsterInstance, run: dg.DagsterRun) -> frozenset[str]:
    """Ids of the failed runs that a run is the next attempt of, with the same options.

    A run that succeeded left nothing to go on with: whoever executes it again wants all of it.
    """
    found: set[str] = set()
    attempt = run
    while parent_id := attempt.get_parent_run_id():
        parent = instance.get_run_by_id(parent_id)
        if parent is None or parent.is_success or _options(parent) != _options(run):
            break
        found.add(parent_id)
        attempt = parent
    return frozenset(found)


def materialized_in(
    instance: dg.DagsterInstance, run: dg.DagsterRun, asset: str
) -> dg.AssetMaterialization | None:
    """What a run, else the one that it is the next attempt of, materialized of an asset first."""
    attempt: dg.DagsterRun | None = run
    while attempt is not None:
        cursor, has_more = None, True
        while has_more:
            found = instance.get_records_for_run(
                attempt.run_id,
                cursor,
                of_type=dg.DagsterEventType.ASSET_MATERIALIZATION,
                limit=_EVENTS_AT_A_TIME,
            )
            for record in found.records:
                materialization = record.event_log_entry.asset_materialization
                if materialization is not None and materialization.asset_key == dg.AssetKey(asset):
                    return materialization
            cursor, has_more = found.cursor, found.has_more
        parent_id = attempt.get_parent_run_id()
        attempt = instance.get_run_by_id(parent_id) if parent_id else None
    return None


def _options(run: dg.DagsterRun) -> object:
    """What a run's config says of ``chunk_summaries``, such as ``recompute``."""
    ops = run.run_config.get("ops")
    return ops.get(CHUNK_SUMMARIES.to_user_string()) if isinstance(ops, dict) else None
