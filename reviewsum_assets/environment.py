"""Environment variables of settings: how their text is read, and which names are refused."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_settings import NoDecode

from reviewsum_assets.errors import SettingsError, first_names

ENVIRONMENT_PREFIX = "REVIEWSUM_"

# Variables of the project that are no settings (log and identity of a job, switches of tests), and
# those that Kubernetes and Docker set for a service whose name begins with "reviewsum".
_OTHERS = re.compile(
    rf"{ENVIRONMENT_PREFIX}(LOG_LEVEL|SPEC_HASH|TEST_\w+)="
    r"|\w+(_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)|_PORT=(tcp|udp)://)"
)
_Kind = TypeVar("_Kind", bound=BaseModel)


def _split(value: object, separator: str = ",") -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(separator) if part.strip())


def split_pairs(value: object) -> object:
    """Return the pairs of a text as a dictionary; any other value as it is."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(separator for _, separator, _ in pairs):
        # Without the value, which may be secret.
        raise ValueError("expected NAME=VALUE,NAME=VALUE")
    return {name.strip(): text.strip() for name, _, text in pairs}


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Paths = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(lambda value: _split(value, os.pathsep))
]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(split_pairs)]


def load(kind: type[_Kind], known: Sequence[str], **overrides: object) -> _Kind:
    """Read settings from the environment; ``known`` are the names that any variable may have.

    Raises:
        SettingsError: a variable is not a setting, or a value cannot work; names each of them.
    """
    _refuse_unknown_variables(known)
    try:
        return kind(**overrides)
    except ValidationError as error:
        # A validator of a whole group names the settings itself and has no location.
        problems = "; ".join(
            ": ".join([*map(str, problem["loc"]), problem["msg"].removeprefix("Value error, ")])
            for problem in error.errors()
        )
        raise SettingsError(
            f"{problems} (settings come from {ENVIRONMENT_PREFIX}<NAME>, options of "
            "`reviewsum run`, or the run's resource configuration)"
        ) from error


def _refuse_unknown_variables(known: Sequence[str]) -> None:
    """Refuse non-empty variables with the project's prefix that nothing reads."""
    hints = []
    for variable, value in sorted(os.environ.items()):
        name = variable.lower().removeprefix(ENVIRONMENT_PREFIX.lower())
        is_ours = name != variable.lower() and name not in known and value
        if is_ours and not _OTHERS.match(f"{variable}={value}"):
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {ENVIRONMENT_PREFIX}{nearest[0].upper()}?" if nearest else ""
            hints.append(f"{variable} is not a setting ({hint or 'docs/settings.md lists all'})")
    if hints:
        raise SettingsError(f"{first_names(hints, '; ')}: correct or unset them")
