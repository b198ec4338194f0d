"""Refuses a model whose parts do not fit each other or the settings, by its files alone.

The files are read without PyTorch, before anything is spent. Libraries go on where they should not:
missing weights become random numbers, and a text beyond the positions fails as if it were at fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reviewsum_assets.errors import ModelError, UnfitModelError, first_names
from reviewsum_assets.job.models.layout import Differences, Family, Shape, layout_of
from reviewsum_assets.settings import SummarySettings

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_POINTER = b"version https://git-lfs.github.com/spec/"
# DataParallel and torch.compile put these before each name.
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
WEIGHTS = "model.safetensors"
_MOST_NAMES = 3
# Pegasus puts its own special tokens before the pieces.
_PEGASUS_OFFSET = 103
# Marks of training tasks, which no review contains: large BART models have no row for theirs.
_MARK = re.compile(r"<mask(_\d+)?>|<extra_id_\d+>|<unk_\d+>|madeupword\d+")
_END = "</s>"
_EOS_DEFAULTS = {"bart": 2, "pegasus": 1, "t5": 1}


def refuse_pointers(source: str, files: Iterable[Path]) -> None:
    """Refuse files that stand for those that Git LFS has not downloaded.

    Raises:
        UnfitModelError: There are some, which are named.
    """
    pointers = [path.name for path in files if _is_pointer(path)]
    if pointers:
        raise UnfitModelError(
            f"{source} holds pointers of Git LFS in place of {first_names(sorted(pointers))}. To "
            "fix: run `git lfs pull` there, or download these files again"
        )


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def refuse_missing_shards(source: str, directory: Path) -> None:
    """Refuse weights in several files of which some are missing.

    Raises:
        UnfitModelError: The index, or a file that it names, is not in the directory.
    """
    kind = "safetensors" if any(directory.glob("*.safetensors")) else "bin"
    whole, index = {
        "safetensors": (WEIGHTS, f"{WEIGHTS}.index.json"),
        "bin": ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    }[kind]
    present = {path.name for path in directory.glob(f"*.{kind}")}
    if whole in present or not present:
        return
    if not (directory / index).exists():
        raise UnfitModelError(
            f"{source} holds {first_names(sorted(present), most=_MOST_NAMES)} and neither {whole} "
            f"nor {index}. To fix: download the model again"
        )
    shards = read_json(directory / index, f"{source}/{index}").get("weight_map")
    named = set(map(str, shards.values())) if isinstance(shards, dict) else {"nothing"}
    if missing := sorted(named - present):
        raise UnfitModelError(
            f"{source} lacks {first_names(missing, most=_MOST_NAMES)}, which {index} names. To "
            "fix: download the model again"
        )


def refuse_other_weights(
    source: str, family: Family, config: Mapping[str, Any], found: Mapping[str, Shape]
) -> None:
    """Refuse weights that are not those of the model that the config describes.

    Raises:
        UnfitModelError: Some are missing, have another shape, or have no place in the model.
    """
    for prefix in WRAPPER_PREFIXES:
        if found and all(name.startswith(prefix) for name in found):
            raise UnfitModelError(
                f"the names of all weights of {source} begin with {prefix!r}, as those of a model "
                "within DataParallel or torch.compile. To fix: save the inner model "
                "(model.module.save_pretrained), or cut the prefix off the names"
            )
    try:
        differences = layout_of(family, config).differences(found)
    except UnfitModelError as error:
        raise UnfitModelError(f"{source}: {error}") from error
    if differences.harm:
        raise UnfitModelError(weights_sentence(source, differences))


def weights_sentence(source: str, differences: Differences) -> str:
    """Say which weights do not fit."""
    counts = {
        "are missing": differences.missing,
        "have no place in the model": differences.unexpected,
        "have another shape": differences.reshaped,
    }
    parts = [
        f"{len(names):,} {trouble} ({first_names(names, most=_MOST_NAMES)})"
        for trouble, names in counts.items()
        if names
    ]
    return (
        f"the weights of {source} are not those of the model that its config.json describes: "
        f"{'; '.join(parts)}. To fix: take config.json and weights of the same model"
    )


def refuse_other_tokenizer(
    source: str, family: Family, config: Mapping[str, Any], directory: Path
) -> None:
    """Refuse a tokenizer whose ids are not those of the model.

    Raises:
        UnfitModelError: It is damaged or incomplete, has more tokens than the model has rows, or
            ends texts in another way.
    """
    ids = _token_ids(source, family, directory)
    refuse_tokens_beyond(source, ids, int(config["vocab_size"]))
    end = config.get("eos_token_id", _EOS_DEFAULTS[family])
    if isinstance(end, int) and ids.get(_END, end) != end:
        raise UnfitModelError(
            f"the tokenizer of {source} has the id {ids[_END]} for {_END}, and its config.json "
            f"says eos_token_id {end}: they are of two models. To fix: take the tokenizer of the "
            "same model"
        )


def refuse_tokens_beyond(source: str, ids: Mapping[str, int], rows: int) -> None:
    """Refuse tokens without a row in the embedding, unless no text contains them.

    Raises:
        UnfitModelError: There are some.
    """
    beyond = sorted((number, name) for name, number in ids.items() if number >= rows)
    names = [name for _, name in beyond if not _MARK.fullmatch(name)]
    if names:
        raise UnfitModelError(
            f"the tokenizer of {source} has ids up to {beyond[-1][0]:,}, and the model has "
            f"{rows:,} rows (vocab_size): none for {first_names(names, most=_MOST_NAMES)}. To fix: "
            "take the tokenizer of the same model, or call model.resize_token_embeddings("
            "len(tokenizer)), train it and save both"
        )


def _token_ids(source: str, family: Family, directory: Path) -> dict[str, int]:
    """Return the tokens and their ids, as far as the files that transformers prefers have them."""
    names = ("tokenizer.json", "vocab.json", "spiece.model")
    name = next(name for name in names if (directory / name).exists())
    path, shown = directory / name, f"{source}/{name}"
    try:
        if name == "spiece.model":
            return _piece_ids(path, _PEGASUS_OFFSET if family == "pegasus" else 0)
        content = read_json(path, shown)
        if name == "tokenizer.json":
            vocabulary = content["model"]["vocab"]
            if isinstance(vocabulary, list):
                vocabulary = {piece: number for number, (piece, _) in enumerate(vocabulary)}
            added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
        else:
            if not (directory / "merges.txt").exists():
                raise UnfitModelError(
                    f"{source} lacks merges.txt, without which vocab.json splits texts into "
                    "letters. To fix: download the tokenizer again"
                )
            vocabulary, more = content, directory / "added_tokens.json"
            added = read_json(more, f"{source}/{more.name}") if more.exists() else {}
        return {str(token): int(number) for token, number in {**vocabulary, **added}.items()}
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise UnfitModelError(
            f"{shown} is not a tokenizer, or is damaged ({type(error).__name__}: {error}). To fix: "
            "download it again"
        ) from error


def _piece_ids(path: Path, offset: int) -> dict[str, int]:
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_proto=path.read_bytes())
    ids = {pieces.id_to_piece(n): n + offset for n in range(pieces.get_piece_size())}
    if offset:  # the special tokens have ids of their own before the pieces
        ids.pop(_END, None)
    return ids


def refuse_missing_start(source: str, directory: Path) -> None:
    """Refuse a model without a token that summaries begin with.

    transformers reads it from generation_config.json, or from config.json if there is none.

    Raises:
        UnfitModelError: There is none in that file.
    """
    name = "generation_config.json"
    if not (directory / name).exists():
        name = "config.json"
    config = read_json(directory / name, f"{source}/{name}")
    tokens = (config.get("decoder_start_token_id"), config.get("bos_token_id"))
    if not any(isinstance(token, int) for token in tokens):
        raise UnfitModelError(
            f"{source}/{name} has no decoder_start_token_id, the token that summaries begin with. "
            "To fix: add it as the model was trained, usually the id of <pad>, or of </s> for BART"
        )


def refuse_settings(source: str, positions: int | None, settings: SummarySettings) -> None:
    """Refuse chunks or summaries that are longer than the model has positions.

    A single word beyond them is truncated, as beyond ``encoder_tokens``.

    Raises:
        UnfitModelError: They are; the setting to lower is named.
    """
    if positions is None:
        return
    remedy = ""
    # chunk_tokens is exclusive, and the decoder does not read the last token that it writes.
    if settings.chunk_tokens > positions + 1:
        remedy = f"set chunk_tokens to {positions} or less, now {settings.chunk_tokens}"
    elif settings.max_length > positions + 1:
        remedy = f"set max_length to {positions} or less, now {settings.max_length}"
    elif settings.joins_summaries and 2 * settings.max_length > positions:
        remedy = (
            f"set max_length to {positions // 2} or less, now {settings.max_length}: the strategy "
            f"{settings.strategy} joins two summaries at least"
        )
    if remedy:
        raise UnfitModelError(
            f"{source} has {positions:,} positions (max_position_embeddings), too few for these "
            f"settings. To fix: {remedy}, or use a model with more positions"
        )


def read_json(path: Path, shown: str) -> dict[str, Any]:
    """Read a JSON object; ``shown`` is the place that the user knows.

    Raises:
        ModelError: It is none.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{shown} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{shown} is not a JSON object: found {type(content).__name__}")
    return content
