"""cuBLAS is found where wheels and toolkits put it; stand-ins for it have its name and no code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

_STAND_IN = "libtorch_global_deps.so"
_FIND_BY_NAME = """
import ctypes
from reviewsum_assets.job.devices import load_cublas
print(load_cublas())
ctypes.CDLL("libcublas.so.12")  # as CTranslate2 asks for it
"""


def put_library(folder: Path, name: str) -> None:
    """A loadable library that calls itself ``name``, as the loader's table of names has it."""
    source = Path(torch.__file__).parent / "lib" / _STAND_IN
    own = f"{_STAND_IN}\0".encode()
    content = source.read_bytes()
    assert content.count(own) == 1
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.replace(own, name.encode().ljust(len(own), b"\0")))


def find(search_path: Path) -> subprocess.CompletedProcess[str]:
    """Look for cuBLAS in a process of its own: a library that is loaded stays loaded."""
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(search_path)!r})"]
    command[-1] += _FIND_BY_NAME
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no CUDA")
@pytest.mark.parametrize("folder", ["nvidia/cublas/lib", "torch/lib"])
def test_cublas_of_a_package_is_found_by_its_name_afterwards(tmp_path: Path, folder: str) -> None:
    for name in ("libcublas.so.12", "libcublasLt.so.12"):
        put_library(tmp_path / folder, name)
    done = find(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / folder / "libcublas.so.12")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no CUDA")
def test_cublas_of_cuda_13_is_not_taken_for_it(tmp_path: Path) -> None:
    for name in ("libcublas.so.13", "libcublasLt.so.13"):
        put_library(tmp_path / "nvidia/cublas/lib", name)
    done = find(tmp_path)
    assert done.stdout.strip() == "None"
    assert "libcublas.so.12" in done.stderr
