"""Checks a request against every limit that the service's own API model documents.

botocore checks types and minimum lengths only, and the service's answer to the rest costs a round
trip and names no setting. The limits (``max``, ``pattern``, ``enum``, ``required``) are read from
the model that boto3 ships, so that they are those of the installed version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import regex

from reviewsum_assets.errors import SettingsError


def check_request(shape: Any, request: Mapping[str, Any]) -> None:
    """Check a request before it is sent.

    Args:
        shape: botocore's shape of the operation's input.
        request: the keyword arguments of the call.

    Raises:
        SettingsError: a limit is broken; names each field with its limit and its value.
    """
    problems = list(_problems("", shape, request))
    if problems:
        raise SettingsError(f"the request breaks limits of the service: {'; '.join(problems)}")


def _problems(path: str, shape: Any, value: Any) -> Iterator[str]:
    match shape.type_name:
        case "structure":
            for name in shape.required_members:
                if value.get(name) is None:
                    yield f"{_joined(path, name)} is missing"
            for name, part in value.items():
                if name not in shape.members:
                    yield f"{_joined(path, name)} is not known to the installed boto3"
                else:
                    yield from _problems(_joined(path, name), shape.members[name], part)
        case "list":
            yield from _size_problems(path, shape, len(value), "entries")
            for index, part in enumerate(value):
                yield from _problems(f"{path}[{index}]", shape.member, part)
        case "map":
            yield from _size_problems(path, shape, len(value), "entries")
            for name, part in value.items():
                yield from _problems(f"the name {name!r} in {path}", shape.key, name)
                yield from _problems(f"{path}[{name!r}]", shape.value, part)
        case "integer" | "long":
            yield from _size_problems(path, shape, value, "")
        case "string":
            yield from _text_problems(path, shape, value)


def _size_problems(path: str, shape: Any, size: float, unit: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    found = f"{size} {unit}".strip()
    if high is not None and size > high:
        yield f"{path} is {found}, at most {high} are allowed"
    if low is not None and size < low:
        yield f"{path} is {found}, at least {low} are needed"


def _text_problems(path: str, shape: Any, value: str) -> Iterator[str]:
    yield from _size_problems(path, shape, len(value), "characters")
    pattern, allowed = shape.metadata.get("pattern"), shape.metadata.get("enum")
    # The patterns use \p{L} and the like, which the standard library does not know.
    if pattern and regex.fullmatch(pattern, value, flags=regex.DOTALL) is None:
        yield f"{path} {value[:80]!r} does not match {pattern}"
    if allowed and value not in allowed:
        yield f"{path} {value!r} is none of the values the service knows"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
