"""Checks a CreateProcessingJob request against every limit that is documented.

Field types, lengths, ranges, patterns and allowed values are read from botocore's model of the
service, which botocore itself does not enforce beyond required fields and minimum lengths. The
few rules that only the documentation's text has follow below.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import botocore.session

_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
}


class InvalidRequestError(Exception):
    """The request breaks a limit; the text names the field as the service does."""


def check_request(request: dict[str, Any]) -> None:
    """Raise InvalidRequestError if the service would refuse the request."""
    problems = list(_shape_problems(_request_shape(), request, ""))
    if problems:
        count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected: "
        raise InvalidRequestError(count + "; ".join(problems))
    for problem in _documented_problems(request):
        raise InvalidRequestError(problem)
    for problem in _not_emulated(request):
        raise InvalidRequestError(problem)


@functools.cache
def _request_shape() -> Any:
    service = botocore.session.get_session().get_service_model("sagemaker")
    return service.operation_model("CreateProcessingJob").input_shape


def _shape_problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not _has_type(shape.type_name, value):
        yield _problem(value, path, f"Member must be a {shape.type_name}")
        return
    yield from _own_problems(shape, value, path)
    if shape.type_name == "structure":
        yield from _structure_problems(shape, value, path)
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _shape_problems(shape.key, key, f"{path}.key")
            yield from _shape_problems(shape.value, item, f"{path}.{key}.member")
    elif shape.type_name == "list":
        for number, item in enumerate(value, start=1):
            yield from _shape_problems(shape.member, item, f"{path}.{number}.member")


def _structure_problems(shape: Any, value: dict[str, Any], path: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield _problem(None, _below(path, name), "Member must not be null")
    for name, item in value.items():
        if name not in shape.members:
            yield _problem(item, _below(path, name), "Member is not known")
        elif item is not None:
            yield from _shape_problems(shape.members[name], item, _below(path, name))


def _own_problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    limits = shape.metadata
    size, measure = (value, "value") if shape.type_name == "integer" else (_length(value), "length")
    if size is not None and size > limits.get("max", size):
        yield _problem(
            value, path, f"Member must have {measure} less than or equal to {limits['max']}"
        )
    if size is not None and size < limits.get("min", size):
        yield _problem(
            value, path, f"Member must have {measure} greater than or equal to {limits['min']}"
        )
    pattern = limits.get("pattern")
    if pattern and isinstance(value, str) and not _matches(pattern, value):
        yield _problem(value, path, f"Member must satisfy regular expression pattern: {pattern}")
    if shape.type_name == "string" and shape.enum and value not in shape.enum:
        yield _problem(value, path, f"Member must satisfy enum value set: {shape.enum}")


def _documented_problems(request: dict[str, Any]) -> Iterator[str]:
    cluster = request["ProcessingResources"]["ClusterConfig"]
    if not cluster.get("InstanceType") and not cluster.get("InstancePreferences"):
        yield "InstanceType or InstancePreferences is required in ClusterConfig"
    for source in request.get("ProcessingInputs", []):
        local = source.get("S3Input", {}).get("LocalPath", "")
        if "S3Input" in source and not local.startswith("/opt/ml/processing/"):
            yield f"LocalPath '{local}' of an input must begin with /opt/ml/processing/"


def _not_emulated(request: dict[str, Any]) -> Iterator[str]:
    if not request["AppSpecification"].get("ContainerEntrypoint"):
        yield "ContainerEntrypoint is required here: the emulator has no image to take it from"
    for source in request.get("ProcessingInputs", []):
        if "S3Input" not in source or source.get("AppManaged"):
            yield f"The emulator has only S3Input, input '{source['InputName']}' needs another"
        if source.get("S3Input", {}).get("S3InputMode") == "Pipe":
            yield "S3InputMode Pipe is not emulated"
    for target in request.get("ProcessingOutputConfig", {}).get("Outputs", []):
        if "S3Output" not in target or target.get("AppManaged"):
            yield f"The emulator has only S3Output, output '{target['OutputName']}' needs another"
        elif not target["S3Output"].get("LocalPath", "").startswith("/opt/ml/"):
            yield "LocalPath of an output must begin with /opt/ml/ here"


def _has_type(name: str, value: Any) -> bool:
    if isinstance(value, bool) and name != "boolean":
        return False
    return isinstance(value, _TYPES[name])


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, (str, list)) or type(value) is dict else None


def _matches(pattern: str, value: str) -> bool:
    if r"\p{L}" in pattern:
        # Letters, separators and numbers of any script, which Python's patterns cannot say.
        return all(c.isalnum() or c.isspace() or c in "_.:/=+-@" for c in value)
    return re.fullmatch(pattern, value) is not None


def _below(path: str, name: str) -> str:
    # The service writes fields in its answers with a small first letter.
    field = name[0].lower() + name[1:]
    return f"{path}.{field}" if path else field


def _problem(value: Any, path: str, constraint: str) -> str:
    shown = "null" if value is None else str(value)[:100]
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"
