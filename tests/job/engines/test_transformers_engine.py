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


def plain_generate(directory: Path, batch: list[list[int]]) -> list[list[int]]:
    """The summaries of transformers alone, one chunk at a time, with its own cache."""
    from transformers import AutoModelForSeq2SeqLM

    model: Any = AutoModelForSeq2SeqLM.from_pretrained(directory)
    special = {0, 1, 2} if "bart" in directory.name else {0, 1}
    options = SETTINGS.model_dump(
        include={"num_beams", "max_length", "min_length", "length_penalty", "early_stopping"}
    )
    outputs = [
        model.generate(
            input_ids=torch.tensor([row]),
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            renormalize_logits=True,
            do_sample=False,
            **options,
        )
        for row in batch
    ]
    return [[t for t in output[0].tolist() if t not in special] for output in outputs]


@pytest.mark.parametrize("family", ["pegasus", "t5", "bart"])
def test_batches_with_our_cache_generate_the_summaries_of_transformers_alone(
    family: str, request: pytest.FixtureRequest
) -> None:
    model: Path = request.getfixturevalue(family)
    batch = ChunkTokenizer.load(model, "", 512).encode_many(TEXTS)
    loaded = engine(model)
    summaries = loaded.generate(batch)
    assert summaries == plain_generate(model, batch)
    # Lengths count the start and end tokens, which are not returned.
    assert all(SETTINGS.min_length - 3 <= len(one) <= SETTINGS.max_length for one in summaries)
    info = loaded.describe()
    assert (info.name, info.dtype) == ("transformers", "float32")
    assert info.device.startswith("cpu")
    assert info.versions["torch"] == torch.__version__


def test_settings_reach_generation(pegasus: Path) -> None:
    ids = ChunkTokenizer.load(pegasus, "", 512).encode_many(TEXTS)
    long = engine(pegasus, SummarySettings(max_length=60, min_length=50)).generate(ids)
    assert all(len(summary) > SETTINGS.max_length for summary in long)


def test_the_cpu_never_replaces_a_gpu(pegasus: Path) -> None:
    with pytest.raises(JobError, match="cannot use the GPU"):
        load_engine("transformers", pegasus, SETTINGS, device="cuda", dtype="auto", threads=1)
