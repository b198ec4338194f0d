"""Converts a ready model for CTranslate2, once, and proves that the summaries stay the same.

A conversion is a folder ``models/VERSION.ctranslate2/`` with CTranslate2's weights and vocabulary,
the model's decoding rules and its tokenizer, so that a job needs no other folder.
``converted.json`` commits it. A model that cannot be converted has a record of the reason.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from reviewsum_assets.job.chunking import ChunkTokenizer, load_tokenizer
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.engines.base import CANARY_TEXTS, DecodingRules, rules_of
from reviewsum_assets.job.models.directory import ReadyModel
from reviewsum_assets.job.models.files import PublishedFolder, damaged_files, described
from reviewsum_assets.job.models.fit import refuse_tokens_beyond
from reviewsum_assets.job.models.source import stored_type
from reviewsum_assets.settings import SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

# In natural logarithms; float32 arithmetic in another order differs by some 1e-4.
_TOLERATED_GAP = 0.01
# Increased when this module converts what it could not: obstacles are tried again.
_CONVERSION = 2


class Conversion(PublishedFolder):
    """The record of a conversion; ``obstacle`` says why there is none, and is else empty."""

    record_name: ClassVar[str] = "converted.json"

    model_version: str
    converter: str
    obstacle: str

    @property
    def folder(self) -> str:
        """Prefix of the folder on the lake."""
        return places.converted_model_directory(self.model_version)


def read_conversion(lake: Lake, model_version: str) -> Conversion | None:
    """Read the record of a model's conversion; None if it is missing or damaged."""
    try:
        found = Conversion.unsealed(lake.get(_record_key(model_version)) or b"")
    except ValueError:
        return None
    return found if found.model_version == model_version else None


def conversion_obstacle(conversion: Conversion | None) -> str:
    """Return why a model has no usable conversion; empty if it has one."""
    if conversion is None:
        return "the model is not converted yet: materialize summarizer_model"
    return conversion.obstacle


def is_converted(lake: Lake, model_version: str) -> bool:
    """Return whether ``ensure_converted`` has nothing left to do."""
    known = read_conversion(lake, model_version)
    if known is None or not known.is_whole(lake):
        return False
    # An obstacle holds for one version of the converter.
    return not known.obstacle or known.converter == _converter()


def damaged_conversion(lake: Lake, model_version: str) -> list[str]:
    """Return keys of a conversion's objects that are not those published; reads them all."""
    known = read_conversion(lake, model_version)
    if known is not None:
        return damaged_files(lake, known.folder, known.files)
    record = _record_key(model_version)
    return [record] if lake.head(record) is not None else []


def ensure_converted(lake: Lake, model: ReadyModel) -> Conversion:
    """Convert a ready model, unless this version of CTranslate2 has converted or refused it.

    Takes some seconds, and about twice the model's float32 size in memory.
    """
    known = read_conversion(lake, model.version)
    if known is not None and is_converted(lake, model.version):
        return known
    with tempfile.TemporaryDirectory(prefix="reviewsum-conversion-") as scratch:
        source = model.local_copy(lake, cache=Path(scratch, "model"))
        target = Path(scratch, "converted")
        obstacle = _convert(model, source, target)
        conversion = Conversion(
            model_version=model.version,
            converter=_converter(),
            obstacle=obstacle,
            files=() if obstacle else described(target),
        )
        conversion.publish(lake, target)
    return conversion


def _convert(ready: ReadyModel, source: Path, target: Path) -> str:
    """Convert a model in ``source`` into ``target``; returns the obstacle, if any."""
    import ctranslate2
    from transformers.utils import logging

    from reviewsum_assets.job.engines.transformers_engine import load_model

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    tokenizer = load_tokenizer(source)
    refuse_tokens_beyond(ready.source, tokenizer.get_vocab(), ready.vocabulary)
    rules: list[DecodingRules] = []

    class Converter(ctranslate2.converters.TransformersConverter):  # type: ignore[misc]  # ctranslate2 is untyped
        """Loads weights and tokenizer as the job does."""

        def load_model(self, model_class: Any, path: str, **_: Any) -> Any:
            model = load_model(model_class, Path(path), dtype="auto")
            rules.append(rules_of(model, tokenizer))
            _name_layout(model.config)
            return model

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return tokenizer

    try:
        Converter(str(source)).convert(str(target), quantization=stored_type(source))
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        return f"CTranslate2 cannot convert it: {error}"
    from reviewsum_assets.job.engines.ctranslate2_engine import RULES_FILE, VOCABULARY_FILE

    _name_tokens_once(target / VOCABULARY_FILE)
    (target / RULES_FILE).write_text(rules[0].model_dump_json())
    _tokenizer_in(source, ready).save(target)
    return _difference(ready, source, target)


def _name_layout(config: Any) -> None:
    """Set what the converter reads from a config, and what not every config says.

    transformers' own code has just one place of normalization for each family. It sets
    ``tie_word_embeddings`` of every T5, by which the converter decides whether outputs are scaled:
    not those of T5 v1.1 and flan-t5, whose output layer is their own.
    """
    is_pegasus = config.model_type == "pegasus"
    config.normalize_before = is_pegasus
    config.normalize_embedding = not is_pegasus
    if config.model_type == "t5":
        config.tie_word_embeddings = getattr(
            config, "scale_decoder_outputs", config.tie_word_embeddings
        )


def _name_tokens_once(path: Path) -> None:
    """Give each row of the embedding a token of its own.

    T5's has more rows than the tokenizer has tokens, and the converter names the rest like tokens
    that there are. A model may generate them.
    """
    tokens = json.loads(path.read_bytes())
    known: set[str] = set()
    for number, token in enumerate(tokens):
        if token in known:
            tokens[number] = f"<row_{number}>"
        known.add(token)
    path.write_text(json.dumps(tokens))


def _tokenizer_in(directory: Path, ready: ReadyModel) -> ChunkTokenizer:
    return ChunkTokenizer.load(directory, ready.prefix, ready.encoder_tokens(SummarySettings()))


def _difference(ready: ReadyModel, source: Path, target: Path) -> str:
    """Compare tokens, probabilities and summaries of both engines in float32 on the CPU."""
    trials = _tokenizer_in(source, ready).encode_many(CANARY_TEXTS)
    if _tokenizer_in(target, ready).encode_many(CANARY_TEXTS) != trials:
        return "its tokenizer cannot be saved: read again, it splits texts differently"
    gap = _largest_gap(source, target, trials)
    if gap > _TOLERATED_GAP:
        return f"converted, it gives other probabilities (log-probabilities differ by {gap:.2g})"
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "threads": 1}
    usual = SummarySettings()
    length = min(usual.max_length, ready.positions or usual.max_length)
    settings = SummarySettings(max_length=length, min_length=min(usual.min_length, length - 1))
    expected = load_engine("transformers", source, settings, **options).generate(trials)
    found = load_engine("ctranslate2", target, settings, **options).generate(trials)
    if found == expected:
        return ""
    different = sum(one != other for one, other in zip(found, expected, strict=True))
    return f"converted, it summarizes {different} of {len(trials)} trial texts differently"


def _largest_gap(source: Path, target: Path, trials: Sequence[Sequence[int]]) -> float:
    """Return the largest difference of a token's log-probability where each trial is repeated.

    Summaries can hide small errors, probabilities cannot.
    """
    import ctranslate2
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from reviewsum_assets.job.engines.transformers_engine import load_model

    model = load_model(AutoModelForSeq2SeqLM, source, dtype=torch.float32)
    tokenizer = load_tokenizer(source)
    translator = ctranslate2.Translator(str(target), compute_type="float32", intra_threads=1)
    gap = 0.0
    for trial in trials:
        ids = torch.tensor([trial])
        with torch.inference_mode():
            logits = model.eval()(input_ids=ids, labels=ids).logits
        expected = logits.log_softmax(-1).gather(-1, ids[..., None]).flatten()
        tokens = tokenizer.convert_ids_to_tokens(trial)
        # CTranslate2 adds the end token to the tokens that it scores.
        (scored,) = translator.score_batch([tokens], [tokens[:-1]])
        gap = max(gap, float((expected - torch.tensor(scored.log_probs)).abs().max()))
    return gap


def _converter() -> str:
    return f"ctranslate2 {version('ctranslate2')}, conversion {_CONVERSION}"


def _record_key(model_version: str) -> str:
    return f"{places.converted_model_directory(model_version)}/{Conversion.record_name}"
