from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ctranslate2
import pytest
import torch

from reviewsum_assets.errors import JobError
from reviewsum_assets.job.devices import (
    Gpu,
    WorkerDevice,
    device_name,
    find_gpus,
    hide_other_devices,
    unused_gpus,
    worker_devices,
)
from reviewsum_assets.settings import EngineSettings
from tests.support.gpus import A10G, L40S, show_gpus

AUTO = EngineSettings()
CUDA = EngineSettings(device="cuda")


@pytest.fixture(autouse=True)
def _restored_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is restored
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs that CTranslate2 can use, an A10G and an L40S."""
    show_gpus(tmp_path / "bin", monkeypatch, A10G, L40S)
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 2)


def test_there_is_a_worker_per_gpu_with_its_name_and_memory(two_gpus: None) -> None:
    found = worker_devices(AUTO, 1)
    assert [str(device) for device in found] == [
        "cuda (NVIDIA A10G, 22 GiB)",
        "cuda (NVIDIA L40S, 45 GiB)",
    ]
    memory = [device.gpu.memory_gib for device in found if device.gpu is not None]
    assert memory == pytest.approx([22.49, 44.99], abs=0.01)
    assert len(worker_devices(EngineSettings(workers=1), 1)) == 1


def test_a_worker_sees_its_own_gpu_and_no_other(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = worker_devices(AUTO, 1)
    hide_other_devices(second)
    assert device_name("cuda") == "NVIDIA L40S"
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    assert [gpu.key for gpu in find_gpus(AUTO).usable] == ["GPU-0b"]


@pytest.mark.parametrize(
    ("visible", "order", "names"),
    [
        ("1", "PCI_BUS_ID", ["NVIDIA L40S"]),
        ("1,0", "PCI_BUS_ID", ["NVIDIA L40S", "NVIDIA A10G"]),
        ("GPU-0b", "PCI_BUS_ID", ["NVIDIA L40S"]),
        ("MIG-5c", "PCI_BUS_ID", ["unknown GPU"]),
        # In another order, an index does not identify one of two kinds.
        ("1", "FASTEST_FIRST", ["unknown GPU"]),
    ],
)
def test_gpus_that_were_hidden_from_this_process_are_left_alone(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, visible: str, order: str, names: list[str]
) -> None:
    keys = visible.split(",")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: len(keys))
    found = find_gpus(AUTO)
    assert [gpu.key for gpu in found.usable] == keys
    assert [gpu.name for gpu in found.usable] == names


@pytest.mark.parametrize("visible", ["", "-1"])
def test_all_gpus_can_be_hidden_silently(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert worker_devices(AUTO, 1)[0].gpu is None
    assert unused_gpus(AUTO) == ""


def test_a_gpu_that_torch_alone_can_use_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_gpus(tmp_path / "bin", monkeypatch, A10G)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert [gpu.name for gpu in find_gpus(AUTO).usable] == ["NVIDIA A10G"]
    assert find_gpus(EngineSettings(engine="ctranslate2")).usable == ()


def test_a_driver_whose_gpus_no_library_can_use_is_reported_and_cuda_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_gpus(tmp_path / "bin", monkeypatch, A10G)
    said = unused_gpus(AUTO)
    assert said.startswith("this job runs on CPU cores")
    assert "580.95.05 shows 1 GPU (NVIDIA A10G, 22 GiB)" in said
    assert "CTranslate2 finds no GPU" in said
    with pytest.raises(JobError, match=r"device is cuda, but the driver 580\.95\.05 shows 1 GPU"):
        worker_devices(CUDA, 1)


def test_without_a_driver_nothing_is_said_and_cuda_refused() -> None:
    assert unused_gpus(AUTO) == ""
    with pytest.raises(JobError, match="this machine shows no GPU"):
        worker_devices(CUDA, 1)


def test_a_driver_program_that_fails_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_gpus(tmp_path / "bin", monkeypatch)
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9")
    assert find_gpus(AUTO).usable == ()
    assert device_name("cuda") == "unknown GPU"


_STAND_IN = "libtorch_global_deps.so"
_FIND_BY_NAME = """
import ctypes
from reviewsum_assets.job.devices import load_cublas
print(load_cublas())
ctypes.CDLL("libcublas.so.12")  # as CTranslate2 asks for it
"""


def put_library(folder: Path, name: str) -> None:
    """A loadable library without code whose own name is ``name``."""
    source = Path(torch.__file__).parent / "lib" / _STAND_IN
    own = f"{_STAND_IN}\0".encode()
    content = source.read_bytes()
    assert content.count(own) == 1
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.replace(own, name.encode().ljust(len(own), b"\0")))


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no CUDA")
@pytest.mark.parametrize(
    ("folder", "version", "is_found"),
    [("nvidia/cublas/lib", 12, True), ("torch/lib", 12, True), ("nvidia/cublas/lib", 13, False)],
)
def test_cublas_of_cuda_12_in_a_package_is_found_by_its_name_afterwards(
    tmp_path: Path, folder: str, version: int, is_found: bool
) -> None:
    for name in (f"libcublas.so.{version}", f"libcublasLt.so.{version}"):
        put_library(tmp_path / folder, name)
    # In a process of its own: a loaded library stays loaded.
    code = f"import sys; sys.path.append({str(tmp_path)!r})" + _FIND_BY_NAME
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    found = str(tmp_path / folder / "libcublas.so.12") if is_found else "None"
    assert done.stdout.strip() == found
    assert (done.returncode == 0) == is_found
    assert is_found or "libcublas.so.12" in done.stderr


@pytest.mark.parametrize(
    ("gpu", "tokens", "products"),
    [
        (None, 3_600, 40),
        (Gpu("0"), 36_000, 400),
        (Gpu("0", memory_gib=3.0), 3_600, 40),
        (Gpu("0", memory_gib=15.0), 21_300, 238),
        (Gpu("0", memory_gib=22.5), 36_000, 400),
        (Gpu("0", memory_gib=45.0), 79_800, 886),
    ],
)
def test_batches_follow_the_memory_of_the_gpu_unless_they_are_given(
    gpu: Gpu | None, tokens: int, products: int
) -> None:
    device = WorkerDevice(gpu, threads=1)
    assert device.tokens_per_batch(AUTO, 300) == tokens
    assert device.pool_products(AUTO) == products
    assert device.tokens_per_batch(EngineSettings(batch_tokens=1000), 300) == 1_000
