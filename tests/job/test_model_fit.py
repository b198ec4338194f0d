"""Models whose parts do not fit each other or the settings: refused, never run as they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from reviewsum_assets.errors import ModelError, UnfitModelError
from reviewsum_assets.job.chunking import ChunkTokenizer
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.engines.base import CANARY_TEXTS
from reviewsum_assets.job.models import directory as model_directory
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import examine_model, read_ready_model, ready_model
from reviewsum_assets.job.models.layout import Family, layout_of
from reviewsum_assets.settings import SummarySettings, load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.jobs import FAST, result, run, spec_for, texts
from tests.support.models import build_bart

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 2275329241\n"
)
WEIGHTS = "model.safetensors"
ON_CPU: dict[str, Any] = {"device": "cpu", "dtype": "float32", "threads": 1}


def change(path: Path, **entries: object) -> None:
    content = {**json.loads(path.read_text()), **entries}
    path.write_text(json.dumps({name: value for name, value in content.items() if value != ...}))


def rewrite(directory: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    weights = edit(load_file(directory / WEIGHTS))
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})


def make_ready(lake: Lake, directory: Path, **settings: Any) -> Any:
    return ready_model(lake, load_settings(model=str(directory), **settings))[0]


def refusal(lake: Lake, directory: Path, **settings: Any) -> str:
    """The one sentence about a directory, which names the user's own path."""
    with pytest.raises(ModelError) as error:
        make_ready(lake, directory, **settings)
    message = str(error.value)
    assert str(directory) in message
    assert "reviewsum-model-" not in message
    assert "To fix: " in message
    assert not [item for item in lake.list("models") if item.key.endswith("ready.json")]
    return message


@pytest.fixture(params=["pegasus", "bart", "t5"])
def any_model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(request.getfixturevalue(request.param), tmp_path / "model"))


@pytest.fixture
def bart_copy(bart: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bart, tmp_path / "model"))


@pytest.fixture
def t5_copy(t5: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(t5, tmp_path / "model"))


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("pegasus", {}),
        ("pegasus", {"decoder_layers": 2, "d_model": 32, "max_position_embeddings": 99}),
        ("bart", {}),
        ("bart", {"encoder_layers": 3, "decoder_ffn_dim": 64, "vocab_size": 77}),
        ("t5", {}),
        ("t5", {"num_layers": 2, "num_decoder_layers": 1, "d_kv": 8, "num_heads": 3}),
        ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    ],
)
def test_the_layout_of_a_family_is_that_of_transformers(
    family: Family, config: dict[str, Any]
) -> None:
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(family, **config))
    layout = layout_of(family, config)
    named = {**layout.required, **layout.embeddings, **layout.optional}
    assert named == {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_a_pointer_of_git_lfs_is_named(lake: Lake, bart_copy: Path) -> None:
    for name in (WEIGHTS, "config.json", "tokenizer_config.json", "merges.txt", "vocab.json"):
        whole = (bart_copy / name).read_bytes()
        (bart_copy / name).write_text(POINTER)
        message = refusal(lake, bart_copy)
        assert f"pointers of Git LFS in place of {name}. To fix: run `git lfs pull`" in message
        (bart_copy / name).write_bytes(whole)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tokenizer.json", "spiece.model"])
def test_a_pointer_beside_whole_files_is_named_too(lake: Lake, t5_copy: Path, name: str) -> None:
    (t5_copy / name).write_text(POINTER)
    assert f"in place of {name}" in refusal(lake, t5_copy)


def test_a_model_on_the_lake_is_named_by_its_place_there(any_lake: Lake, bart: Path) -> None:
    for file in bart.iterdir():
        any_lake.put_file(f"pegasus_model/{file.name}", file)
    for name, content in ((WEIGHTS, b"x" * 99), ("vocab.json", b"{"), (WEIGHTS, POINTER.encode())):
        any_lake.put(f"pegasus_model/{name}", content)
        with pytest.raises(ModelError) as error:
            ready_model(any_lake, load_settings())
        assert any_lake.uri_of("pegasus_model") in str(error.value)
        assert "reviewsum-model-" not in str(error.value)


def in_shards(directory: Path, names: list[str]) -> None:
    """Cut weights into two files, and index them under these names."""
    weights = load_file(directory / WEIGHTS)
    (directory / WEIGHTS).unlink()
    index = {name: names[number % 2] for number, name in enumerate(sorted(weights))}
    for shard in names:
        part = {name: weights[name] for name, where in index.items() if where == shard}
        save_file(part, directory / shard, metadata={"format": "pt"})
    (directory / f"{WEIGHTS}.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def test_a_missing_shard_is_named_and_whole_ones_are_read(lake: Lake, bart_copy: Path) -> None:
    in_shards(bart_copy, SHARDS)
    index = bart_copy / f"{WEIGHTS}.index.json"
    whole = json.loads(index.read_text())
    (bart_copy / SHARDS[1]).rename(bart_copy / "away")
    assert f"lacks {SHARDS[1]}, which {index.name} names" in refusal(lake, bart_copy)
    (bart_copy / "away").rename(bart_copy / SHARDS[1])
    outside = {**whole["weight_map"], "lm_head.weight": f"../{SHARDS[1]}"}
    change(index, weight_map=outside)
    assert f"lacks ../{SHARDS[1]}, which" in refusal(lake, bart_copy)
    index.unlink()
    assert f"and neither {WEIGHTS} nor {index.name}" in refusal(lake, bart_copy)
    index.write_text(json.dumps(whole))
    assert make_ready(lake, bart_copy).parameters > 0


def test_pickles_without_one_of_their_shards_are_refused(lake: Lake, bart_copy: Path) -> None:
    weights = load_file(bart_copy / WEIGHTS)
    (bart_copy / WEIGHTS).unlink()
    torch.save(weights, bart_copy / "pytorch_model-00001-of-00002.bin")
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (bart_copy / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert f"lacks {names[1]}, which" in refusal(lake, bart_copy)


@pytest.mark.parametrize(
    ("name", "kind"), [(WEIGHTS, "a safetensors file"), ("spiece.model", "a tokenizer")]
)
def test_a_truncated_file_is_named(lake: Lake, t5_copy: Path, name: str, kind: str) -> None:
    path = t5_copy / name
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path} is not {kind}, or is damaged" in refusal(lake, t5_copy)


def test_missing_weights_are_counted_and_named(lake: Lake, any_model: Path) -> None:
    family = json.loads((any_model / "config.json").read_text())["model_type"]
    lost = "encoder.block.0.layer.1" if family == "t5" else "model.encoder.layers.0.fc1"
    count = 0

    def cut(weights: dict[str, Any]) -> dict[str, Any]:
        nonlocal count
        kept = {name: value for name, value in weights.items() if not name.startswith(lost)}
        count = len(weights) - len(kept)
        return {**kept, "adapter.lora_A": torch.zeros(2)}

    rewrite(any_model, cut)
    message = refusal(lake, any_model)
    assert f"{count} are missing ({lost}" in message
    assert "1 have no place in the model (adapter.lora_A)" in message
    rewrite(any_model, lambda w: {name: w[name] for name in w if "shared" not in name})
    assert f"{count + 1} are missing (" in refusal(lake, any_model)


def test_weights_of_another_shape_or_of_more_layers_are_refused(
    lake: Lake, bart_copy: Path
) -> None:
    config = bart_copy / "config.json"
    before = json.loads(config.read_text())
    change(config, encoder_ffn_dim=65)
    assert "fc1.weight is 64 x 32, expected 65 x 32" in refusal(lake, bart_copy)
    change(config, encoder_ffn_dim=64, vocab_size=before["vocab_size"] + 1)
    assert "have another shape (" in refusal(lake, bart_copy)
    change(config, vocab_size=before["vocab_size"], encoder_layers=2)
    assert "16 are missing (model.encoder.layers.1." in refusal(lake, bart_copy)
    change(config, encoder_layers="two")
    with pytest.raises(UnfitModelError, match="is 'two', not a number"):
        make_ready(lake, bart_copy)
    change(config, encoder_layers=1)
    extra = {"model.encoder.layers.1.fc1.weight": torch.zeros(64, 32)}
    rewrite(bart_copy, lambda weights: {**weights, **extra})
    assert "1 have no place in the model (model.encoder.layers.1.fc1" in refusal(lake, bart_copy)


def test_what_transformers_does_without_is_not_missing(lake: Lake, any_model: Path) -> None:
    """Only one name of the tied embedding, computed positions, zero biases, heads of other tasks,
    and the names of a model without its output layer."""
    family = json.loads((any_model / "config.json").read_text())["model_type"]

    def lean(weights: dict[str, Any]) -> dict[str, Any]:
        computed = ("final_logits_bias", *(["embed_positions"] if family == "pegasus" else []))
        kept = {n: v for n, v in weights.items() if not any(part in n for part in computed)}
        bare = {name.removeprefix("model."): value for name, value in kept.items()}
        return {**bare, "classification_head.dense.weight": torch.zeros(2, 2)}

    before = AutoModelForSeq2SeqLM.from_pretrained(any_model).state_dict()
    rewrite(any_model, lean)
    model = make_ready(lake, any_model)
    engine = load_engine("transformers", model.local_copy(lake), SummarySettings(**FAST), **ON_CPU)
    after = engine._model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_a_prefix_of_wrappers_is_cut_off_pickles_and_named_for_safetensors(
    lake: Lake, bart_copy: Path, prefix: str
) -> None:
    before = AutoModelForSeq2SeqLM.from_pretrained(bart_copy).state_dict()
    torch.save({f"{prefix}{n}": v for n, v in before.items()}, bart_copy / "pytorch_model.bin")
    rewrite(bart_copy, lambda weights: {f"{prefix}{n}": v for n, v in weights.items()})
    message = refusal(lake, bart_copy)
    assert f"begin with '{prefix}'" in message
    assert "model.module.save_pretrained" in message
    (bart_copy / WEIGHTS).unlink()
    copy = make_ready(lake, bart_copy).local_copy(lake)
    after = AutoModelForSeq2SeqLM.from_pretrained(copy).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(
    lake: Lake, bart_copy: Path
) -> None:
    added = {"battery": 9_998, "handle": 9_999}
    (bart_copy / "added_tokens.json").write_text(json.dumps(added))
    message = refusal(lake, bart_copy)
    assert "ids up to 9,999" in message
    assert "none for battery, handle. To fix" in message


def test_pieces_beyond_the_embedding_are_refused(lake: Lake, pegasus: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pegasus, tmp_path / "model"))
    rows = json.loads((copy / "config.json").read_text())["vocab_size"] - 1
    change(copy / "config.json", vocab_size=rows)
    shared, bias = "model.shared.weight", "final_logits_bias"
    rewrite(copy, lambda w: {**w, shared: w[shared][:rows], bias: w[bias][:, :rows].contiguous()})
    assert f"ids up to {rows}, and the model has {rows} rows" in refusal(lake, copy)


def test_a_mark_that_no_text_contains_needs_no_row(lake: Lake, poisoned_bart: Path) -> None:
    model = make_ready(lake, poisoned_bart)
    assert ensure_converted(lake, model).obstacle == ""


def test_a_damaged_or_foreign_tokenizer_is_refused(lake: Lake, bart_copy: Path) -> None:
    vocabulary = json.loads((bart_copy / "vocab.json").read_text())
    (bart_copy / "merges.txt").unlink()
    assert "lacks merges.txt" in refusal(lake, bart_copy)
    swapped = {**vocabulary, "</s>": vocabulary["<pad>"], "<pad>": vocabulary["</s>"]}
    tokenizer = bart_copy / "tokenizer.json"
    tokenizer.write_text(json.dumps({"model": {"vocab": swapped}}))
    assert "the id 1 for </s>, and its config.json says eos_token_id 2" in refusal(lake, bart_copy)
    for content in ({}, {"model": {"vocab": [1]}}, {"model": {"vocab": {"a": "x"}}}):
        tokenizer.write_text(json.dumps(content))
        assert f"{tokenizer} is not a tokenizer, or is damaged" in refusal(lake, bart_copy)


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_a_model_that_does_not_say_how_summaries_begin_is_refused(
    lake: Lake, t5_copy: Path, name: str
) -> None:
    if name == "config.json":
        (t5_copy / "generation_config.json").unlink()
    change(t5_copy / name, decoder_start_token_id=...)
    assert f"{t5_copy / name} has no decoder_start_token_id" in refusal(lake, t5_copy)


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A BART of 64 positions."""
    return build_bart(tmp_path / "short", positions=64)


LENGTHS = {"min_length": 4, "max_length": 65, "chunk_tokens": 65}


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"chunk_tokens": 66}, "set chunk_tokens to 64 or less, now 66"),
        ({"max_length": 66}, "set max_length to 64 or less, now 66"),
        ({"strategy": "hierarchical", "max_length": 33}, "set max_length to 32 or less, now 33"),
        ({"strategy": "two_sided", "max_length": 33}, "the strategy two_sided joins two summaries"),
    ],
)
def test_settings_that_need_more_positions_are_refused_before_a_plan(
    lake: Lake, short: Path, changes: dict[str, Any], remedy: str
) -> None:
    model = make_ready(lake, short, **LENGTHS)
    settings = load_settings(model=str(short), **{**LENGTHS, **changes})
    for look in (ready_model, examine_model):
        with pytest.raises(UnfitModelError, match="has 64 positions") as error:
            look(lake, settings)
        assert remedy in str(error.value)
    assert read_ready_model(lake, model.version).positions == 64


def test_both_engines_use_every_position_and_truncate_a_longer_word(
    lake: Lake, short: Path
) -> None:
    settings = SummarySettings(**{**LENGTHS, "min_length": 64})
    model = make_ready(lake, short, **LENGTHS)
    conversion = ensure_converted(lake, model)
    assert conversion.obstacle == ""
    directory = model.local_copy(lake)
    tokenizer = ChunkTokenizer.load(directory, "", model.encoder_tokens(settings))
    row = tokenizer.encode("x" * 500)
    assert len(row) == 64
    found = load_engine("ctranslate2", conversion.local_copy(lake), settings, **ON_CPU)
    expected = load_engine("transformers", directory, settings, **ON_CPU)
    assert found.generate([row]) == expected.generate([row])


def test_the_positions_that_t5_names_limit_nothing(lake: Lake, t5_copy: Path) -> None:
    change(t5_copy / "config.json", n_positions=16)
    assert make_ready(lake, t5_copy).positions is None


def without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model pass whose weights its files cannot show to be unfit."""
    monkeypatch.setattr(model_directory, "refuse_other_weights", lambda *_: None)


def without_weights(directory: Path) -> Path:
    rewrite(directory, lambda w: {name: w[name] for name in w if "fc1" not in name})
    return directory


def test_a_conversion_with_random_weights_is_refused(
    lake: Lake, bart_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_looking(monkeypatch)
    model = make_ready(lake, without_weights(bart_copy))
    with pytest.raises(UnfitModelError, match="4 are missing"):
        ensure_converted(lake, model)


def test_a_job_with_random_weights_ends_at_once_with_the_reason(
    lake: Lake, bart_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_looking(monkeypatch)
    _, spec = spec_for(lake, without_weights(bart_copy), texts(8), engine="transformers", workers=1)
    code, log = run(spec, tmp_path)
    assert code == 3
    assert log.count("ended: the weights of") == 1
    failed = result(lake, spec).failed
    assert set(failed) == {1, 2}
    assert all("4 are missing (model.decoder.layers.0.fc1" in why for why in failed.values())


def test_a_job_planned_with_too_long_chunks_ends_before_its_workers(
    lake: Lake, short: Path, tmp_path: Path
) -> None:
    # The plan has the default of chunk_tokens.
    _, spec = spec_for(lake, short, texts(2), engine="transformers", chunk_tokens=64)
    code, log = run(spec, tmp_path)
    assert code == 2
    assert "set chunk_tokens to 64 or less, now 300" in log
    assert "Traceback" not in log


def test_a_canary_longer_than_the_positions_does_not_stop_the_conversion(
    lake: Lake, tmp_path: Path
) -> None:
    tiny = build_bart(tmp_path / "tiny", positions=24)
    model = make_ready(lake, tiny, chunk_tokens=24, max_length=24, min_length=4)
    assert ensure_converted(lake, model).obstacle == ""
    tokenizer = ChunkTokenizer.load(tiny, "", 512)
    assert max(map(len, tokenizer.encode_many(CANARY_TEXTS))) > 24
