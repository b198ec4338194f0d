from __future__ import annotations

import dagster as dg
import pytest

from reviewsum_assets.automation.jobs import refresh_schedule
from reviewsum_assets.definitions import defs
from reviewsum_assets.errors import SettingsError


def test_the_schedule_runs_where_a_cron_is_set_and_requests_refresh(
    instance: dg.DagsterInstance,
) -> None:
    idle, schedule = defs.resolve_schedule_def("refresh_schedule"), refresh_schedule("30 2 * * 1-5")
    status = dg.DefaultScheduleStatus
    assert (idle.cron_schedule, idle.default_status) == ("0 5 * * *", status.STOPPED)
    assert (schedule.cron_schedule, schedule.default_status) == ("30 2 * * 1-5", status.RUNNING)
    context = dg.build_schedule_context(instance, repository_def=defs.get_repository_def())
    (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert request.tags["reviewsum/purpose"] == "schedule"
    assert schedule.job_name == "refresh"


@pytest.mark.parametrize("cron", ["daily", "61 * * * *", "* * * * * *"])
def test_a_cron_that_is_none_is_refused(cron: str) -> None:
    with pytest.raises(SettingsError, match="is not a cron schedule: expected five"):
        refresh_schedule(cron)
