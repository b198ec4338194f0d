"""Which worker processes a job starts: one a GPU, or as many as cores and memory allow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from reviewsum_assets.errors import JobError
from reviewsum_assets.settings import EngineSettings

# A CPU worker holds float32 weights (4 bytes a parameter), activations of about as much, and
# half a GiB of libraries.
_BYTES_A_PARAMETER = 8
_BYTES_A_PROCESS = 2**29
_SHARE_OF_MEMORY = 0.6


@dataclass(frozen=True)
class WorkerDevice:
    """One worker's device: a GPU's index, or None and some threads of the CPU.

    ``leases`` is how many a worker holds at one time: one more than it generates, so that it reads
    ahead, is worth having where the CPU would be idle otherwise.
    """

    gpu: int | None
    threads: int
    leases: int = 1

    def __str__(self) -> str:
        return f"cpu x {self.threads} threads" if self.gpu is None else f"cuda:{self.gpu}"


def worker_devices(engine: EngineSettings, parameters: int) -> list[WorkerDevice]:
    """The devices of a job's workers.

    Args:
        engine: device and workers are taken from it.
        parameters: of the model, to fit CPU workers into memory.

    Raises:
        JobError: ``device`` is ``cuda`` and there is no GPU.
    """
    gpus = 0 if engine.device == "cpu" else visible_gpus()
    if engine.device == "cuda" and not gpus:
        raise JobError("device is cuda, but no GPU is visible: use device auto or cpu")
    cores = usable_cores()
    if gpus:
        workers = min(engine.workers or gpus, gpus)
        return [WorkerDevice(gpu, max(1, cores // workers), leases=2) for gpu in range(workers)]
    # One thread a process beats several threads in one: a decoding step is too small to share.
    workers = engine.workers or max(1, min(cores, fitting_workers(parameters)))
    return [WorkerDevice(None, max(1, cores // workers)) for _ in range(workers)]


def visible_gpus() -> int:
    """How many GPUs CUDA offers to this process."""
    if not Path("/dev/nvidiactl").exists() and not Path("/dev/dxg").exists():
        return 0  # no driver: spare the seconds that importing torch takes
    import torch

    return torch.cuda.device_count()


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS binds no process to cores


def fitting_workers(parameters: int) -> int:
    """How many CPU workers with a model of so many parameters the memory holds now."""
    available = _SHARE_OF_MEMORY * psutil.virtual_memory().available
    return int(available // (parameters * _BYTES_A_PARAMETER + _BYTES_A_PROCESS))
