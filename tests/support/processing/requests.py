"""Checks a CreateProcessingJob request against the documented limits that botocore leaves out.

botocore checks types, required fields and minimum lengths before it sends a request. Maximum sizes,
patterns and allowed values are read from its model of the service.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import botocore.session


class InvalidRequestError(Exception):
    """The request breaks a limit; the text names the field as the service does."""


def check_request(request: dict[str, Any]) -> None:
    """Raise InvalidRequestError if the service would refuse the request."""
    problems = [*_broken_limits(_request_shape(), request, ""), *_not_emulated(request)]
    if problems:
        raise InvalidRequestError("; ".join(problems))


@functools.cache
def _request_shape() -> Any:
    service = botocore.session.get_session().get_service_model("sagemaker")
    return service.operation_model("CreateProcessingJob").input_shape


def _broken_limits(shape: Any, value: Any, path: str) -> Iterator[str]:
    # The service writes fields in its answers with a small first letter.
    shown = f"Value '{str(value)[:100]}' at '{path}' failed to satisfy constraint: Member must"
    size = len(value) if isinstance(value, (str, list, dict)) else int(value)
    if shape.type_name != "structure" and size > shape.metadata.get("max", size):
        yield f"{shown} have a size less than or equal to {shape.metadata['max']}"
    pattern = shape.metadata.get("pattern")
    if pattern and not _matches(pattern, value):
        yield f"{shown} satisfy regular expression pattern: {pattern}"
    if shape.type_name == "string" and shape.enum and value not in shape.enum:
        yield f"{shown} satisfy enum value set: {shape.enum}"
    if shape.type_name == "structure":
        for name, item in value.items():
            inner = f"{path}.{name[0].lower()}{name[1:]}".lstrip(".")
            yield from _broken_limits(shape.members[name], item, inner)
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _broken_limits(shape.key, key, f"{path}.key")
            yield from _broken_limits(shape.value, item, f"{path}.{key}.member")
    elif shape.type_name == "list":
        for number, item in enumerate(value, start=1):
            yield from _broken_limits(shape.member, item, f"{path}.{number}.member")


def _matches(pattern: str, value: str) -> bool:
    if r"\p{L}" in pattern:
        # Letters, separators and numbers of any script, which Python's patterns cannot say.
        return all(c.isalnum() or c.isspace() or c in "_.:/=+-@" for c in value)
    return re.fullmatch(pattern, value) is not None


def _not_emulated(request: dict[str, Any]) -> Iterator[str]:
    if not request["AppSpecification"].get("ContainerEntrypoint"):
        yield "ContainerEntrypoint is required here: the emulator has no image to take it from"
    for source in request.get("ProcessingInputs", []):
        if "S3Input" not in source or source["S3Input"].get("S3InputMode") == "Pipe":
            yield f"The emulator has only S3Input, input '{source['InputName']}' needs another"
    for target in request.get("ProcessingOutputConfig", {}).get("Outputs", []):
        if "S3Output" not in target:
            yield f"The emulator has only S3Output, output '{target['OutputName']}' needs another"
