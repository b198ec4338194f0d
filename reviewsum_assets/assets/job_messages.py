"""Brings a job's Pipes messages (log lines, progress) into the run that started it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg
from dagster_pipes import PipesContextData


@contextmanager
def job_messages(context: dg.AssetExecutionContext) -> Iterator[Mapping[str, str]]:
    """The environment by which a process sends Pipes messages to this run, while it is open.

    ``dg.open_pipes_session`` would demand a materialization from the process for every output;
    here partitions are materialized by what lies on the lake, so only messages are wanted.
    """
    reader = dg.PipesTempFileMessageReader()
    handler = dg.PipesMessageHandler(context, reader)
    data = _context_data(context)
    with (
        dg.PipesTempFileContextInjector().inject_context(data) as injector_params,
        handler.handle_messages() as reader_params,
    ):
        yield dg.PipesSession(
            context_data=data,
            message_handler=handler,
            context_injector_params=injector_params,
            message_reader_params=reader_params,
            context=context,
        ).get_bootstrap_env_vars()


def _context_data(context: dg.AssetExecutionContext) -> PipesContextData:
    """What the process is told of its run: the job spec holds all else."""
    return PipesContextData(
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
