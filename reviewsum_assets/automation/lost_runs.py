"""Marks runs as failed whose process is gone, so that no sensor waits for them for ever.

Dagster notices the death of a process that it launched only while the code server that launched it
lives. When a machine loses power both are gone, and the run would be shown as running from then on.
"""

from __future__ import annotations

import dagster as dg

from reviewsum_assets.dagster_home import fail_if_gone, fail_orphans

# Dagster's launcher of processes sets this tag, and no other launcher does.
_LAUNCHED_TAG = ".dagster/grpc_info"


def fail_lost_runs(instance: dg.DagsterInstance) -> None:
    """Look at every run of the command line and of the launcher that seems to go on.

    To be called by sensors only: they are evaluated where the launcher's processes run. One that
    has not reported its start yet is left to Dagster's run monitoring.
    """
    fail_orphans(instance)
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        if _LAUNCHED_TAG in run.tags and (process := _process_of(instance, run.run_id)):
            pid, since = process
            fail_if_gone(instance, run.run_id, pid, since)


def _process_of(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """Id of the process that a run was given, and when it said so: it is the first to name one."""
    events = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    for record in events:
        event = record.event_log_entry.dagster_event
        pid = event and event.engine_event_data.metadata.get("pid")
        if pid:
            return int(str(pid.value)), record.event_log_entry.timestamp
    return None
