"""Converts a ready model for CTranslate2, once, and proves that it still says the same.

A conversion is a folder ``models/VERSION.ctranslate2/``: weights and vocabulary as CTranslate2
reads them, the model's decoding rules, and its tokenizer, so that a job needs no other folder.
``converted.json`` commits it. A model that cannot be converted has a record too, which says why.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reviewsum_assets.job.canaries import CANARY_TEXTS
from reviewsum_assets.job.chunking import ChunkTokenizer, load_tokenizer
from reviewsum_assets.job.engines import EngineName, load_engine
from reviewsum_assets.job.engines.base import rules_of
from reviewsum_assets.job.models.directory import ReadyModel, local_model_directory
from reviewsum_assets.job.models.files import (
    PublishedFile,
    damaged_files,
    described,
    is_folder_whole,
    local_copy,
    publish,
)
from reviewsum_assets.job.models.source import stored_type
from reviewsum_assets.settings import SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import SealedRecord

_RECORD = "converted.json"

_ENCODER_TOKENS = SummarySettings().encoder_tokens
# Of natural logarithms; float32 arithmetic in another order differs by some 1e-4.
_TOLERATED_GAP = 0.01


class Conversion(SealedRecord):
    """The record of a conversion; ``obstacle`` says why there is none, and is else empty."""

    model_version: str
    converter: str
    obstacle: str
    files: tuple[PublishedFile, ...]


def read_conversion(lake: Lake, model_version: str) -> Conversion | None:
    """The record of a model's conversion; None if it was not tried yet, or cannot be read."""
    try:
        found = Conversion.unsealed(lake.get(_record_key(model_version)) or b"")
    except ValueError:
        return None
    return found if found.model_version == model_version else None


def conversion_obstacle(conversion: Conversion | None) -> str:
    """Why a model has no conversion that could be used; empty if it has one."""
    if conversion is None:
        return "the model is not converted yet: materialize summarizer_model"
    return conversion.obstacle


def is_converted(lake: Lake, model_version: str) -> bool:
    """Whether there is nothing left for ``ensure_converted`` to do."""
    known = read_conversion(lake, model_version)
    return known is not None and _is_final(known) and is_folder_whole(lake, *_folder(known))


def damaged_conversion(lake: Lake, model_version: str) -> list[str]:
    """Keys of a conversion's objects that are not those published; reads them all."""
    known = read_conversion(lake, model_version)
    if known is not None:
        return damaged_files(lake, *_folder(known))
    record = _record_key(model_version)
    return [record] if lake.head(record) is not None else []


def ensure_converted(lake: Lake, model: ReadyModel) -> Conversion:
    """Convert a ready model, unless that was done or has failed with this version of CTranslate2.

    Takes some seconds, and about twice the model's float32 size in memory.
    """
    known = read_conversion(lake, model.version)
    if known is not None and is_converted(lake, model.version):
        return known
    with tempfile.TemporaryDirectory(prefix="reviewsum-conversion-") as scratch:
        source = local_model_directory(lake, model.version, Path(scratch, "model"))
        target = Path(scratch, "converted")
        obstacle = _convert(model, source, target)
        files: tuple[PublishedFile, ...] = ()
        if not obstacle:
            files = described(target, (path for path in target.rglob("*") if path.is_file()))
        conversion = Conversion(
            model_version=model.version, converter=_converter(), obstacle=obstacle, files=files
        )
        publish(lake, _record_key(model.version), conversion, target, files)
    return conversion


def local_conversion(
    lake: Lake, conversion: Conversion, cache: Path, provided: Path | None = None
) -> Path:
    """A directory to load a conversion from: in place on a local lake, else a copy.

    Args:
        lake: holds the conversion.
        conversion: a usable one.
        cache: where copies are kept, one folder a version.
        provided: a directory that may hold a copy of just this conversion already.

    Raises:
        ModelError: a file is missing, or not the one that was published, or was put beside them.
    """
    if provided is not None and not (provided / _RECORD).exists():
        provided = None
    return local_copy(
        lake, _record_key(conversion.model_version), conversion.files, cache, provided
    )


def _folder(known: Conversion) -> tuple[str, tuple[PublishedFile, ...]]:
    return places.converted_model_directory(known.model_version), known.files


def _is_final(known: Conversion) -> bool:
    """Whether nothing would come of trying again: an obstacle stands for one converter only."""
    return not known.obstacle or known.converter == _converter()


def _convert(ready: ReadyModel, source: Path, target: Path) -> str:
    """Convert a model in ``source`` into ``target``; returns what speaks against it."""
    import ctranslate2
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = load_tokenizer(source)
    rules: dict[str, Any] = {}

    class Converter(ctranslate2.converters.TransformersConverter):  # type: ignore[misc]  # ctranslate2 is untyped
        """Loads weights and tokenizer as the job does."""

        def load_model(self, model_class: Any, path: str, **_: Any) -> Any:
            model = model_class.from_pretrained(
                path,
                dtype="auto",
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
            )
            rules.update(rules_of(model, tokenizer).model_dump())
            _name_layout(model.config)
            return model

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return tokenizer

    try:
        Converter(str(source)).convert(str(target), quantization=stored_type(source))
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        return f"CTranslate2 cannot convert it: {error}"
    from reviewsum_assets.job.engines.ctranslate2_engine import RULES_FILE

    (target / RULES_FILE).write_text(json.dumps(rules))
    ChunkTokenizer.load(source, ready.prefix, _ENCODER_TOKENS).save(target)
    return _difference(source, target, ready.prefix)


def _name_layout(config: Any) -> None:
    """Say where a layer normalizes: the converter asks, and not every config answers.

    transformers' own code has just one layout of each family.
    """
    is_pegasus = config.model_type == "pegasus"
    config.normalize_before = is_pegasus
    config.normalize_embedding = not is_pegasus


def _difference(source: Path, target: Path, prefix: str) -> str:
    """Whether both engines think and summarize alike in float32, on the CPU."""
    trials = ChunkTokenizer.load(source, prefix, _ENCODER_TOKENS).encode_many(CANARY_TEXTS)
    if ChunkTokenizer.load(target, prefix, _ENCODER_TOKENS).encode_many(CANARY_TEXTS) != trials:
        return "its tokenizer cannot be saved: read again, it splits texts differently"
    gap = _largest_gap(source, target, trials)
    if gap > _TOLERATED_GAP:
        return f"converted, it gives other probabilities (log-probabilities differ by {gap:.2g})"
    expected = _summaries("transformers", source, trials)
    found = _summaries("ctranslate2", target, trials)
    if found == expected:
        return ""
    different = sum(one != other for one, other in zip(found, expected, strict=True))
    return f"converted, it summarizes {different} of {len(trials)} trial texts differently"


def _largest_gap(source: Path, target: Path, trials: Sequence[Sequence[int]]) -> float:
    """How far the log-probabilities of tokens differ, where each trial is to be repeated.

    What a summary says hides small errors, a probability does not.
    """
    import ctranslate2
    import torch
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(
        source,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    tokenizer = load_tokenizer(source)
    translator = ctranslate2.Translator(str(target), compute_type="float32", intra_threads=1)
    gap = 0.0
    for trial in trials:
        ids = torch.tensor([trial])
        with torch.inference_mode():
            logits = model.eval()(input_ids=ids, labels=ids).logits
        expected = logits.log_softmax(-1).gather(-1, ids[..., None]).flatten()
        tokens = tokenizer.convert_ids_to_tokens(trial)
        # CTranslate2 adds the end token to what it scores by itself.
        (scored,) = translator.score_batch([tokens], [tokens[:-1]])
        gap = max(gap, float((expected - torch.tensor(scored.log_probs)).abs().max()))
    return gap


def _summaries(
    engine: EngineName, directory: Path, trials: Sequence[Sequence[int]]
) -> list[list[int]]:
    loaded = load_engine(
        engine, directory, SummarySettings(), device="cpu", dtype="float32", threads=1
    )
    return loaded.generate(trials)


def _converter() -> str:
    return f"ctranslate2 {version('ctranslate2')}"


def _record_key(model_version: str) -> str:
    return f"{places.converted_model_directory(model_version)}/{_RECORD}"
