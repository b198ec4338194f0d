from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reviewsum_assets.errors import JobError
from reviewsum_assets.job.chunking import ChunkTokenizer
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.engines.base import Engine
from reviewsum_assets.settings import SummarySettings

SETTINGS = SummarySettings(max_length=24, min_length=8)
TEXTS = [
    "The battery life is excellent and the screen is bright.",
    "Stopped working after 2 weeks.",
    "Good value for the price, light, well made and easy to set up for my daughter. " * 3,
]


def engine(directory: Path, settings: SummarySettings = SETTINGS) -> Engine:
    return load_engine("transformers", directory, settings, device="cpu", dtype="auto", threads=1)


@pytest.fixture(scope="module", params=["pegasus", "t5", "bart"])
def model(request: pytest.FixtureRequest) -> Path:
    """A model directory of each family."""
    directory: Path = request.getfixturevalue(request.param)
    return directory


@pytest.fixture(scope="module")
def batch(model: Path) -> list[list[int]]:
    """Chunks of different length."""
    return ChunkTokenizer.load(model, "", 512).encode_many(TEXTS)


def plain_generate(directory: Path, batch: list[list[int]]) -> list[list[int]]:
    """What transformers generates by itself, one chunk at a time, nothing of ours in between."""
    from transformers import AutoModelForSeq2SeqLM

    model: Any = AutoModelForSeq2SeqLM.from_pretrained(directory)
    special = {0, 1, 2} if "bart" in directory.name else {0, 1}
    outputs = [
        model.generate(
            input_ids=torch.tensor([row]),
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            num_beams=3,
            max_length=24,
            min_length=8,
            length_penalty=0.8,
            early_stopping=True,
            renormalize_logits=True,
            do_sample=False,
        )
        for row in batch
    ]
    return [[t for t in output[0].tolist() if t not in special] for output in outputs]


def test_batches_with_our_cache_generate_what_transformers_does_alone(
    model: Path, batch: list[list[int]]
) -> None:
    assert engine(model).generate(batch) == plain_generate(model, batch)


def test_summaries_keep_to_the_lengths(model: Path, batch: list[list[int]]) -> None:
    for summary in engine(model).generate(batch):
        # Lengths count the start and end tokens, which are not returned.
        assert SETTINGS.min_length - 3 <= len(summary) <= SETTINGS.max_length


def test_an_engine_says_what_it_is(model: Path) -> None:
    info = engine(model).describe()
    assert (info.name, info.dtype) == ("transformers", "float32")
    assert info.device.startswith("cpu")
    assert info.versions["torch"] == torch.__version__


def test_settings_reach_generation(pegasus: Path) -> None:
    ids = ChunkTokenizer.load(pegasus, "", 512).encode_many(TEXTS)
    long = engine(pegasus, SummarySettings(max_length=60, min_length=50)).generate(ids)
    assert all(len(summary) > SETTINGS.max_length for summary in long)


def test_the_cpu_never_stands_in_for_a_gpu(pegasus: Path) -> None:
    with pytest.raises(JobError, match="cannot use the GPU"):
        load_engine("transformers", pegasus, SETTINGS, device="cuda", dtype="auto", threads=1)
