from __future__ import annotations

import dagster as dg
import pytest

from reviewsum_assets.automation.jobs import refresh_schedule
from reviewsum_assets.definitions import defs
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.storage import places
from tests.support.pipeline import SmallPipeline
from tests.support.sensors import put_dump


def test_without_a_cron_the_schedule_is_there_and_off() -> None:
    schedule = defs.resolve_schedule_def("refresh_schedule")
    assert schedule.cron_schedule == "0 5 * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


def test_with_a_cron_it_is_on() -> None:
    schedule = refresh_schedule("30 2 * * 1-5")
    assert schedule.cron_schedule == "30 2 * * 1-5"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


@pytest.mark.parametrize("cron", ["daily", "61 * * * *", "* * * * * *"])
def test_a_cron_that_is_none_is_refused(cron: str) -> None:
    with pytest.raises(SettingsError, match="is not a cron schedule: expected five"):
        refresh_schedule(cron)


def test_a_tick_requests_a_run_from_dumps_to_table(small: SmallPipeline) -> None:
    put_dump(small.pipeline.lake, 4)
    schedule = refresh_schedule("0 5 * * *")
    context = dg.build_schedule_context(
        instance=small.instance, repository_def=defs.get_repository_def()
    )
    (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert request.tags["reviewsum/purpose"] == "schedule"
    assert small.execute("refresh", request.tags).success
    assert small.pipeline.lake.get(places.MERGED_CSV)
