from __future__ import annotations

from pathlib import Path

import ctranslate2
import pytest
import torch

from reviewsum_assets.errors import JobError
from reviewsum_assets.job.devices import (
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
    assert [device.gpu_memory_gib for device in found] == pytest.approx([22.49, 44.99], abs=0.01)
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
    ("visible", "keys", "names"),
    [
        ("1", ["1"], ["NVIDIA L40S"]),
        ("1,0", ["1", "0"], ["NVIDIA L40S", "NVIDIA A10G"]),
        ("GPU-0b", ["GPU-0b"], ["NVIDIA L40S"]),
        ("MIG-5c", ["MIG-5c"], ["unknown GPU"]),
    ],
)
def test_gpus_that_were_hidden_from_this_process_are_left_alone(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, visible: str, keys: list[str], names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: len(keys))
    found = find_gpus(AUTO)
    assert [gpu.key for gpu in found.usable] == keys
    assert [gpu.name for gpu in found.usable] == names


def test_an_index_among_gpus_of_two_kinds_says_nothing_of_which_it_is(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    (found,) = find_gpus(AUTO).usable
    assert (found.key, found.name, found.memory_gib) == ("1", "unknown GPU", 0)


@pytest.mark.parametrize("visible", ["", "-1"])
def test_all_gpus_can_be_hidden_without_a_word(
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


def test_a_driver_whose_gpus_no_library_can_use_is_told_and_cuda_refused(
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
