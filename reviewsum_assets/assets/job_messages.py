"""Brings a job's Pipes messages (log lines, progress) into the run that waits for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster_pipes import PipesContextData, PipesParams

from reviewsum_assets.job.job_objects import message_key
from reviewsum_assets.lake import Lake


class JobMessages:
    """Passes on what a job has said, from its first message on, whichever run started it.

    ``dg.open_pipes_session`` would demand a materialization from the process for every output,
    and read in a thread of its own; here partitions are materialized by what lies on the lake,
    and messages are read whenever the job is looked at.
    """

    def __init__(self, context: dg.AssetExecutionContext, lake: Lake, job: str) -> None:
        self._log = context.log
        self._handler = dg.PipesMessageHandler(context, _NoReader())
        self._lake = lake
        self._job = job
        self._next = 1

    def pass_on(self) -> None:
        """Pass on what has come since the last call."""
        while (content := self._lake.get(message_key(self._job, self._next))) is not None:
            number, self._next = self._next, self._next + 1
            try:
                self._handler.handle_message(json.loads(content))
            except Exception as error:  # whatever a damaged message makes the handler raise
                # Messages are a courtesy: work that goes on must not end for one.
                self._log.warning(f"message {number} of the job cannot be read: {error!r}")


def pipes_context(context: dg.AssetExecutionContext) -> str:
    """What the process is told of its run, as JSON: the job spec holds all else."""
    return json.dumps(
        PipesContextData(
            asset_keys=[context.asset_key.to_user_string()],
            code_version_by_asset_key=None,
            provenance_by_asset_key=None,
            partition_key=None,
            partition_key_range=None,
            partition_time_window=None,
            run_id=context.run.run_id,
            job_name=context.job_name,
            retry_number=context.retry_number,
            extras={},
        )
    )


class _NoReader(dg.PipesMessageReader):
    """The handler wants a reader; ``JobMessages`` reads by itself."""

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[PipesParams]:  # noqa: ARG002
        yield {}

    def no_messages_debug_text(self) -> str:
        return "Messages are objects on the lake."
