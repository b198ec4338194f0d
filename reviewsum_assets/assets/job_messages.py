"""Dagster Pipes between a run and its jobs, whose messages are objects on the lake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster_pipes import PipesContextData, PipesParams

from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import message_key


class JobMessages:
    """Passes on the Pipes messages of a job from the first one, whichever run started it.

    ``dg.open_pipes_session`` would require a materialization from the process for every output and
    read in its own thread; here partitions are materialized from the lake.
    """

    def __init__(self, context: dg.AssetExecutionContext, lake: Lake, job: str) -> None:
        self._log = context.log
        self._handler = dg.PipesMessageHandler(context, _NoReader())
        self._lake = lake
        self._job = job
        self._next = 1

    def pass_on(self) -> None:
        """Pass on the messages since the last call."""
        while (content := self._lake.get(message_key(self._job, self._next))) is not None:
            number, self._next = self._next, self._next + 1
            try:
                self._handler.handle_message(json.loads(content))
            except Exception as error:  # a damaged message must not end the work
                self._log.warning(f"message {number} of the job cannot be read: {error!r}")


def pipes_context(context: dg.AssetExecutionContext) -> str:
    """Pipes context of the process, as JSON: its run; the job spec holds the rest."""
    data: dict[str, Any] = dict.fromkeys(PipesContextData.__annotations__)
    data |= {
        "asset_keys": [context.asset_key.to_user_string()],
        "run_id": context.run.run_id,
        "job_name": context.job_name,
        "retry_number": context.retry_number,
        "extras": {},
    }
    return json.dumps(data)


class _NoReader(dg.PipesMessageReader):
    """Reads nothing: the handler requires a reader, and ``JobMessages`` reads the lake."""

    @contextmanager  # the argument is unused: Dagster's interface names it
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[PipesParams]:  # noqa: ARG002
        yield {}

    def no_messages_debug_text(self) -> str:
        return "Messages are objects on the lake."
