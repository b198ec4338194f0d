"""cuBLAS for CTranslate2, which opens it by name when the first matrix product runs.

CTranslate2's wheel is built for CUDA 12 and opens ``libcublas.so.12``. PyTorch's current wheels
and AWS's current images bring CUDA 13, so that nothing on the loader's path has this name. A
library that is loaded already is found by its name, wherever it lies.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

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
