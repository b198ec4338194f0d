from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from reviewsum_assets.demo import DEMO_MODEL
from reviewsum_assets.errors import ModelError
from reviewsum_assets.job.chunking import ChunkTokenizer
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.models import conversion as module
from reviewsum_assets.job.models.conversion import ensure_converted, is_converted, read_conversion
from reviewsum_assets.job.models.directory import ReadyModel, ready_model
from reviewsum_assets.job.models.source import stored_type
from reviewsum_assets.settings import SummarySettings, load_settings
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import converted_model_directory
from tests.support.models import build_flan_t5


def ready(lake: Lake, model: Path) -> ReadyModel:
    return ready_model(lake, load_settings(model=str(model)))[0]


@pytest.fixture
def directory(pegasus: Path, tmp_path: Path) -> Path:
    """A copy of a small Pegasus, to be changed."""
    return Path(shutil.copytree(pegasus, tmp_path / "model"))


def test_a_model_is_converted_once(any_lake: Lake, pegasus: Path, tmp_path: Path) -> None:
    model = ready(any_lake, pegasus)
    assert read_conversion(any_lake, model.version) is None
    first = ensure_converted(any_lake, model)
    assert (first.obstacle, is_converted(any_lake, model.version)) == ("", True)
    key = f"{converted_model_directory(model.version)}/model.bin"
    before = any_lake.head(key)
    assert ensure_converted(any_lake, model) == first
    assert any_lake.head(key) == before
    local = first.local_copy(any_lake, cache=tmp_path / "cache")
    assert ChunkTokenizer.load(local, "", 512).encode("good sound")


def test_a_conversion_needs_neither_torch_nor_transformers(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    local = ensure_converted(lake, ready(lake, pegasus)).local_copy(lake, cache=tmp_path)
    script = """
import sys
from pathlib import Path
import reviewsum_assets.job.worker
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.chunking import ChunkTokenizer
from reviewsum_assets.settings import SummarySettings
directory, settings = Path(sys.argv[1]), SummarySettings()
ids = ChunkTokenizer.load(directory, "", 512).encode("good sound")
options = {"device": "cpu", "dtype": "auto", "threads": 1}
assert load_engine("ctranslate2", directory, settings, **options).generate([ids])[0]
found = {"torch", "transformers"} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", script, str(local)], check=True)


def test_an_uncommitted_conversion_is_made_again_and_a_damaged_one_is_not_loaded(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    model = ready(lake, pegasus)
    first = ensure_converted(lake, model)
    lake.delete(f"{converted_model_directory(model.version)}/converted.json")
    assert not is_converted(lake, model.version)
    conversion = ensure_converted(lake, model)
    assert conversion.files == first.files
    weights = conversion.local_copy(lake, cache=tmp_path) / "model.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.bin is missing or not the file"):
        conversion.local_copy(lake, cache=tmp_path)


def test_a_pickle_put_beside_the_weights_is_not_converted(lake: Lake, pegasus: Path) -> None:
    model = ready(lake, pegasus)
    lake.put(f"models/{model.version}/pytorch_model.bin", b"any")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin was not published"):
        ensure_converted(lake, model)


@pytest.mark.parametrize(
    ("rule", "value"),
    [("repetition_penalty", 1.3), ("bad_words_ids", [[5]]), ("max_new_tokens", 9)],
)
def test_a_rule_that_ctranslate2_lacks_is_an_obstacle(
    lake: Lake, directory: Path, rule: str, value: object
) -> None:
    path = directory / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), rule: value}))
    model = ready(lake, directory)
    conversion = ensure_converted(lake, model)
    assert f"its generation config sets {rule}" in conversion.obstacle
    assert conversion.files == ()
    assert ensure_converted(lake, model) == conversion


def test_an_obstacle_is_tried_again_with_another_converter(
    lake: Lake, pegasus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ready(lake, pegasus)
    monkeypatch.setattr(module, "_convert", lambda *_: "not yet supported")
    assert ensure_converted(lake, model).obstacle == "not yet supported"
    monkeypatch.undo()
    assert ensure_converted(lake, model).obstacle == "not yet supported"
    monkeypatch.setattr(module, "_CONVERSION", 99)
    assert ensure_converted(lake, model).obstacle == ""
    monkeypatch.setattr(module, "_convert", lambda *_: "not yet supported")
    lake.delete(f"{converted_model_directory(model.version)}/converted.json")
    assert ensure_converted(lake, model).obstacle == "not yet supported"
    monkeypatch.undo()
    monkeypatch.setattr(module, "version", lambda _: "99.0")
    assert ensure_converted(lake, model).obstacle == ""


def test_a_conversion_with_other_probabilities_is_not_used(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a converter that mistakes another activation for the model's own.
    name_layout = module._name_layout

    def misread(config: Any) -> None:
        name_layout(config)
        config.activation_function = "gelu"

    monkeypatch.setattr(module, "_name_layout", misread)
    conversion = ensure_converted(lake, ready(lake, DEMO_MODEL))
    assert "other probabilities" in conversion.obstacle


def test_weights_are_kept_in_the_type_they_are_stored_in(tmp_path: Path) -> None:
    for dtype, name in ((torch.float16, "float16"), (torch.float32, "float32")):
        save_file({"a": torch.zeros(2, dtype=dtype)}, tmp_path / "model.safetensors")
        assert stored_type(tmp_path) == name
    mixed = {"a": torch.zeros(2, dtype=torch.float16), "b": torch.zeros(2)}
    save_file(mixed, tmp_path / "model.safetensors")
    assert stored_type(tmp_path) == "float32"


def test_a_model_with_an_output_layer_of_its_own_is_converted(lake: Lake, tmp_path: Path) -> None:
    """The layout of flan-t5 and T5 v1.1, trained: its outputs are not scaled, and it has more rows
    than its tokenizer has tokens."""
    model = ready(lake, build_flan_t5(tmp_path / "flan"))
    conversion = ensure_converted(lake, model)
    assert conversion.obstacle == ""
    directory, converted = model.local_copy(lake), conversion.local_copy(lake)
    tokens = json.loads((converted / "shared_vocabulary.json").read_text())
    assert len(tokens) == len(set(tokens)) == model.vocabulary
    tokenizer = ChunkTokenizer.load(converted, model.prefix, 512)
    texts = ["great sound", "easy price", "solid star", "poor battery", "Works well: bright screen"]
    rows = tokenizer.encode_many(texts)
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "threads": 1}
    for settings in (SummarySettings(min_length=1), SummarySettings()):
        expected = load_engine("transformers", directory, settings, **options).generate(rows)
        found = load_engine("ctranslate2", converted, settings, **options).generate(rows)
        assert found == expected
        # It has learned something: random weights would hide what is wrong.
        assert tokenizer.decode(found[0]).startswith("sound great.")
