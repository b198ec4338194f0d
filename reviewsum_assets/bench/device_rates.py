"""What this device gives at best: operations and bytes a second, measured with torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SMALLEST_MATRIX = 256
# Where a product takes its full rate: 17 GFLOP on a CPU, 1.1 TFLOP on a GPU.
_LARGEST_MATRIX = {"cpu": 2048, "cuda": 8192}
# Larger than any processor's last cache, so that memory is what is measured.
_COPY_BYTES = 2**29
_LEAST_REPEATS = 3


@dataclass(frozen=True)
class DeviceRates:
    """Billions of operations a second, and GB (1e9 bytes) moved a second."""

    gflops: float
    gb_per_s: float


def measure_device(device: str, dtype: str, threads: int, *, seconds: float = 1.0) -> DeviceRates:
    """Measure matrix rate and memory bandwidth.

    Allocates 1 GiB on the device, and leaves torch's number of threads as it was.

    Args:
        device: ``cpu`` or ``cuda``, torch's current GPU.
        dtype: ``float32``, ``bfloat16`` or ``float16``, of the matrices.
        threads: of the CPU.
        seconds: to repeat each of the two measurements for; they are done within about three
            times as long, or a second if that is more.

    Raises:
        KeyError: the device or the dtype is none of these.
    """
    with _threads(threads), torch.inference_mode():
        return DeviceRates(
            gflops=_matrix_rate(device, dtype, seconds), gb_per_s=_bandwidth(device, seconds)
        )


def _matrix_rate(device: str, dtype: str, seconds: float) -> float:
    """GFLOP a second of a product of two square matrices of n rows: 2 n^3 operations.

    The matrices grow as long as that leaves time to repeat: a processor without arithmetic in
    ``dtype`` may be hundreds of times slower than in another.
    """
    largest = _LARGEST_MATRIX[device]
    size = _SMALLEST_MATRIX
    product = _product(device, dtype, size)
    while size < largest and 2**3 * _warm_seconds(device, product) < seconds / 2:
        size *= 2
        product = _product(device, dtype, size)
    return 2 * size**3 / _best_seconds(device, product, seconds) / 1e9


def _product(device: str, dtype: str, size: int) -> Callable[[], object]:
    left, right = (torch.randn(size, size, device=device).to(_DTYPES[dtype]) for _ in range(2))
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)


def _bandwidth(device: str, seconds: float) -> float:
    """GB a second of a copy, each byte counted as read and as written.

    So does STREAM (https://www.cs.virginia.edu/stream/ref.html). Where a processor reads a line of
    memory before it overwrites it, that is not counted, and pure reading can be half as fast again.
    """
    source = torch.ones(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    fastest = _best_seconds(device, lambda: target.copy_(source), seconds)
    return 2 * _COPY_BYTES / fastest / 1e9


def _best_seconds(device: str, work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of several runs; the slower ones were disturbed by something else."""
    times = [_warm_seconds(device, work)]
    while len(times) < _LEAST_REPEATS or sum(times) < seconds:
        times.append(_seconds(device, work))
    return min(times)


def _warm_seconds(device: str, work: Callable[[], object]) -> float:
    """Seconds of a second run: the first one touches new memory and picks its kernel."""
    work()
    return _seconds(device, work)


def _seconds(device: str, work: Callable[[], object]) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
