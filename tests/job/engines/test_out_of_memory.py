from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reviewsum_assets.job.engines import EngineName
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake

TEXTS = 300


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not keep memory limits")
@pytest.mark.parametrize("engine", ["ctranslate2", "transformers"])
def test_an_engine_that_runs_out_of_memory_goes_on_with_smaller_batches(
    engine: EngineName, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    directory = pegasus
    if engine == "ctranslate2":
        model, _ = ready_model(lake, load_settings(model=str(pegasus)))
        directory = ensure_converted(lake, model).local_copy(lake, cache=tmp_path)
    command = [sys.executable, "-m", "tests.support.short_of_memory", engine, str(directory)]
    done = subprocess.run([*command, str(TEXTS)], capture_output=True, text=True, check=True)
    *summaries, misfits = done.stdout.splitlines()
    assert [line.split()[0] for line in summaries] == [str(n) for n in range(TEXTS)]
    assert int(misfits) > 0
