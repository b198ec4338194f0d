"""Pipes through the lake: the run's context in, log lines and progress out.

Everything lies at a place that follows from the job's name, so that a run that attaches to a job
reads its messages from the first one on, whoever started it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    DAGSTER_PIPES_MESSAGES_ENV_VAR,
    PipesContext,
    PipesContextLoader,
    PipesMappingParamsLoader,
    PipesMessageWriter,
    PipesMessageWriterChannel,
    encode_param,
    open_dagster_pipes,
)

from reviewsum_assets.errors import LakeError
from reviewsum_assets.job.job_objects import message_key, pipes_context_key
from reviewsum_assets.lake import Lake

_log = logging.getLogger("reviewsum.job")


def open_pipes(lake: Lake, job: str) -> AbstractContextManager[PipesContext | None]:
    """Pipes to the run that started the job; None if no run did, or what it left is damaged."""
    content = lake.get(pipes_context_key(job))
    if content is None:
        return nullcontext()
    try:
        context = json.loads(content)
    except ValueError as error:
        _log.warning("%s cannot be read: %s", lake.uri_of(pipes_context_key(job)), error)
        return nullcontext()
    nothing = encode_param({})
    return open_dagster_pipes(
        context_loader=_LoadedContext(context),
        message_writer=_LakeMessageWriter(lake, job),
        params_loader=PipesMappingParamsLoader(
            {DAGSTER_PIPES_CONTEXT_ENV_VAR: nothing, DAGSTER_PIPES_MESSAGES_ENV_VAR: nothing}
        ),
    )


class _LoadedContext(PipesContextLoader):
    """A context that has been read already."""

    def __init__(self, data: Any) -> None:
        self._data = data

    @contextmanager
    def load_context(self, params: Any) -> Iterator[Any]:  # noqa: ARG002 - the place is known
        yield self._data


class _LakeMessageWriter(PipesMessageWriter["_LakeChannel"]):
    """Writes each message as an object of its own, at once: they are few."""

    def __init__(self, lake: Lake, job: str) -> None:
        self._channel = _LakeChannel(lake, job)

    @contextmanager
    def open(self, params: Any) -> Iterator[_LakeChannel]:  # noqa: ARG002 - the place is known
        yield self._channel


class _LakeChannel(PipesMessageWriterChannel):
    def __init__(self, lake: Lake, job: str) -> None:
        self._lake = lake
        self._job = job
        self._written = 0

    def write_message(self, message: Any) -> None:
        try:
            key = message_key(self._job, self._written + 1)
            self._lake.put(key, json.dumps(message).encode())
        except LakeError as error:
            # Messages are a courtesy: work that goes on must not end for one.
            _log.warning("message not sent: %s", error)
        else:
            self._written += 1
