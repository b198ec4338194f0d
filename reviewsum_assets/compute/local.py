"""Runs jobs as local processes that outlive the process that started them.

A job is a directory: spec, log, lock. Only the job's process holds the lock, so a job is live
exactly as long as its lock is held. Hosts that share a lake on S3 cannot see each other's locks:
there a job holds a lease on the lake too, and jobs are started under the lake's start lock.
"""

from __future__ import annotations

import fcntl
import hashlib
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
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil

import reviewsum_assets
from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.compute.base import Capacity, JobEnd, Launch, failure_of
from reviewsum_assets.compute.failures import FailureKind, JobFailure, LaunchError
from reviewsum_assets.compute.launches import JobElsewhere, note_run, note_waiting, read_specs
from reviewsum_assets.errors import JobError
from reviewsum_assets.job import lease
from reviewsum_assets.job.devices import unused_gpus, worker_devices
from reviewsum_assets.job.models.directory import read_ready_model
from reviewsum_assets.job.progress import death, read_result
from reviewsum_assets.job.spec import JobSpec, read_spec
from reviewsum_assets.settings import EngineSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.locks import exclusive
from reviewsum_assets.storage.places import spec_key

_SPEC, _LOG, _LOCK, _PID, _MESSAGE = "spec.json", "job.log", "lock", "pid", "message"
# Where the pid is valid: containers that share a lake may give the same number to other processes.
_NAMESPACE = "pid_namespace"
_STOP_SECONDS = 30.0
# With less free space a job cannot even say why it failed.
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
        """Return None while the process runs."""
        if self.is_live:
            return None
        code = self._process.wait() if self._process is not None else None
        result = read_result(self.lake, self.spec.name)
        if result is not None:
            return JobEnd(result, failure_of(result))
        message = self.directory / _MESSAGE
        if message.exists() and (said := message.read_text(encoding="utf-8", errors="replace")):
            return JobEnd(failure=JobFailure(FailureKind.JOB, said))
        ended = "its process ended" if code is None else death(code)
        reason = f"{ended}; it wrote no result"
        if shutil.disk_usage(self.directory).free < _MESSAGE_BYTES:
            reason += f": cannot write to {self.directory} (No space left on device)"
        return JobEnd(failure=JobFailure(FailureKind.JOB, reason))

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        try:
            with (self.directory / _LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def usd_so_far(self) -> float:
        """Return 0: this machine is not billed per job."""
        return 0.0

    def request_stop(self) -> None:
        """Send SIGTERM.

        Raises:
            JobError: The job's process is in another PID namespace.
        """
        if self.is_live:
            self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """Send SIGTERM, then SIGKILL if the job has not ended within 30 seconds.

        Raises:
            JobError: The job's process is in another PID namespace, or has not ended.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + _STOP_SECONDS
            while self.is_live and time.monotonic() < deadline:
                self._signal(number)
                time.sleep(0.2)
        if self.is_live:
            raise JobError(
                f"job {self.spec.name} was killed and has not ended: its process still holds "
                f"{self.directory / _LOCK}"
            )

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal if the process with the noted number is verifiably this job's."""
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


@dataclass(frozen=True)
class LocalCompute:
    """Jobs as processes of this machine, on its GPUs or its CPU."""

    lake: Lake
    engine: EngineSettings = field(default_factory=EngineSettings)
    poll_seconds: float = 0.5
    needs_time_limit: bool = False

    @property
    def capacity(self) -> Capacity:
        """The workers that this machine has devices for, at no charge."""
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
        """A warning if the job runs on CPU cores although there are GPUs."""
        return [slow] if (slow := unused_gpus(self.engine)) else []

    def start(self, spec: JobSpec, launch: Launch) -> LocalJob | JobElsewhere:
        """Start a process for ``spec``, or attach to the live one of the same name.

        On a lake that hosts can share, attach to any live job of another host that computes some of
        the same checkpoints.
        """
        if not self._is_shared:
            return self._start(spec, launch)
        while True:
            with exclusive(self.lake, places.JOB_STARTS) as lock:
                for job in self._jobs_elsewhere():
                    if job.spec.overlaps(spec):
                        note_waiting(self.lake, job.spec.name, launch.run_id)
                        return job
                if lock.is_held():  # else suspended until another process took it: look again
                    return self._start(spec, launch)

    def links_of(self, producer: Producer) -> dict[str, str]:
        """Return the path of the job's log if it ran on this machine and the log still exists."""
        log = self._root() / producer.job_name / _LOG
        is_here = producer.instance_type == "local" and log.exists()
        return {"job_log": str(log)} if is_here else {}

    def live_jobs(self) -> list[LocalJob | JobElsewhere]:
        """Return the jobs whose process runs, here or on another host that shares the lake."""
        live: list[LocalJob | JobElsewhere] = []
        for directory in sorted(self._root().glob("*")):
            if is_locked(directory / _LOCK):
                with suppress(JobError):  # still being laid out by another process
                    spec = read_spec(directory / _SPEC)
                    if spec.name == directory.name:  # else the lock is not held by a job
                        live.append(LocalJob(self.lake, directory, spec, attached=True))
        return [*live, *self._jobs_elsewhere()]

    @property
    def _is_shared(self) -> bool:
        """Whether hosts can share the lake."""
        return self.lake.directory is None

    def _jobs_elsewhere(self) -> list[JobElsewhere]:
        """Return the jobs of other hosts; remove leases that are no longer renewed."""
        live = []
        for name, is_renewed in lease.leases(self.lake).items() if self._is_shared else ():
            directory = self._root() / name
            if directory.exists():  # of this host, where the lock is conclusive
                if not is_locked(directory / _LOCK):
                    lease.release(self.lake, name)
            elif is_renewed:
                live.append(name)
            else:
                lease.take_over(self.lake, name)
        return [JobElsewhere(self.lake, spec) for spec in read_specs(self.lake, live)]

    def _start(self, spec: JobSpec, launch: Launch) -> LocalJob:
        """Start the first attempt that has not ended, or attach to it."""
        suffix = ""
        if self._is_shared:
            # If prune removed the spec of another host's job, its directory here would be mistaken
            # for a job of this host.
            host = hashlib.sha256(f"{socket.gethostname()} {self._root()}".encode()).hexdigest()
            suffix = f"-{host[:6]}"
        for attempt in count(1):
            named = spec.model_copy(update={"name": f"{spec.name}-{attempt}{suffix}"})
            directory = self._root() / named.name
            if directory.exists():
                job = LocalJob(self.lake, directory, named, attached=True)
                if job.is_live:
                    note_waiting(self.lake, named.name, launch.run_id)
                    return job
            elif self._is_free(named):
                return self._launch(named, directory, launch) or self._start(spec, launch)
        raise AssertionError("count() does not end")

    def _is_free(self, spec: JobSpec) -> bool:
        """Whether no other host has had a job of this name; the name is then reserved."""
        content = spec.model_dump_json(indent=1).encode()
        return not self._is_shared or self.lake.create(spec_key(spec.name), content)

    def _root(self) -> Path:
        """Parent of job directories: on the lake if that is a directory, else a temporary one."""
        if self.lake.directory is not None:
            return self.lake.directory / places.PROCESSING_JOBS
        name = hashlib.sha256(self.lake.uri.encode()).hexdigest()[:12]
        return _own_directory(Path(tempfile.gettempdir(), f"reviewsum-{os.getuid()}")) / name

    def _launch(self, spec: JobSpec, directory: Path, launch: Launch) -> LocalJob | None:
        """Start the process; return None if another process laid out the same job first."""
        staged = directory.with_name(f".{uuid.uuid4().hex}")
        try:
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
                note_run(self.lake, spec.name, launch)
                if self._is_shared:
                    lease.renew(self.lake, spec.name)  # from then on the process renews it
                process = self._spawn(directory, lock.fileno())
            pid = directory / f"{_PID}.partial"
            pid.write_text(str(process.pid))
            pid.rename(directory / _PID)
            return LocalJob(self.lake, directory, spec, attached=False, _process=process)
        except OSError as error:
            reason = f"job {spec.name} cannot be started: {error}"
            raise LaunchError(JobFailure(FailureKind.JOB, reason)) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _spawn(self, directory: Path, lock: int) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            # By its path: with -m, modules of the working directory would shadow others.
            str(Path(reviewsum_assets.__file__).parent / "job" / "run_processing.py"),
            *("--spec", str(directory / _SPEC), "--message_file", str(directory / _MESSAGE)),
            *(["--lease"] if self._is_shared else []),
        ]
        with (directory / _LOG).open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                # A terminal's Ctrl-C is for the process that waits, which then stops the job.
                start_new_session=True,
            )


def _own_directory(path: Path) -> Path:
    """Make a directory for this user alone in a place where all users may write.

    Raises:
        JobError: Another user has made it first, and could change its content.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    # One look, at the entry itself: between two looks another user could put a link in its place.
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise JobError(f"{path}, for jobs of this user, belongs to another user: remove it")
    return path


def pid_namespace() -> str:
    """Return the name of the namespace whose process ids are valid here; new after a reboot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: a host has one namespace
        return socket.gethostname()


def is_locked(path: Path) -> bool:
    """Whether a process, in any PID namespace, holds the lock of a file; False: no file."""
    try:
        with path.open("rb") as file:
            # Shared, so that two processes that look at once do not find each other's lock.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    return False
