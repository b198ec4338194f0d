"""What a run goes on from, when it is a re-execution or a retry of one that did not succeed."""

from __future__ import annotations

import dagster as dg

from reviewsum_assets.assets.partition_metadata import CHUNK_SUMMARIES


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


def _options(run: dg.DagsterRun) -> object:
    """What a run's config says of ``chunk_summaries``, such as ``recompute``."""
    ops = run.run_config.get("ops")
    return ops.get(CHUNK_SUMMARIES.to_user_string()) if isinstance(ops, dict) else None
