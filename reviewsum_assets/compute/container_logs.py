"""Passes on what the containers of a Processing job write, while it runs.

SageMaker sends their output to CloudWatch, one stream a host: ``JOB/algo-1-1700000000``. Whoever
waits for the job calls ``pass_on`` now and then; nothing runs beside it, so nothing outlives it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from reviewsum_assets.compute.processing_api import LOG_GROUP

_TAIL_LINES = 100
# Of 10,000 lines or 1 MB each: a chatty job must not keep its run from looking at it.
_PAGES_A_CALL = 10

_log = logging.getLogger(__name__)


class ContainerLogs:
    """Reads the log streams of one job from their beginning.

    Args:
        client: boto3's ``logs`` client.
        job: the job's name.
        write: takes each line, with its host before it.
    """

    def __init__(self, client: Any, job: str, write: Callable[[str], None]) -> None:
        self._client = client
        self._job = job
        self._write = write
        self._tokens: dict[str, str] = {}
        self._newest: dict[str, int] = {}  # time of the last line, in ms
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    @property
    def tail(self) -> str:
        """The last lines that were passed on."""
        return "\n".join(self._tail)

    def pass_on(self) -> int:
        """Pass on what is new; returns how many lines that were.

        Errors of the service are logged: logs are a courtesy. A stream that cannot be read keeps
        back no other.
        """
        lines = 0
        for stream in self._streams():
            try:
                for line in self._new_lines(stream):
                    lines += 1
                    self._tail.append(line)
                    self._write(line)
            except (ClientError, BotoCoreError) as error:
                _log.warning("cannot read the log stream %s now: %s", stream, error)
                if _is_expired(error):
                    self._tokens.pop(stream, None)
        return lines

    def _new_lines(self, stream: str) -> Iterator[str]:
        host = stream.removeprefix(f"{self._job}/").rpartition("-")[0]
        for _ in range(_PAGES_A_CALL):
            page = self._page(stream)
            for event in page["events"]:
                self._newest[stream] = max(self._newest.get(stream, 0), event["timestamp"])
                yield f"[{host}] {event['message']}"
            token = page["nextForwardToken"]
            if token == self._tokens.get(stream):
                break
            self._tokens[stream] = token

    def _streams(self) -> list[str]:
        pages = self._client.get_paginator("describe_log_streams").paginate(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"{self._job}/"
        )
        try:
            return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except self._client.exceptions.ResourceNotFoundException:
            return []  # the group comes with the first job of an account
        except (ClientError, BotoCoreError) as error:
            _log.warning("cannot list the log streams of %s now: %s", self._job, error)
            return []

    def _page(self, stream: str) -> Any:
        token = self._tokens.get(stream)
        more: dict[str, Any] = {} if token is None else {"nextToken": token}
        if token is None and stream in self._newest:
            # A token is good for 24 hours. Lines of the very last millisecond come twice.
            more = {"startTime": self._newest[stream]}
        return self._client.get_log_events(
            logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **more
        )


def _is_expired(error: ClientError | BotoCoreError) -> bool:
    """Whether the service refused a token, which it forgets after 24 hours."""
    return (
        isinstance(error, ClientError)
        and error.response.get("Error", {}).get("Code") == "InvalidParameterException"
    )
