from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.engines import EngineName, choose_engine
from reviewsum_assets.job.engines.base import is_out_of_memory
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.settings import EngineSettings, SummarySettings, load_settings
from reviewsum_assets.storage.lake import Lake

PLAIN = SummarySettings()
TEXTS = 300


@pytest.mark.parametrize(
    ("engine", "settings", "obstacle", "name", "reason"),
    [
        ({}, {}, "", "ctranslate2", ""),
        ({}, {}, "no such layer", "transformers", "no such layer"),
        ({"engine": "transformers"}, {}, "", "transformers", "engine is set to transformers"),
        ({}, {"renormalize_logits": False}, "", "transformers", "renormalize_logits is false"),
        ({}, {"early_stopping": False}, "", "transformers", "early_stopping is false"),
        # These settings make no difference without a minimum length and with one beam.
        ({}, {"renormalize_logits": False, "min_length": 0}, "", "ctranslate2", ""),
        ({}, {"early_stopping": False, "num_beams": 1}, "", "ctranslate2", ""),
        ({"dtype": "int8"}, {}, "", "ctranslate2", ""),
    ],
)
def test_the_faster_engine_is_chosen_if_it_gives_the_same_summaries(
    engine: dict[str, str], settings: dict[str, object], obstacle: str, name: str, reason: str
) -> None:
    choice = choose_engine(EngineSettings(**engine), PLAIN.model_copy(update=settings), obstacle)
    assert choice.name == name
    assert choice.reason.startswith(reason)
    assert bool(choice.reason) == bool(reason)


@pytest.mark.parametrize(
    ("engine", "settings", "message"),
    [
        ({"engine": "ctranslate2"}, {}, "no such layer; set engine to auto"),
        ({"engine": "ctranslate2"}, {"early_stopping": False}, "early_stopping is false"),
        ({"dtype": "int8", "engine": "transformers"}, {}, "dtype int8 needs engine ctranslate2"),
    ],
)
def test_a_requested_engine_or_type_is_never_replaced_silently(
    engine: dict[str, str], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        choose_engine(EngineSettings(**engine), PLAIN.model_copy(update=settings), "no such layer")


def test_a_failed_allocation_is_out_of_memory_and_other_errors_are_not() -> None:
    with pytest.raises(RuntimeError) as allocation:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError) as shapes:
        torch.zeros(2) @ torch.zeros(3)
    assert is_out_of_memory(allocation.value)
    assert not is_out_of_memory(shapes.value)
    assert not is_out_of_memory(RuntimeError("Library libcublas.so.12 is not found"))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA failed with error out of memory",
        "cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED when calling cudnnCreate(handle)",
        "mkl_malloc: failed to allocate memory",
    ],
)
def test_the_words_of_gpu_libraries_are_known(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not keep memory limits")
@pytest.mark.parametrize("engine", ["ctranslate2", "transformers"])
def test_an_engine_that_runs_out_of_memory_goes_on_with_smaller_batches(
    engine: EngineName, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    directory = pegasus
    if engine == "ctranslate2":
        model, _ = ready_model(lake, load_settings(model=str(pegasus)))
        directory = ensure_converted(lake, model).local_copy(lake)
    command = [sys.executable, "-m", "tests.support.short_of_memory", engine, str(directory)]
    done = subprocess.run([*command, str(TEXTS)], capture_output=True, text=True, check=True)
    *summaries, misfits = done.stdout.splitlines()
    assert [line.split()[0] for line in summaries] == [str(n) for n in range(TEXTS)]
    assert int(misfits) > 0
