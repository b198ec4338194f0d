from __future__ import annotations

import dagster as dg
import pytest

from reviewsum_assets.assets.job_messages import JobMessages
from reviewsum_assets.job.job_objects import message_key
from reviewsum_assets.lake import Lake


def test_what_a_container_says_wrongly_is_logged_and_the_rest_is_passed_on(
    lake: Lake, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, content in enumerate(
        (
            b"{",
            b"[]",
            b'{"method": "run_this"}',
            b'{"method": "log", "params": {"message": "landed", "level": "INFO"}}',
        ),
        start=1,
    ):
        lake.put(message_key("job", number), content)
    JobMessages(dg.build_asset_context(), lake, "job").pass_on()
    told = capfd.readouterr().err
    assert [f"message {number} of job cannot be read" in told for number in (1, 2, 3, 4)] == [
        True,
        True,
        True,
        False,
    ]
    assert "landed" in told
