"""Runs jobs as local processes that outlive whoever started them.

A job is a directory: spec, log, lock. The lock is held by the job's process and by nobody else,
so a job is live exactly as long as its lock is held, whatever was killed in the meantime.

Hosts that share a lake on S3 cannot see each other's locks: there a job holds a lease on the lake
too, and jobs are started under the lake's start lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil
from pydantic import ValidationError

import reviewsum_assets
from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.compute.base import Capacity, JobEnd, Launch, budget_failure
from reviewsum_assets.compute.failures import FailureKind, JobFailure, LaunchError
from reviewsum_assets.compute.launches import note_waiting, start_lock
from reviewsum_assets.errors import JobError, LakeError
from reviewsum_assets.job import lease
from reviewsum_assets.job.devices import unused_gpus, worker_devices
from reviewsum_assets.job.models.directory import read_ready_model
from reviewsum_assets.job.progress import JobResult, death, read_result
from reviewsum_assets.job.spec import JobSpec, pipes_context_key, read_spec, spec_key
from reviewsum_assets.settings import EngineSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

_log = logging.getLogger(__name__)

_SPEC, _LOG, _LOCK, _PID, _MESSAGE = "spec.json", "job.log", "lock", "pid", "message"
# Where the pid is valid: containers that share a lake may give the same number to other processes.
_NAMESPACE = "pid_namespace"
_STOP_SECONDS = 30.0
# Where less is free, a job cannot even say why it failed.
_MESSAGE_BYTES = 64 * 1024
_LOG_TAIL_BYTES = 8192
# Two Python processes, one after the other, and their imports; measured on two CPU cores.
_STARTUP_SECONDS = 4.0


@dataclass
class LocalJob:
    """A job's directory, and its process if this process is the parent."""

    lake: Lake
    directory: Path
    spec: JobSpec
    attached: bool
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def was_stopping(self) -> bool:
        """Whether another host has taken over; a job that ends by a signal is a failure."""
        return self.lake.directory is None and lease.is_taken_over(self.lake, self.spec.name)

    @property
    def links(self) -> dict[str, str]:
        """The log file's path."""
        return {"job_log": str(self.directory / _LOG)}

    @property
    def is_live(self) -> bool:
        """Whether the job's process holds its lock."""
        return is_locked(self.directory / _LOCK)

    def poll(self) -> JobEnd | None:
        """None while the process runs."""
        if self.is_live:
            return None
        code = self._process.wait() if self._process is not None else None
        result = read_result(self.lake, self.spec.name)
        if result is None:
            ended = "its process ended" if code is None else death(code)
            reason = f"{ended}; it wrote no result"
            if shutil.disk_usage(self.directory).free < _MESSAGE_BYTES:
                reason += f": cannot write to {self.directory} (No space left on device)"
            return JobEnd(failure=JobFailure(FailureKind.JOB, self._message() or reason))
        return _end_of(result)

    def log_tail(self) -> str:
        """The last lines of the log."""
        try:
            with (self.directory / _LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def usd_so_far(self) -> float:
        """Nothing: this machine is not billed by the job."""
        return 0.0

    def request_stop(self) -> None:
        """SIGTERM.

        Raises:
            JobError: the job's process is in another PID namespace.
        """
        if self.is_live:
            self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if the job has not ended within 30 seconds.

        Raises:
            JobError: the job's process is in another PID namespace, or has not ended.
        """
        for number, patience in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
            deadline = time.monotonic() + patience
            while self.is_live and time.monotonic() < deadline:
                self._signal(number)
                time.sleep(0.2)
        if self.is_live:
            raise JobError(
                f"job {self.spec.name} was killed and has not ended: its process still holds "
                f"{self.directory / _LOCK}"
            )

    def _message(self) -> str:
        """What the job has left to say."""
        path = self.directory / _MESSAGE
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process with the noted number is this job's, still and really."""
        try:
            if (self.directory / _NAMESPACE).read_text() != pid_namespace():
                raise JobError(
                    f"job {self.spec.name} cannot be stopped from here: its process runs in "
                    "another container or PID namespace, or on another host. To fix: stop it there"
                )
            process = psutil.Process(int((self.directory / _PID).read_text()))
            if str(self.directory / _SPEC) in process.cmdline():
                process.send_signal(number)
        except (FileNotFoundError, ValueError, psutil.Error):
            return  # just starting, or just ended: the caller looks again


@dataclass
class LocalJobElsewhere:
    """A job of another host that shares the lake; followed by its lease."""

    lake: Lake
    spec: JobSpec
    attached: bool = True
    was_stopping: bool = False
    _seen: bytes | None = field(default=None, repr=False)
    _since: float = field(default_factory=time.monotonic, repr=False)

    @property
    def links(self) -> dict[str, str]:
        """The host, whose log shows more."""
        content = lease.lease_content(self.lake, self.spec.name) or b""
        host = content.decode(errors="replace").partition(" ")[0]
        return {"job_host": host} if host else {}

    def poll(self) -> JobEnd | None:
        """None while its lease is renewed, by the clock of this host alone."""
        try:
            content = lease.lease_content(self.lake, self.spec.name)
            if content is not None and content != self._seen:
                self._seen, self._since = content, time.monotonic()
            if content is not None and time.monotonic() - self._since <= lease.STALE_SECONDS:
                return None
            if content is not None:
                lease.take_over(self.lake, self.spec.name)
            result = read_result(self.lake, self.spec.name)
        except LakeError:
            self._since = time.monotonic()  # not seen is not stale
            return None
        # Its host stopped it or died: what it has not landed is still wanted here.
        return JobEnd(result) if result is None or result.stopped else _end_of(result)

    def log_tail(self) -> str:
        """Nothing: the log is on the other host."""
        return ""

    def usd_so_far(self) -> float:
        """Nothing: no host is billed by the job."""
        return 0.0

    def request_stop(self) -> None:
        """Refuse.

        Raises:
            JobError: always.
        """
        where = self.links.get("job_host", "")
        raise JobError(
            f"job {self.spec.name} cannot be stopped from here: it runs on another host, {where}. "
            "To fix: stop it there"
        )

    def stop(self) -> None:
        """Refuse.

        Raises:
            JobError: always.
        """
        self.request_stop()


@dataclass(frozen=True)
class LocalCompute:
    """Jobs as processes of this machine, on the GPUs it has or its CPU."""

    lake: Lake
    engine: EngineSettings = field(default_factory=EngineSettings)
    poll_seconds: float = 0.5

    @property
    def capacity(self) -> Capacity:
        """The workers this machine has devices for, at no charge."""
        plan = current_plan(self.lake)
        version = None if plan is None else plan.recipes[plan.recipe].model_version
        parameters = 0 if version is None else read_ready_model(self.lake, version).parameters
        return Capacity(
            instance_type="local",
            instances=1,
            workers=len(worker_devices(self.engine, parameters)),
            usd_per_hour=0.0,
            startup_seconds=_STARTUP_SECONDS,
        )

    @property
    def notices(self) -> list[str]:
        """That the job runs on CPU cores although there are GPUs."""
        slow = unused_gpus(self.engine)
        return [slow] if slow else []

    @property
    def needs_time_limit(self) -> bool:
        """No: whoever sits at this machine may wait as long as he likes."""
        return False

    def start(self, spec: JobSpec, launch: Launch) -> LocalJob | LocalJobElsewhere:
        """Start a process for ``spec``, or attach to the live one of the same name.

        On a lake that other hosts can share, attach to any live job of theirs that computes some of
        the same.
        """
        if self.lake.directory is not None:
            return self._start(spec, launch)
        while True:
            with start_lock(self.lake) as lock:
                for job in self._jobs_elsewhere():
                    if job.spec.overlaps(spec):
                        note_waiting(self.lake, job.spec.name, launch.run_id)
                        return job
                if lock.is_held():  # else suspended until another process took it: look again
                    return self._start(spec, launch)

    def _start(self, spec: JobSpec, launch: Launch) -> LocalJob:
        for attempt in count(1):
            named = spec.model_copy(update={"name": f"{spec.name}-{attempt}{self._host_suffix()}"})
            directory = self._root() / named.name
            if directory.exists():
                job = LocalJob(self.lake, directory, named, attached=True)
                if job.is_live:
                    note_waiting(self.lake, named.name, launch.run_id)
                    return job
            elif self._is_free(named):
                return self._launch(named, directory, launch) or self._start(spec, launch)
        raise AssertionError("count() does not end")

    def links_of(self, producer: Producer) -> dict[str, str]:
        """The job's log, if it ran on this machine and is still there."""
        log = self._root() / producer.job_name / _LOG
        is_here = producer.instance_type == "local" and log.exists()
        return {"job_log": str(log)} if is_here else {}

    def live_jobs(self) -> list[LocalJob | LocalJobElsewhere]:
        """The jobs whose process runs, here or on another host that shares the lake."""
        return [*self._jobs_here(), *self._jobs_elsewhere()]

    def _jobs_elsewhere(self) -> Iterator[LocalJobElsewhere]:
        """The jobs of other hosts; leases that are not renewed any more are removed."""
        if self.lake.directory is not None:
            return
        for name, is_renewed in lease.leases(self.lake).items():
            directory = self._root() / name
            if directory.exists():  # of this host, where the lock tells more
                if not is_locked(directory / _LOCK):
                    lease.release(self.lake, name)
            elif not is_renewed:
                lease.take_over(self.lake, name)
            else:
                try:
                    spec = JobSpec.model_validate_json(self.lake.get(spec_key(name)) or b"")
                except ValidationError as error:
                    # Written by another version: it must not keep this one from working.
                    _log.warning("the spec of job %s cannot be read: %s", name, error)
                    continue
                if spec.name == name:
                    yield LocalJobElsewhere(self.lake, spec)

    def _host_suffix(self) -> str:
        """End of the names of this host's jobs, on a lake that hosts can share."""
        if self.lake.directory is not None:
            return ""
        # A folder here of another host's job, of which prune has removed the spec, would mislead.
        host = hashlib.sha256(f"{socket.gethostname()} {self._root()}".encode()).hexdigest()
        return f"-{host[:6]}"

    def _is_free(self, spec: JobSpec) -> bool:
        """Whether no other host has had a job of this name; the name is then this job's."""
        content = spec.model_dump_json(indent=1).encode()
        return self.lake.directory is not None or self.lake.create(spec_key(spec.name), content)

    def _jobs_here(self) -> list[LocalJob]:
        live = []
        for directory in sorted(self._root().glob("*")):
            if is_locked(directory / _LOCK):
                try:
                    spec = read_spec(directory / _SPEC)
                except JobError:
                    continue  # still being laid out by another process
                if spec.name != directory.name:
                    continue  # whoever holds this lock is no job of ours
                live.append(LocalJob(self.lake, directory, spec, attached=True))
        return live

    def _root(self) -> Path:
        """Job directories lie on the lake if that is a directory, else in the temporary one."""
        if self.lake.directory is not None:
            return self.lake.directory / places.PROCESSING_JOBS
        name = hashlib.sha256(self.lake.uri.encode()).hexdigest()[:12]
        return _own_directory(Path(tempfile.gettempdir(), f"reviewsum-{os.getuid()}")) / name

    def _launch(self, spec: JobSpec, directory: Path, launch: Launch) -> LocalJob | None:
        """Start the process; None if another process laid out the same job first."""
        staged = directory.with_name(f".{uuid.uuid4().hex}")
        try:
            return self._lay_out(spec, staged, directory, launch)
        except OSError as error:
            reason = f"job {spec.name} cannot be started: {error}"
            raise LaunchError(JobFailure(FailureKind.JOB, reason)) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _lay_out(
        self, spec: JobSpec, staged: Path, directory: Path, launch: Launch
    ) -> LocalJob | None:
        staged.mkdir(parents=True)
        (staged / _SPEC).write_text(spec.model_dump_json(indent=1), encoding="utf-8")
        (staged / _NAMESPACE).write_text(pid_namespace())
        with (staged / _LOCK).open("wb") as lock:
            # Locked before the directory gets its name, and inherited by the process: there is
            # no moment at which the job looks dead.
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                staged.rename(directory)
            except OSError:
                if not directory.exists():
                    raise
                return None
            note_waiting(self.lake, spec.name, launch.run_id)
            if launch.pipes_context is not None:
                self.lake.put(pipes_context_key(spec.name), launch.pipes_context.encode())
            if self.lake.directory is None:
                lease.renew(self.lake, spec.name)  # as of now; then the process renews it
            process = self._spawn(directory, lock.fileno())
        pid = directory / f"{_PID}.partial"
        pid.write_text(str(process.pid))
        pid.rename(directory / _PID)
        return LocalJob(self.lake, directory, spec, attached=False, _process=process)

    def _spawn(self, directory: Path, lock: int) -> subprocess.Popen[bytes]:
        with (directory / _LOG).open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    # By its path: with -m, modules of the working directory would shadow others.
                    str(Path(reviewsum_assets.__file__).parent / "job" / "run_processing.py"),
                    "--spec",
                    str(directory / _SPEC),
                    "--message_file",
                    str(directory / _MESSAGE),
                    *([] if self.lake.directory is not None else ["--lease"]),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                # A terminal's Ctrl-C is for the one who waits; who waits then stops the job.
                start_new_session=True,
            )


def _end_of(result: JobResult) -> JobEnd:
    """The end of a job that has left a result."""
    if result.stopped:
        failure = JobFailure(FailureKind.STOPPED, "it was stopped by a signal")
        return JobEnd(result, failure)
    if result.failed:
        reason = f"{len(result.failed)} checkpoints failed"
        return JobEnd(result, JobFailure(FailureKind.CHECKPOINTS, reason))
    return JobEnd(result, budget_failure(result))


def _own_directory(path: Path) -> Path:
    """A directory where all may write, made for this user alone.

    Raises:
        JobError: somebody else has made it first, and could change what lies there.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    # One look, at the entry itself: between two looks another user could put a link in its place.
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise JobError(f"{path}, for jobs of this user, belongs to somebody else: remove it")
    return path


def pid_namespace() -> str:
    """Name of the namespace whose process ids are valid here; another one after a reboot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: a host has one namespace
        return socket.gethostname()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file, in whichever PID namespace; False: no file."""
    try:
        with path.open("rb") as file:
            # Shared, so that two who look at once do not take each other for the job.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    return False
