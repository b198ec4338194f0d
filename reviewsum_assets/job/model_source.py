"""Where a model comes from: the lake, a directory, the Hugging Face hub, or this package."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from reviewsum_assets import places
from reviewsum_assets.demo import DEMO_MODEL
from reviewsum_assets.errors import ModelError
from reviewsum_assets.lake import Lake

# Everything a sequence-to-sequence model needs, and nothing that could be executed.
_NEEDED = (
    "config.json",
    "generation_config.json",
    "spiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "model*.safetensors",
    "model.safetensors.index.json",
    "pytorch_model*.bin",
    "pytorch_model.bin.index.json",
)
_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>.*))?")
_REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelSource:
    """A model before it is ready. ``files`` gives a directory that holds it."""

    name: str
    fingerprint: str
    files: Callable[[], AbstractContextManager[Path]]
    is_demo: bool = False


def needed_files(directory: Path) -> list[Path]:
    """The files of a model directory that are taken."""
    return sorted({path for pattern in _NEEDED for path in directory.glob(pattern)})


def find_source(lake: Lake, model: str) -> ModelSource:
    """Find the model that the setting names.

    Args:
        lake: its ``pegasus_model/`` is taken where ``model`` is empty, the demo model where there
            is no such folder.
        model: a directory, a lake path, ``NAME@REVISION`` on the hub, ``demo`` or nothing.

    Raises:
        ModelError: there is no such model; says where it was looked for.
    """
    if model == "demo":
        return _directory_source(DEMO_MODEL, is_demo=True)
    if not model:
        return lake_source(lake, places.PEGASUS_MODEL) or _directory_source(
            DEMO_MODEL, is_demo=True
        )
    if Path(model).expanduser().is_dir():
        return _directory_source(Path(model).expanduser())
    if not model.startswith(("/", "~", ".")):
        found = lake_source(lake, model) if "@" not in model else None
        if found is not None:
            return found
        hub = _HUB_NAME.fullmatch(model)
        if hub is not None:
            return _hub_source(hub["name"], hub["revision"])
    raise ModelError(
        f"model {model!r} is neither a directory here, nor a folder of {lake.uri}, nor a name on "
        "the Hugging Face hub (NAME@REVISION)"
    )


def _directory_source(directory: Path, *, is_demo: bool = False) -> ModelSource:
    found = needed_files(directory)
    if not found:
        raise ModelError(f"{directory} holds no model: expected config.json, weights, tokenizer")
    # Times of modification can be set and copied. The kernel sets the time of a change, and gives
    # a file that replaces another one its own number. A hash would read gigabytes on every look.
    stats = [
        (path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        for path in found
        for stat in [path.stat()]
    ]
    name = "demo" if is_demo else str(directory.absolute())
    return ModelSource(name, _fingerprint(name, stats), lambda: nullcontext(directory), is_demo)


def lake_source(lake: Lake, prefix: str) -> ModelSource | None:
    """A folder of the lake, if it holds a config."""
    listed = {item.key.removeprefix(f"{prefix}/"): item for item in lake.list(prefix)}
    if "config.json" not in listed:
        return None
    if lake.directory is not None:
        return _directory_source(lake.directory / prefix)
    needed = [name for name in sorted(listed) if any(Path(name).match(p) for p in _NEEDED)]
    stats = [(name, listed[name].size, listed[name].e_tag) for name in needed if "/" not in name]

    @contextmanager
    def files() -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="reviewsum-model-") as scratch:
            for name, _, _ in stats:
                lake.download(f"{prefix}/{name}", Path(scratch, name))
            yield Path(scratch)

    uri = lake.uri_of(prefix)
    return ModelSource(uri, _fingerprint(uri, stats), files)


def _hub_source(name: str, revision: str | None) -> ModelSource:
    if revision is None or not _REVISION.fullmatch(revision):
        raise ModelError(
            f"model {name!r} on the hub needs a pinned revision, so that it cannot change "
            f"unnoticed: use {name}@COMMIT with the 40 hexadecimal digits of a commit, as the "
            "model's page lists them under Files, History"
        )

    @contextmanager
    def files() -> Iterator[Path]:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            downloaded = snapshot_download(name, revision=revision, allow_patterns=list(_NEEDED))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise ModelError(f"model {name}@{revision} cannot be downloaded: {error}") from error
        yield Path(downloaded)

    full = f"{name}@{revision}"
    return ModelSource(full, _fingerprint(full, []), files)


def _fingerprint(name: str, stats: object) -> str:
    return hashlib.sha256(json.dumps([name, stats]).encode()).hexdigest()[:32]
