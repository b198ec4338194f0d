"""The persistent Dagster instance: where runs and partition states are kept between calls."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager

from reviewsum_assets.compute.local import is_locked
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.settings import AutomationSettings

_log = logging.getLogger(__name__)

DEFAULT_HOME = ".dagster_home"
# Pool of runs that start Processing jobs; the instance limits how many run at a time.
GPU_POOL = "gpu_processing"

# Written once into a new home; users may change it there.
_CONFIGS = Path(__file__).parent / "instance"
_POSTGRES = "DAGSTER_POSTGRES_URL"
_LOGS = ("DAGSTER_LOGS_BUCKET", "DAGSTER_LOGS_PREFIX")
# For `reviewsum ui`, which works from any directory; equal to the project's own workspace.yaml.
_WORKSPACE = """\
load_from:
  - python_module:
      module_name: reviewsum_assets.definitions
      location_name: reviewsum_assets
"""
_LAKE_NOTE = "reviewsum_lake.txt"
# Neither a process id nor a host name is unique where containers share an instance. Dagster's UI
# hides tags that begin with a dot.
_PROCESS_TAG, _PROCESS = ".dagster/reviewsum_process", uuid.uuid4().hex
# In the home: a file per run, locked by the run's process until its end.
_RUN_LOCKS = "run_locks"
_held_locks: list[IO[bytes]] = []
_ALERTS_TAG, _BY_COMMAND, _BY_SENSOR = ".dagster/reviewsum_alerts", "command", "sensor"
# To keep what a run prints, Dagster starts processes that answer Ctrl-C with tracebacks.
_NO_COMPUTE_LOGS = {
    "module": NoOpComputeLogManager.__module__,
    "class": NoOpComputeLogManager.__name__,
}


def prepare_home() -> Path:
    """Make the home unless it exists, and set ``DAGSTER_HOME`` to it; safe in many processes.

    Raises:
        SettingsError: it cannot be made, or a variable that it needs is missing.
    """
    with _writable_home() as home:
        config = home / "dagster.yaml"
        if not config.exists():
            _write_whole(config, _new_config().read_text(encoding="utf-8"))
    os.environ["DAGSTER_HOME"] = str(home)
    # The first opening makes the tables, which two processes must not do at once.
    with _locked(home), dg.DagsterInstance.get() as instance:
        _limit_gpu_pool(instance)
    return home


def note_lake(uri: str) -> str:
    """Note the lake that the home is used for; returns another one that was noted before, if any.

    Partitions of two lakes have the same names, so that each replaces the states of the other.
    """
    with _writable_home() as home:
        note = home / _LAKE_NOTE
        before = (
            note.read_text(encoding="utf-8", errors="surrogateescape") if note.exists() else uri
        )
        _write_whole(note, uri)
    return "" if before == uri else before


def require_free_port(host: str, port: int) -> None:
    """Check, before a process starts, that the UI can listen on an address.

    Raises:
        SettingsError: it cannot.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # A name may include an IPv6 address on a machine without IPv6.
        for family, kind, _, _, address in [a for a in found if a[0] == socket.AF_INET] or found:
            with socket.socket(family, kind) as tried:
                # Equal to the server, which ignores connections that have just ended.
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(address)
    except OSError as error:
        raise SettingsError(
            f"the UI cannot listen on {host}, port {port} ({error.strerror}): end the process that "
            "uses it, or choose others with --port and --host"
        ) from error


def become_ui(home: Path, host: str, port: int) -> NoReturn:
    """Replace this process with the Dagster UI and daemon, so that signals reach them."""
    dagster = str(Path(sys.executable).with_name("dagster"))
    arguments = ["-w", str(workspace_file(home)), "--host", host, "--port", str(port)]
    os.execv(dagster, [dagster, "dev", *arguments])


def workspace_file(home: Path) -> Path:
    """A workspace file for this code location, in the home."""
    path = home / "workspace.yaml"
    path.write_text(_WORKSPACE)
    return path


def _new_config() -> Path:
    """Configuration of a new home: for one machine, or for a team if PostgreSQL is named."""
    if _POSTGRES not in os.environ:
        return _CONFIGS / "local.yaml"
    missing = [name for name in _LOGS if not os.environ.get(name)]
    if missing:
        raise SettingsError(
            f"{_POSTGRES} is set, so runs are kept in PostgreSQL and their logs on S3: set "
            f"{' and '.join(missing)} too"
        )
    return _CONFIGS / "production.yaml"


@contextmanager
def _writable_home() -> Iterator[Path]:
    """The home, made if need be, while no other process sets it up."""
    home = Path(os.environ.get("DAGSTER_HOME") or DEFAULT_HOME).absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home):
            yield home
    except OSError as error:
        raise SettingsError(
            f"DAGSTER_HOME {home}, where runs are kept, cannot be made ({error.strerror}): set "
            "DAGSTER_HOME to a directory that can be written to"
        ) from error


def _write_whole(path: Path, text: str) -> None:
    """Write a file of a locked home; a kill leaves the new or the former content, whole."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8", errors="surrogateescape")
    part.replace(path)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Be the only process that sets up this home."""
    with (home / ".setup.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def persistent_instance() -> Iterator[dg.DagsterInstance]:
    """The instance at ``DAGSTER_HOME``, or at ``.dagster_home`` in the working directory.

    Runs whose process is gone are marked as failed first. The output of runs of the command line
    is not kept: it is in the terminal.
    """
    home = prepare_home()
    ref = InstanceRef.from_dir(str(home), overrides={"compute_logs": _NO_COMPUTE_LOGS})
    with dg.DagsterInstance.from_ref(ref) as instance:
        fail_lost_runs(instance)
        yield instance


def _limit_gpu_pool(instance: dg.DagsterInstance) -> None:
    """Give the pool the instance's default limit, unless it has one.

    The daemon does so too late: it launches all of the first runs of a pool that it finds.
    """
    storage = instance.event_log_storage
    if instance.global_op_concurrency_default_limit is not None and not any(
        pool.name == GPU_POOL for pool in storage.get_pool_limits()
    ):
        storage.initialize_concurrency_limit_to_default(GPU_POOL)


def run_tags(settings: AutomationSettings) -> dict[str, str]:
    """Tags by which a run of this process is found again.

    This process sends the alert of its failure if its settings name a receiver.
    """
    has_receiver = settings.slack_channel or settings.alert_email_to
    return {
        _PROCESS_TAG: _PROCESS,
        _ALERTS_TAG: _BY_COMMAND if has_receiver else _BY_SENSOR,
        # A person repeats the command; the daemon must not.
        "dagster/max_retries": "0",
    }


def last_run_of_this_process(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """The newest run that was given this process's ``run_tags``."""
    mine = dg.RunsFilter(tags={_PROCESS_TAG: _PROCESS})
    return next(filter(is_of_command_line, instance.get_runs(mine)), None)


def is_of_command_line(run: dg.DagsterRun) -> bool:
    """Whether a process of the command line executes this run.

    A copy of such a run that the UI launches has the same tags, but also an origin.
    """
    return _PROCESS_TAG in run.tags and run.remote_job_origin is None


def sends_own_alert(run: dg.DagsterRun) -> bool:
    """Whether the process of this run sends the alert of its failure."""
    return is_of_command_line(run) and run.tags.get(_ALERTS_TAG) == _BY_COMMAND


def hold_run_lock(instance: dg.DagsterInstance, run_id: str) -> None:
    """Lock a run until the end of this process, which executes it.

    The kernel releases the lock at the end of the process. The lock needs neither a process id,
    which another PID namespace may use for another process, nor the time of another host. In a home
    that cannot be written to, the run continues without a lock.
    """
    locks = _run_locks(instance)
    staged = locks / f".{uuid.uuid4().hex}"
    try:
        locks.mkdir(exist_ok=True)
        lock = staged.open("wb")
        # Locked before it gets its name, so that the run never seems lost.
        fcntl.flock(lock, fcntl.LOCK_EX)
        staged.rename(locks / run_id)
    except OSError as error:
        _log.warning("run %s cannot be locked, and its loss would go unnoticed: %s", run_id, error)
    else:
        _held_locks.append(lock)


def fail_lost_runs(instance: dg.DagsterInstance) -> None:
    """Mark runs of this home as failed if their process is gone, so that no sensor waits for them.

    Dagster notices the death of a process only while the code server that launched it lives: after
    a power cut, both are gone. Runs without a lock in this home, such as those of another home on
    the same PostgreSQL, are left to their home and to Dagster's run monitoring.
    """
    for lock in _run_locks(instance).glob("[!.]*"):
        if is_locked(lock):
            continue
        # Read after the lock: the end of a run is recorded before its lock is released.
        run = instance.get_run_by_id(lock.name)
        if run is not None and not run.is_finished:
            instance.add_run_tags(run.run_id, {_ALERTS_TAG: _BY_SENSOR})
            instance.report_run_failed(run, "its process ended without reporting an end")
        lock.unlink(missing_ok=True)


def _run_locks(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / _RUN_LOCKS


class _LockingExecutor(dg.Executor):
    def __init__(self, executor: dg.Executor) -> None:
        self._executor = executor

    @property
    def retries(self) -> Any:
        return self._executor.retries

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        hold_run_lock(plan_context.instance, plan_context.run_id)
        return self._executor.execute(plan_context, execution_plan)


_DEFAULT_EXECUTOR: Any = dg.multi_or_in_process_executor
# Dagster's default executor; the process of a launched run holds the run's lock.
locking_executor = dg.ExecutorDefinition(
    _DEFAULT_EXECUTOR.name,
    _DEFAULT_EXECUTOR.config_schema,
    _DEFAULT_EXECUTOR.get_requirements,
    lambda init_context: _LockingExecutor(_DEFAULT_EXECUTOR.executor_creation_fn(init_context)),
)
