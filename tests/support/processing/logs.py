"""Puts the output of a container to CloudWatch Logs, as it is printed."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
# A log event has at most 256 KiB; a character may take four bytes.
_LONGEST_EVENT = 60_000


class LogPump(threading.Thread):
    """Reads a container's output to its end, and puts every line as a log event."""

    def __init__(self, logs: Any, stream: str, output: IO[bytes]) -> None:
        super().__init__(name=f"logs of {stream}", daemon=True)
        self._logs = logs
        self._stream = stream
        self._output = output
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=LOG_GROUP)
        logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)

    def run(self) -> None:
        """Pump until every process of the container has closed its output."""
        rest = b""
        while chunk := os.read(self._output.fileno(), 65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            self._put(lines)
        if rest:
            self._put([rest])
        self._output.close()

    def _put(self, lines: list[bytes]) -> None:
        now = int(time.time() * 1000)
        messages = [part for line in lines for part in _messages(line)]
        if messages:
            self._logs.put_log_events(
                logGroupName=LOG_GROUP,
                logStreamName=self._stream,
                logEvents=[{"timestamp": now, "message": message} for message in messages],
            )


def _messages(line: bytes) -> Iterator[str]:
    # An event cannot be empty.
    text = line.decode("utf-8", "replace").rstrip("\r") or " "
    for start in range(0, len(text), _LONGEST_EVENT):
        yield text[start : start + _LONGEST_EVENT]
