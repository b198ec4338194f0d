from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from reviewsum_assets.errors import ModelError
from reviewsum_assets.job.models import directory as model_directory
from reviewsum_assets.job.models.directory import (
    ReadyModel,
    is_current,
    read_ready_model,
    ready_model,
)
from reviewsum_assets.job.models.files import PublishedFile, described
from reviewsum_assets.settings import Settings, load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import plan_products, products
from tests.support.models import build_pegasus


def naming(model: str | Path) -> Settings:
    return load_settings(model=str(model))


@pytest.fixture
def directory(pegasus: Path, tmp_path: Path) -> Path:
    """A copy of a small Pegasus, to be changed."""
    return Path(shutil.copytree(pegasus, tmp_path / "model"))


def change(path: Path, **entries: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForSeq2SeqLM.from_pretrained(directory).state_dict())


def damage(lake: Lake, key: str, content: bytes | None) -> None:
    """Remove an object, write this in its place, or change one of its bytes."""
    before = bytearray(lake.get(key) or b"")
    if content is None:
        lake.delete(key)
    elif content == b"changed":
        before[len(before) // 2] ^= 1
        lake.put(key, bytes(before))
    else:
        lake.put(key, content)


@pytest.mark.parametrize("family", ["pegasus", "bart", "t5"])
def test_each_family_is_known_by_its_directory_and_a_configured_prefix_wins(
    lake: Lake, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(request.getfixturevalue(family), tmp_path / "model"))
    model, _ = ready_model(lake, naming(copy))
    assert (model.family, model.prefix) == (family, "summarize: " if family == "t5" else "")
    tasks = {"summarization": {"prefix": "tl;dr: "}}
    change(copy / "config.json", task_specific_params=tasks)
    assert ready_model(lake, naming(copy))[0].prefix == "tl;dr: "


def test_a_model_is_made_ready_once_and_loads_from_the_lake(
    any_lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    assert not is_current(any_lake, naming(pegasus))
    model, reused = ready_model(any_lake, naming(pegasus))
    assert not reused
    assert is_current(any_lake, naming(pegasus))
    assert ready_model(any_lake, naming(pegasus)) == (model, True)
    assert weights(model.local_copy(any_lake, cache=tmp_path)).keys() == weights(pegasus).keys()


def test_a_kill_before_the_commit_leaves_no_ready_model(lake: Lake, pegasus: Path) -> None:
    model, _ = ready_model(lake, naming(pegasus))
    lake.delete(f"models/{model.version}/ready.json")
    assert not is_current(lake, naming(pegasus))
    assert ready_model(lake, naming(pegasus)) == (model, False)


@pytest.mark.parametrize(
    "content",
    [None, b"", b'{"version": "', b"changed"],
    ids=["gone", "empty", "truncated", "changed"],
)
def test_a_damaged_record_of_the_planned_model_is_made_again_from_its_files(
    any_lake: Lake, directory: Path, content: bytes | None
) -> None:
    before, _ = ready_model(any_lake, naming(directory))
    plan_products(any_lake, products(1), model=before.version)
    shutil.rmtree(directory)
    damage(any_lake, f"models/{before.version}/ready.json", content)
    made, reused = ready_model(any_lake, naming(""))
    source = any_lake.uri_of(f"models/{before.version}")
    assert (made, reused) == (before.model_copy(update={"source": source}), False)
    assert ready_model(any_lake, naming("")) == (made, True)


def test_a_damaged_record_of_the_demo_model_is_made_again_as_such(lake: Lake) -> None:
    before, _ = ready_model(lake, naming(""))
    plan_products(lake, products(1), model=before.version)
    for name in ("ready.json", "model.safetensors"):
        damage(lake, f"models/{before.version}/{name}", None)
        assert ready_model(lake, naming("")) == (before, False)


def test_a_model_that_cannot_be_made_ready_again_must_be_named(lake: Lake, pegasus: Path) -> None:
    before, _ = ready_model(lake, naming(pegasus))
    plan_products(lake, products(1), model=before.version)
    damage(lake, f"models/{before.version}/ready.json", None)
    damage(lake, f"models/{before.version}/model.safetensors", b"changed")
    with pytest.raises(ModelError, match=r"or they are damaged. To fix: name the model again"):
        ready_model(lake, naming(""))
    assert ready_model(lake, naming(pegasus)) == (before, False)
    assert ready_model(lake, naming("")) == (before, True)


def test_a_version_depends_on_the_files_and_not_on_their_place(
    lake: Lake, pegasus: Path, directory: Path
) -> None:
    before = ready_model(lake, naming(pegasus))[0].version
    assert ready_model(lake, naming(directory))[0].version == before
    change(directory / "generation_config.json", num_beams=8)
    assert ready_model(lake, naming(directory))[0].version != before


@pytest.mark.parametrize("way", ["rewritten", "replaced"])
def test_weights_of_the_same_size_and_time_are_noticed(
    lake: Lake, directory: Path, way: str
) -> None:
    path = directory / "model.safetensors"
    before, _ = ready_model(lake, naming(directory))
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if way == "replaced":
        path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=times)
    assert not is_current(lake, naming(directory))
    assert ready_model(lake, naming(directory))[0].version != before.version


@pytest.mark.parametrize(("prefix", "name"), [("pegasus_model", ""), ("my/model", "my/model")])
def test_weights_of_the_same_size_on_the_lake_are_noticed(
    any_lake: Lake, pegasus: Path, prefix: str, name: str
) -> None:
    for file in pegasus.iterdir():
        any_lake.put_file(f"{prefix}/{file.name}", file)
    before, _ = ready_model(any_lake, naming(name))  # the lake's own model is the default
    assert before.source == any_lake.uri_of(prefix)
    damage(any_lake, f"{prefix}/model.safetensors", b"changed")
    assert not is_current(any_lake, naming(name))
    assert ready_model(any_lake, naming(name))[0].version != before.version


def test_weights_that_change_while_they_are_published_are_not_committed(
    lake: Lake, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, put_file = directory / "model.safetensors", Lake.put_file

    def change_then_put(self: Lake, key: str, source: Path) -> None:
        if key.endswith(path.name):
            path.write_bytes(path.read_bytes()[:-1] + b"X")
        put_file(self, key, source)

    monkeypatch.setattr(Lake, "put_file", change_then_put)
    with pytest.raises(ModelError, match=r"safetensors was changed while it was being read"):
        ready_model(lake, naming(directory))
    assert not [item.key for item in lake.list("models") if item.key.endswith("ready.json")]


def test_a_config_that_is_replaced_after_it_was_examined_is_not_published(
    lake: Lake, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "hostile.json"
    shutil.copy(directory / "config.json", hostile)
    change(hostile, auto_map={"AutoConfig": "own.Config"})

    def replace_then_describe(folder: Path) -> tuple[PublishedFile, ...]:
        (directory / "config.json").unlink()
        (directory / "config.json").symlink_to(hostile)
        return described(folder)

    examined = (directory / "config.json").read_bytes()
    # It is called after the config was examined, and before it is published.
    monkeypatch.setattr(model_directory, "described", replace_then_describe)
    model, _ = ready_model(lake, naming(directory))
    assert lake.get(f"models/{model.version}/config.json") == examined


def test_pickled_weights_are_converted_with_their_values(lake: Lake, tmp_path: Path) -> None:
    pickled = build_pegasus(tmp_path / "pickled", pickled=True)
    before = torch.load(pickled / "pytorch_model.bin", weights_only=True)
    model, _ = ready_model(lake, naming(pickled))
    names = {file.name for file in model.files}
    assert {"model.safetensors", "pytorch_model.bin"} & names == {"model.safetensors"}
    after = weights(model.local_copy(lake))
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


class _Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("is_bare", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    lake: Lake, directory: Path, tmp_path: Path, is_bare: bool
) -> None:
    (directory / "model.safetensors").unlink()
    target, path = tmp_path / "pwned", directory / "pytorch_model.bin"
    if is_bare:
        path.write_bytes(pickle.dumps(_Payload(target)))
    else:
        torch.save({"weight": _Payload(target)}, path)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin holds more than weights"):
        ready_model(lake, naming(directory))
    assert not target.exists()
    # The payload is real: a reader that trusts it runs it.
    trusting = "import sys, torch; torch.load(sys.argv[1], weights_only=False)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", trusting, str(path)]
    subprocess.run(command, capture_output=True, check=not is_bare, env=environment)
    assert target.exists()


OWN_CODE = {"auto_map": {"AutoConfig": "own.Config", "AutoTokenizer": "own.Own"}}


@pytest.mark.parametrize(
    ("file", "entry", "message"),
    [
        ("config.json", OWN_CODE, "asks for code of its own"),
        ("tokenizer_config.json", OWN_CODE, "asks for code of its own"),
        ("config.json", {"attn_implementation": "a/kernel"}, "asks for code from elsewhere"),
    ],
)
def test_a_model_that_asks_for_code_is_refused_and_the_code_does_not_run(
    lake: Lake, directory: Path, tmp_path: Path, file: str, entry: dict[str, object], message: str
) -> None:
    target = tmp_path / "pwned"
    (directory / "own.py").write_text(f"import os; os.mkdir({str(target)!r})")
    change(directory / file, **entry)
    with pytest.raises(ModelError, match=message):
        ready_model(lake, naming(directory))
    assert not target.exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{", r"config\.json is not JSON"),
        ("config.json", b"[]", r"config\.json is not a JSON object: found list"),
        ("config.json", b'{"model_type": "pegasus"}', "vocab_size in config.json is None"),
        ("config.json", b'{"model_type": ["t5"]}', r"a model of type \['t5'\]"),
        ("config.json", b'{"model_type": "gpt2"}', "'gpt2'; supported are pegasus, bart, t5"),
        ("model.safetensors", b"\xff" * 16, "is not a safetensors file"),
        ("model.safetensors", b"", "is not a safetensors file"),
        ("config.json", None, r"holds no config\.json"),
        ("model.safetensors", None, "holds no weights"),
        ("spiece.model", None, "has no tokenizer"),
    ],
)
def test_a_damaged_or_missing_part_is_named(
    lake: Lake, directory: Path, file: str, content: bytes | None, message: str
) -> None:
    (directory / file).unlink()
    if content is not None:
        (directory / file).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        ready_model(lake, naming(directory))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("google/pegasus-cnn_dailymail", "needs a pinned revision"),
        ("google/pegasus@main", "needs a pinned revision"),
        ("./nowhere", "neither a directory here, nor a folder of"),
    ],
)
def test_an_unknown_or_unpinned_model_is_refused(lake: Lake, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ready_model(lake, naming(name))


def test_a_hub_model_is_taken_from_the_hubs_local_copy(
    lake: Lake, pegasus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--org--small" / "snapshots" / revision
    shutil.copytree(pegasus, snapshot)
    (snapshot / "modeling_own.py").write_text("raise SystemExit('this was run')")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model, _ = ready_model(lake, naming(f"org/small@{revision}"))
    assert model.source == f"org/small@{revision}"
    assert not any(file.name.endswith(".py") for file in model.files)


def put_record(lake: Lake, model: ReadyModel, **changes: object) -> None:
    """Put a record with other content, as sealed as the real one."""
    changed = model.model_copy(update=changes)
    lake.put(f"models/{model.version}/ready.json", changed.sealed())


def test_a_record_cannot_put_other_weights_in_the_place_of_a_planned_model(
    any_lake: Lake, pegasus: Path, directory: Path
) -> None:
    planned, _ = ready_model(any_lake, naming(pegasus))
    change(directory / "generation_config.json", num_beams=8)
    other, _ = ready_model(any_lake, naming(directory))
    put_record(any_lake, planned, files=other.files)
    with pytest.raises(ModelError, match="names other files than those of model"):
        read_ready_model(any_lake, planned.version)


@pytest.mark.parametrize("name", ["/{}/stolen", "../{}/stolen", "a/../../stolen", ""])
def test_a_record_cannot_name_a_file_outside_its_folder(
    s3_lake: Lake, pegasus: Path, tmp_path: Path, name: str
) -> None:
    model, _ = ready_model(s3_lake, naming(pegasus))
    first, *others = model.files
    outside = first.model_copy(update={"name": name.format(tmp_path)})
    put_record(s3_lake, model, files=(outside, *others))
    with pytest.raises(ModelError, match="is not on the lake"):
        read_ready_model(s3_lake, model.version)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"changed", "not the file that was published"),
        # transformers would prefer this file.
        ("tokenizer.json", b"{}", r"tokenizer\.json was not published with the other files"),
    ],
)
def test_a_changed_or_added_file_is_not_loaded(
    lake: Lake, pegasus: Path, name: str, content: bytes, message: str
) -> None:
    model, _ = ready_model(lake, naming(pegasus))
    damage(lake, f"models/{model.version}/{name}", content)
    with pytest.raises(ModelError, match=message):
        model.local_copy(lake)


def test_a_local_copy_is_verified_again_before_it_is_used(
    s3_lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    model, _ = ready_model(s3_lake, naming(pegasus))
    copy = model.local_copy(s3_lake, cache=tmp_path)
    (copy / "generation_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"generation_config\.json is missing or not the file"):
        model.local_copy(s3_lake, cache=tmp_path)


def test_a_missing_version_says_what_to_do(lake: Lake) -> None:
    with pytest.raises(ModelError, match="materialize summarizer_model"):
        read_ready_model(lake, "0" * 16)


def test_looking_for_a_model_imports_no_torch() -> None:
    code = (
        "import sys, reviewsum_assets.job.models.directory; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
