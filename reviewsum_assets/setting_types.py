"""How lists and pairs are written in an environment variable."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode


def _split_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _split_pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(separator for _, separator, _ in pairs):
        # Not shown: it may hold what nobody is to read.
        raise ValueError("expected NAME=VALUE,NAME=VALUE")
    return {name.strip(): text.strip() for name, _, text in pairs}


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_split_pairs)]
