"""The schedule that ingests, for those who know when new dumps come."""

from __future__ import annotations

import dagster as dg

from reviewsum_assets.automation.jobs import PURPOSE_TAG, ingest
from reviewsum_assets.errors import SettingsError

# Before working hours in Europe, and in the night in America.
_DAILY = "0 5 * * *"


def ingest_schedule(cron: str) -> dg.ScheduleDefinition:
    """The schedule ``ingest_schedule``; running by default if ``cron`` is not empty.

    Raises:
        SettingsError: ``cron`` is not a cron schedule.
    """
    status = dg.DefaultScheduleStatus
    try:
        return dg.ScheduleDefinition(
            name="ingest_schedule",
            job=ingest,
            cron_schedule=cron or _DAILY,
            tags={PURPOSE_TAG: "schedule"},
            default_status=status.RUNNING if cron else status.STOPPED,
            description=(
                "Reads the dumps and plans what is new or changed, at fixed times (setting "
                "ingest_cron). What has not changed is not read again."
            ),
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise SettingsError(
            f"ingest_cron {cron!r} is not a cron schedule: expected five fields (minute, hour, "
            "day of month, month, day of week), e.g. '0 5 * * 1-5'"
        ) from error
