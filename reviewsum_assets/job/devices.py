"""GPUs and CPU cores of this machine, and the workers of a job on them."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from reviewsum_assets.errors import JobError
from reviewsum_assets.settings import EngineSettings

# CTranslate2's wheel is built for CUDA 12 and opens the second by name when the first matrix
# product runs; the second needs the first. PyTorch's current wheels and AWS's current images bring
# CUDA 13, so that the loader's path has no such name.
_CUBLAS = ("libcublasLt.so.12", "libcublas.so.12")
# Below a folder of Python packages: NVIDIA's own wheels, and PyTorch's builds that hold it.
_IN_PACKAGES = ("nvidia/cublas/lib", "torch/lib")
# A CPU worker holds float32 weights (4 bytes per parameter), activations of about as much, and
# half a GiB of libraries.
_BYTES_PER_PARAMETER = 8
_BYTES_PER_PROCESS = 2**29
_SHARE_OF_MEMORY = 0.6
_DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg")  # of Linux, and of Windows' subsystem for it
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """One GPU. ``key`` is its name in CUDA_VISIBLE_DEVICES; memory is in GiB, 0 if unknown."""

    key: str
    name: str = "unknown GPU"
    memory_gib: float = 0.0
    driver: str = ""

    def __str__(self) -> str:
        memory = f", {self.memory_gib:.0f} GiB" if self.memory_gib else ""
        return f"{self.name}{memory}"


@dataclass(frozen=True)
class Gpus:
    """The GPUs that the engine's library can use.

    ``problem`` says why there is none although the driver shows some; it is empty otherwise.
    """

    usable: tuple[Gpu, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class WorkerDevice:
    """Device of one worker: a GPU, or some threads of the CPU.

    ``leases`` is the number of leases held at one time: reading one ahead of the one generated
    helps where the CPU would be idle otherwise.
    """

    gpu: Gpu | None
    threads: int
    leases: int = 1

    def __str__(self) -> str:
        return f"cpu x {self.threads} threads" if self.gpu is None else f"cuda ({self.gpu})"

    def pool_products(self, engine: EngineSettings) -> int:
        """Products whose chunks a worker pools, about ten batches."""
        return round(engine.batch_size * self._batch_factor)

    def tokens_per_batch(self, engine: EngineSettings, chunk_tokens: int) -> int:
        """Source tokens per batch, padding included, for full chunks of ``chunk_tokens``."""
        full_chunks = round(engine.chunk_batch_size * self._batch_factor)
        return engine.batch_tokens or full_chunks * chunk_tokens

    @property
    def _batch_factor(self) -> float:
        """Factor of the device's batches: 1 on a CPU, 10 on a GPU of unknown memory.

        Ten times the batch, 36,000 source tokens, takes 8 to 20 GiB of a GPU, by engine and length
        of the chunks; weights and libraries take another 4. Modelled from the sizes of weights,
        activations and caches in bfloat16, not measured. 22.5 GiB: an A10G or L4, sold as 24 GB.
        """
        if self.gpu is None:
            return 1.0
        gib = self.gpu.memory_gib
        return max(1.0, 10 * (gib - 4.0) / (22.5 - 4.0)) if gib else 10.0


def worker_devices(engine: EngineSettings, parameters: int) -> list[WorkerDevice]:
    """Return a device per worker; ``parameters`` of the model decide how many CPU workers fit.

    Raises:
        JobError: ``device`` is ``cuda`` and no GPU can be used.
    """
    found = Gpus() if engine.device == "cpu" else find_gpus(engine)
    if engine.device == "cuda" and not found.usable:
        raise JobError(
            f"device is cuda, but {found.problem or 'this machine shows no GPU'}. To fix: install "
            "a driver and libraries that fit each other, or set device to cpu"
        )
    cores = usable_cores()
    if found.usable:
        chosen = found.usable[: engine.workers or len(found.usable)]
        return [WorkerDevice(gpu, max(1, cores // len(chosen)), leases=2) for gpu in chosen]
    # One thread per process beats several threads in one: a decoding step is too small to share.
    workers = engine.workers or max(1, min(cores, fitting_workers(parameters)))
    return [WorkerDevice(None, max(1, cores // workers)) for _ in range(workers)]


def find_gpus(engine: EngineSettings) -> Gpus:
    """Find the GPUs that CUDA_VISIBLE_DEVICES allows this process."""
    visible = os.environ.get(_VISIBLE)
    keys = None if visible is None else [key.strip() for key in visible.split(",") if key.strip()]
    shown = driver_gpus()
    if not shown and not any(map(os.path.exists, _DRIVER_FILES)):
        return Gpus()  # no driver: avoid the seconds that importing torch takes
    if keys is not None and (not keys or keys[0] == "-1"):
        return Gpus()  # hidden on purpose
    count = _usable_count(engine)
    if not count:
        return Gpus(problem=_why_unusable(engine, shown))
    if keys is None:
        keys = [gpu.key for gpu in shown] or [str(index) for index in range(count)]
    return Gpus(tuple(_shown_as(key, shown) for key in keys[:count]))


def unused_gpus(engine: EngineSettings) -> str:
    """Return why ``device`` auto does not use this machine's GPUs; empty without a problem."""
    problem = find_gpus(engine).problem if engine.device == "auto" else ""
    return f"this job runs on CPU cores, which is much slower: {problem}" if problem else ""


def driver_gpus() -> tuple[Gpu, ...]:
    """List the GPUs that ``nvidia-smi`` shows; none where there is no working driver."""
    try:
        return _answer_of(shutil.which("nvidia-smi") or "nvidia-smi")
    except (OSError, subprocess.SubprocessError):
        return ()


@functools.cache  # takes up to a second where the driver is not kept loaded
def _answer_of(program: str) -> tuple[Gpu, ...]:
    fields = "--query-gpu=uuid,name,memory.total,driver_version"
    command = [program, fields, "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = [[value.strip() for value in line.split(",")] for line in answer.stdout.splitlines()]
    return tuple(
        Gpu(key, name, float(mib) / 1024 if mib.replace(".", "").isdigit() else 0.0, driver)
        for key, name, mib, driver in (row for row in rows if len(row) == 4)
    )


def device_name(kind: str) -> str:
    """Return the model of this process's GPU, or the CPU's architecture; never raises."""
    if kind != "cuda":
        return platform.processor() or platform.machine()
    return _shown_as(os.environ.get(_VISIBLE, "").partition(",")[0], driver_gpus()).name


def _shown_as(key: str, shown: Sequence[Gpu]) -> Gpu:
    """Find the GPU of a key in CUDA_VISIBLE_DEVICES; a part of a GPU has no other key.

    CUDA counts the fastest first, the driver's program by bus: an index identifies a GPU only if
    all are alike.
    """
    by_key = {gpu.key: gpu for gpu in shown}
    in_bus_order = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if in_bus_order or len({gpu.name for gpu in shown}) == 1:
        by_key |= {str(index): gpu for index, gpu in enumerate(shown)}
    return replace(by_key.get(key, Gpu(key)), key=key)


def _usable_count(engine: EngineSettings) -> int:
    """Count the GPUs that a library of the engine can use; the faster import comes first."""
    if engine.engine != "transformers":
        import ctranslate2

        count: int = ctranslate2.get_cuda_device_count()
        if count or engine.engine == "ctranslate2":
            return count
    import torch

    return torch.cuda.device_count()


def _why_unusable(engine: EngineSettings, shown: tuple[Gpu, ...]) -> str:
    driver = "there is a driver"
    if shown:
        driver = f"the driver {shown[0].driver} shows {len(shown)} GPU ({shown[0]})"
    libraries = []
    if engine.engine != "transformers":
        libraries.append("CTranslate2 finds no GPU that it was built for")
    if engine.engine != "ctranslate2":
        import torch

        built_for = torch.version.cuda
        libraries.append(
            f"PyTorch {torch.__version__} needs a driver for CUDA {built_for} or newer"
            if built_for
            else f"PyTorch {torch.__version__} is a build without CUDA"
        )
    return f"{driver} and no library can use it: {', '.join(libraries)}"


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS binds no process to cores


def fitting_workers(parameters: int) -> int:
    """Count the CPU workers with a model of so many parameters that fit into free memory."""
    available = _SHARE_OF_MEMORY * psutil.virtual_memory().available
    return int(available // (parameters * _BYTES_PER_PARAMETER + _BYTES_PER_PROCESS))


def hide_other_devices(device: WorkerDevice) -> None:
    """Show this process only its own GPU; to be called before a GPU library is imported."""
    os.environ[_VISIBLE] = "" if device.gpu is None else device.gpu.key


def load_cublas() -> Path | None:
    """Load cuBLAS of CUDA 12 into this process: a loaded library is found by its name.

    Returns:
        Its place: a bare name on the loader's own path; None if it is missing.
    """
    for folder in _cublas_folders():
        with suppress(OSError):
            for name in _CUBLAS:
                ctypes.CDLL(str(folder / name))
            return folder / _CUBLAS[-1]
    return None


def _cublas_folders() -> Iterator[Path]:
    # Packages first: PyTorch may be built for the one beside it, and need exactly its version.
    for packages in dict.fromkeys(sys.path):
        yield from (Path(packages, folder).absolute() for folder in _IN_PACKAGES)
    yield Path()  # a bare name: the loader's path
    yield from (cuda / "lib64" for cuda in sorted(Path("/usr/local").glob("cuda*"), reverse=True))
