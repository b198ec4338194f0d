"""CTranslate2 gives the summaries of transformers, for every family and rule of a model."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.chunking import ChunkTokenizer
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.engines.base import Engine
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.settings import SummarySettings, load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.models import TEXT

SETTINGS = SummarySettings(max_length=24, min_length=8)
CHUNKS = 40


def restless(source: Path, target: Path, end_token: int) -> Path:
    """A copy of a model whose random weights are so large that summaries differ, and that ends
    most of them before ``max_length``.
    """
    shutil.copytree(source, target)
    weights = load_file(target / "model.safetensors")
    for name, weight in weights.items():
        if weight.dim() > 1 and "layer_norm" not in name:
            weights[name] = weight * 6
    bias = torch.zeros(1, weights["model.shared.weight"].shape[0])
    bias[0, end_token] = 3.0
    weights["final_logits_bias"] = bias
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def with_rules(directory: Path, **rules: object) -> Path:
    """The same model with more rules in its generation config."""
    path = directory / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **rules}))
    return directory


MODELS: dict[str, Callable[[pytest.FixtureRequest, Path], Path]] = {
    "pegasus": lambda r, _: r.getfixturevalue("pegasus"),
    "bart": lambda r, _: r.getfixturevalue("bart"),
    "t5": lambda r, _: r.getfixturevalue("t5"),
    "pegasus that ends early": lambda r, at: restless(r.getfixturevalue("pegasus"), at, 1),
    "bart that ends early": lambda r, at: restless(r.getfixturevalue("bart"), at, 2),
    "bart with a forced first token": lambda r, at: with_rules(
        restless(r.getfixturevalue("bart"), at, 2), forced_bos_token_id=0
    ),
    "bart that repeats nothing": lambda r, at: with_rules(
        restless(r.getfixturevalue("bart"), at, 2), forced_bos_token_id=0, no_repeat_ngram_size=3
    ),
}


def converted(lake: Lake, model: Path) -> Path:
    """The conversion of a model."""
    ready, _ = ready_model(lake, load_settings(model=str(model)))
    conversion = ensure_converted(lake, ready)
    assert conversion.obstacle == ""
    return conversion.local_copy(lake, cache=model.parent)


def engine(directory: Path, settings: SummarySettings = SETTINGS, **options: Any) -> Engine:
    chosen = {"device": "cpu", "dtype": "auto", "threads": 1, **options}
    return load_engine("ctranslate2", directory, settings, **chosen)


def batch(model: Path) -> list[list[int]]:
    """Chunks of many lengths."""
    words, dice = TEXT.split(), random.Random(1)
    texts = [" ".join(dice.choices(words, k=dice.randrange(5, 60))) for _ in range(CHUNKS)]
    return ChunkTokenizer.load(model, "", 512).encode_many(texts)


@pytest.mark.parametrize("name", MODELS)
def test_its_summaries_are_those_of_transformers(
    name: str, lake: Lake, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = MODELS[name](request, tmp_path / "model")
    chunks, conversion = batch(model), converted(lake, model)
    others: list[dict[str, Any]] = [{"num_beams": 1}, {"num_beams": 4, "length_penalty": 2.0}]
    for changes in ({}, *others, {"min_length": 0}):
        settings = SETTINGS.model_copy(update=changes)
        expected = load_engine(
            "transformers", model, settings, device="cpu", dtype="float32", threads=1
        ).generate(chunks)
        assert engine(conversion, settings).generate(chunks) == expected
        if "early" in name and not changes:  # the model is as its name says
            assert max(map(len, expected)) < SETTINGS.max_length - 3
            assert len({tuple(summary) for summary in expected}) > 1


def test_one_chunk_alone_int8_and_types_and_tokens_that_are_not_known(
    lake: Lake, pegasus: Path
) -> None:
    conversion, chunks = converted(lake, pegasus), batch(pegasus)[:8]
    loaded = engine(conversion)
    assert [loaded.generate([chunk])[0] for chunk in chunks] == loaded.generate(chunks)
    info = loaded.describe()
    assert (info.name, info.dtype) == ("ctranslate2", "float32")
    assert info.device.startswith("cpu (")
    assert info.versions["ctranslate2"].startswith("4.")
    with pytest.raises(IndexError):  # not an unknown word
        loaded.generate([[3, 100_000, 1]])
    small = engine(conversion, dtype="int8")
    assert small.describe().dtype.startswith("int8")
    assert all(small.generate(chunks))
    with pytest.raises(SettingsError, match=r"dtype float16 is not possible on this cpu.*float32"):
        engine(conversion, dtype="float16")
