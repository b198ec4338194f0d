"""The persistent Dagster instance: where runs and partition states are kept between calls."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

import dagster as dg
import psutil
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager

from reviewsum_assets.errors import SettingsError

DEFAULT_HOME = ".dagster_home"
# Runs that start Processing jobs are in it; the instance says how many of them work at a time.
GPU_POOL = "gpu_processing"

# Written once into a new home; from then on it is the user's to change.
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
_PID_TAG, _HOST_TAG = "reviewsum/pid", "reviewsum/host"
_ALERTS_TAG, _BY_COMMAND, _BY_SENSOR = "reviewsum/alerts", "command", "sensor"
# A clock that was set makes a process look younger or older than it is.
_CLOCK_SECONDS = 60.0
# To keep what a run prints, Dagster starts processes that answer Ctrl-C with tracebacks.
_NO_COMPUTE_LOGS = {
    "module": NoOpComputeLogManager.__module__,
    "class": NoOpComputeLogManager.__name__,
}


def prepare_home() -> Path:
    """Make the home, if there is none, and point ``DAGSTER_HOME`` at it: whole, for many to open.

    Raises:
        SettingsError: it cannot be made, or a variable that it needs is missing.
    """
    with _writable_home() as home:
        config = home / "dagster.yaml"
        if not config.exists():
            _write_whole(config, _new_config().read_text())
    os.environ["DAGSTER_HOME"] = str(home)
    # It makes its tables at the first opening, which two processes must not do at once.
    with _locked(home), dg.DagsterInstance.get() as instance:
        _limit_gpu_pool(instance)
    return home


def note_lake(uri: str) -> str:
    """Note whose partitions the home has from now on; another lake that it was of, if any.

    Partitions of two lakes have the same names: what one of them says undoes what the other said.
    """
    with _writable_home() as home:
        note = home / _LAKE_NOTE
        before = note.read_text() if note.exists() else uri
        _write_whole(note, uri)
    return "" if before == uri else before


def require_free_port(host: str, port: int) -> None:
    """Find out before anything is started whether the UI could listen there.

    Raises:
        SettingsError: it could not; says why.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # A name may stand for an IPv6 address too, on a machine that has none.
        for family, kind, _, _, address in [a for a in found if a[0] == socket.AF_INET] or found:
            with socket.socket(family, kind) as tried:
                # As the server does it: connections that have just ended are not in its way.
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(address)
    except OSError as error:
        raise SettingsError(
            f"the UI cannot listen on {host}, port {port} ({error.strerror}): end what does, or "
            "name others with --port and --host"
        ) from error


def become_ui(home: Path, host: str, port: int) -> NoReturn:
    """Go on as the Dagster UI and daemon, in place of this process, so that signals reach them."""
    dagster = str(Path(sys.executable).with_name("dagster"))
    arguments = ["-w", str(workspace_file(home)), "--host", host, "--port", str(port)]
    os.execv(dagster, [dagster, "dev", *arguments])


def workspace_file(home: Path) -> Path:
    """A workspace file for this code location, in the home."""
    path = home / "workspace.yaml"
    path.write_text(_WORKSPACE)
    return path


def _new_config() -> Path:
    """The configuration of a new home: of one machine, or of a team if it names a PostgreSQL.

    Raises:
        SettingsError: a variable that a team's instance needs is missing.
    """
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
    """The home, made if need be, with nobody else who sets it up.

    Raises:
        SettingsError: it cannot be made or written to.
    """
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
    """Write a file of a locked home so that a kill leaves all of it, or what was there before."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
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

    Runs of the command line whose process is gone are marked as failed first, so that no page
    shows them as running for ever. What a run of it prints is in its terminal, and is not kept.
    """
    home = prepare_home()
    ref = InstanceRef.from_dir(str(home), overrides={"compute_logs": _NO_COMPUTE_LOGS})
    with dg.DagsterInstance.from_ref(ref) as instance:
        fail_orphans(instance)
        yield instance


def _limit_gpu_pool(instance: dg.DagsterInstance) -> None:
    """Give the pool the instance's default limit, unless it has one.

    The daemon does so too late: it lets the first runs that it sees of a pool through, all of them.
    """
    storage = instance.event_log_storage
    if instance.global_op_concurrency_default_limit is not None and not any(
        pool.name == GPU_POOL for pool in storage.get_pool_limits()
    ):
        storage.initialize_concurrency_limit_to_default(GPU_POOL)


def run_tags(*, tells_of_failure: bool) -> dict[str, str]:
    """Tags by which a run of this process is found again.

    Args:
        tells_of_failure: whether this process alerts people if the run fails.
    """
    return {
        _PID_TAG: str(os.getpid()),
        _HOST_TAG: socket.gethostname(),
        _ALERTS_TAG: _BY_COMMAND if tells_of_failure else _BY_SENSOR,
        # Whoever called the command calls it again; the daemon must not do so by itself.
        "dagster/max_retries": "0",
    }


def last_run_of_this_process(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """The newest run that was given this process's ``run_tags``."""
    started = datetime.fromtimestamp(psutil.Process().create_time(), tz=timezone.utc)
    mine = dg.RunsFilter(
        tags={_PID_TAG: str(os.getpid()), _HOST_TAG: socket.gethostname()},
        # Another process had the same id once.
        created_after=started,
    )
    return next(filter(is_of_command_line, instance.get_runs(mine)), None)


def is_of_command_line(run: dg.DagsterRun) -> bool:
    """Whether a process of the command line executes this run.

    One that is made from such a run in the UI has all its tags, and was launched: it has an origin.
    """
    return _PID_TAG in run.tags and run.remote_job_origin is None


def tells_of_its_failure(run: dg.DagsterRun) -> bool:
    """Whether the process of this run alerts people of its failure, so that nobody else need."""
    return is_of_command_line(run) and run.tags.get(_ALERTS_TAG) == _BY_COMMAND


def fail_orphans(instance: dg.DagsterInstance) -> None:
    """Mark runs of the command line on this host as failed whose process is gone."""
    running = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED],
        tags={_HOST_TAG: socket.gethostname()},
    )
    for record in instance.get_run_records(running):
        run = record.dagster_run
        if is_of_command_line(run):
            fail_if_gone(
                instance, run.run_id, int(run.tags[_PID_TAG]), record.create_timestamp.timestamp()
            )


def fail_if_gone(instance: dg.DagsterInstance, run_id: str, pid: int, since: float) -> None:
    """Mark a run as failed if its process is gone, which was there ``since`` (a POSIX time)."""
    if _is_alive(pid, since):
        return
    # Looked at again: it may have ended since it was listed, and its process with it.
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.add_run_tags(run_id, {_ALERTS_TAG: _BY_SENSOR})
        instance.report_run_failed(run, "its process ended without reporting an end")


def _is_alive(pid: int, since: float) -> bool:
    """Whether this process runs; a younger one has the id of one that is gone, after a reboot."""
    try:
        process = psutil.Process(pid)
        # In a container, there may be nobody to whom an orphan could report its end.
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(process.create_time() <= since + _CLOCK_SECONDS)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
