import json
import logging
from typing import Any

import dagster as dg

from reviewsum_assets.assets.summarize_run import JobMessages
from reviewsum_assets.job.spec import message_key
from reviewsum_assets.storage.lake import Lake
from tests.support.hostile import TEXTS


class Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_damaged_messages_do_not_end_the_run(lake: Lake) -> None:
    message: dict[str, Any] = {"method": "log", "params": {"message": "after all", "level": "INFO"}}
    damaged = [
        *(b"", b"{", b"\xff", b"null", b"[" * 100_000),
        *(json.dumps({"method": text, "params": {}}).encode() for text in TEXTS),
        *(json.dumps({**message, "params": text}).encode() for text in TEXTS),
        json.dumps({"method": "log", "params": {"message": 5, "level": "none"}}).encode(),
    ]
    for number, content in enumerate([*damaged, json.dumps(message).encode()], 1):
        lake.put(message_key("job", number), content)
    heard = Heard()

    @dg.asset
    def waiting(context: dg.AssetExecutionContext) -> None:
        context.log.addHandler(heard)
        JobMessages(context, lake, "job").pass_on()

    assert dg.materialize([waiting]).success
    told = "\n".join(heard.lines)
    for number in range(1, len(damaged) + 1):
        assert f"message {number} of the job cannot be read" in told
    assert "after all" in told
