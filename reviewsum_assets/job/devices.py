"""cuBLAS for CTranslate2, which opens it by name when the first matrix product runs.

CTranslate2's wheel is built for CUDA 12 and opens ``libcublas.so.12``. PyTorch's current wheels
and AWS's current images bring CUDA 13, so that nothing on the loader's path has this name. A
library that is loaded already is found by its name, wherever it lies.
"""

from __future__ import annotations

import ctypes
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

_CUBLAS = "libcublas.so.12"
# cuBLAS needs it, and would look for it on the loader's path too.
_CUBLAS_LT = "libcublasLt.so.12"
# Below a folder of Python packages: NVIDIA's own wheels, and PyTorch's builds that hold it.
_IN_PACKAGES = ("nvidia/cublas/lib", "torch/lib")
_TOOLKITS = "/usr/local"


def load_cublas() -> Path | None:
    """Load cuBLAS of CUDA 12 into this process, if it can be found.

    Returns:
        Where it was found: a bare name where the loader's own path has it; None if nowhere.
    """
    for candidate in _candidates():
        with suppress(OSError):
            for name in (_CUBLAS_LT, _CUBLAS):
                ctypes.CDLL(str(candidate / name))
            return candidate / _CUBLAS
    return None


def _candidates() -> Iterator[Path]:
    # Packages first: PyTorch may be built for the one beside it, and need its very version.
    for packages in dict.fromkeys(sys.path):
        for folder in _IN_PACKAGES:
            yield Path(packages, folder).absolute()
    yield Path()  # a bare name: the loader's path
    for toolkit in sorted(Path(_TOOLKITS).glob("cuda*"), reverse=True):
        yield toolkit / "lib64"


# A CPU worker holds float32 weights (4 bytes per parameter), activations of about as much, and
# half a GiB of libraries.
_BYTES_PER_PARAMETER = 8
_BYTES_PER_PROCESS = 2**29
_SHARE_OF_MEMORY = 0.6
_DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg")  # of Linux, and of Windows' subsystem for it
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_SHOWN: dict[str, tuple[Gpu, ...]] = {}  # by program


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
    """The GPUs of this machine.

    ``usable`` are those that the engine's library can use. ``problem`` says why there is none
    although the driver shows some; it is empty otherwise.
    """

    usable: tuple[Gpu, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class WorkerDevice:
    """Device of one worker: a GPU, or some threads of the CPU.

    ``leases`` is how many a worker holds at one time: one more than it generates, so that it reads
    ahead, is worth having where the CPU would be idle otherwise.
    """

    gpu: Gpu | None
    threads: int
    leases: int = 1

    def __str__(self) -> str:
        return f"cpu x {self.threads} threads" if self.gpu is None else f"cuda ({self.gpu})"

    @property
    def gpu_memory_gib(self) -> float | None:
        """Memory of the GPU in GiB, 0 if unknown; None on a CPU."""
        return None if self.gpu is None else self.gpu.memory_gib


def worker_devices(engine: EngineSettings, parameters: int) -> list[WorkerDevice]:
    """The devices of a job's workers.

    Args:
        engine: device and workers are taken from it.
        parameters: of the model, to fit CPU workers into memory.

    Raises:
        JobError: ``device`` is ``cuda`` and no GPU can be used; says why.
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
    """The GPUs that this process may use, which is up to CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get(_VISIBLE)
    keys = None if visible is None else [key.strip() for key in visible.split(",") if key.strip()]
    shown = driver_gpus()
    if not shown and not any(map(os.path.exists, _DRIVER_FILES)):
        return Gpus()  # no driver: spare the seconds that importing torch takes
    if keys is not None and (not keys or keys[0] == "-1"):
        return Gpus()  # hidden on purpose
    count = _usable_count(engine)
    if not count:
        return Gpus(problem=_why_unusable(engine, shown))
    if keys is None:
        keys = [gpu.key for gpu in shown] or [str(index) for index in range(count)]
    return Gpus(tuple(_shown_as(key, shown) for key in keys[:count]))


def _shown_as(key: str, shown: Sequence[Gpu]) -> Gpu:
    """The GPU that CUDA_VISIBLE_DEVICES names; its key is kept, since a part of one has no other.

    CUDA counts the fastest first, the driver's program by bus: an index says which it is only
    where all are alike.
    """
    by_key = {gpu.key: gpu for gpu in shown}
    in_bus_order = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if in_bus_order or len({gpu.name for gpu in shown}) == 1:
        by_key |= {str(index): gpu for index, gpu in enumerate(shown)}
    return replace(by_key.get(key, Gpu(key)), key=key)


def unused_gpus(engine: EngineSettings) -> str:
    """Why a job with ``device`` auto runs on CPU cores although there are GPUs; usually empty."""
    problem = find_gpus(engine).problem if engine.device == "auto" else ""
    return f"this job runs on CPU cores, which is much slower: {problem}" if problem else ""


def driver_gpus() -> tuple[Gpu, ...]:
    """The GPUs that the NVIDIA driver shows, by ``nvidia-smi``; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    # Takes up to a second where the driver is not kept loaded.
    if program not in _SHOWN and (found := _asked(program)):
        _SHOWN[program] = found
    return _SHOWN.get(program, ())


def _asked(program: str) -> tuple[Gpu, ...]:
    fields = "uuid,name,memory.total,driver_version"
    try:
        answer = subprocess.run(
            [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()  # a program without a working driver behind it
    rows = [[value.strip() for value in line.split(",")] for line in answer.splitlines()]
    return tuple(
        Gpu(key, name, float(mib) / 1024 if mib.replace(".", "").isdigit() else 0.0, driver)
        for key, name, mib, driver in (row for row in rows if len(row) == 4)
    )


def device_name(kind: str) -> str:
    """The model of the GPU that this process uses, or the CPU's architecture; never raises."""
    if kind != "cuda":
        return platform.processor() or platform.machine()
    return _shown_as(os.environ.get(_VISIBLE, "").partition(",")[0], driver_gpus()).name


def _usable_count(engine: EngineSettings) -> int:
    """GPUs that a library of the engine can use; the one that is imported sooner is asked first."""
    if engine.engine != "transformers":
        import ctranslate2

        count: int = ctranslate2.get_cuda_device_count()
        if count or engine.engine == "ctranslate2":
            return count
    import torch

    return torch.cuda.device_count()


def _why_unusable(engine: EngineSettings, shown: tuple[Gpu, ...]) -> str:
    what = (
        f"the driver {shown[0].driver} shows {len(shown)} GPU ({shown[0]})"
        if shown
        else "there is a driver"
    )
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
    return f"{what} and no library can use it: {', '.join(libraries)}"


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS binds no process to cores


def fitting_workers(parameters: int) -> int:
    """How many CPU workers with a model of so many parameters the memory holds now."""
    available = _SHARE_OF_MEMORY * psutil.virtual_memory().available
    return int(available // (parameters * _BYTES_PER_PARAMETER + _BYTES_PER_PROCESS))


def hide_other_devices(device: WorkerDevice) -> None:
    """Let this process see its own GPU and no other; before any GPU library is imported."""
    os.environ[_VISIBLE] = "" if device.gpu is None else device.gpu.key
