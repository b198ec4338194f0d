"""The environment of a process: variables that look like settings, and encodings of terminals."""

from __future__ import annotations

import difflib
import io
import os
import re
import sys
from collections.abc import Collection

from reviewsum_assets.errors import SettingsError, first_names

ENVIRONMENT_PREFIX = "REVIEWSUM_"

# What else the project gives such names: its job's log and identity, and what its tests go by.
_OWN = re.compile(rf"{ENVIRONMENT_PREFIX}(LOG_LEVEL|SPEC_HASH|TEST_\w+)=")
# Kubernetes and Docker tell every container of a service that is called "reviewsum...".
_OF_SERVICES = re.compile(r"\w+(_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)|_PORT=(tcp|udp)://)")


def refuse_unknown(settings: Collection[str]) -> None:
    """Refuse an environment that has a variable with our prefix which nothing reads.

    Empty ones count as not set.

    Args:
        settings: the names of all there are.

    Raises:
        SettingsError: names each such variable, and the setting that it may have meant.
    """
    unknown = [
        name
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(ENVIRONMENT_PREFIX)
        and value
        and _setting(name) not in settings
        and not any(pattern.match(f"{name}={value}") for pattern in (_OWN, _OF_SERVICES))
    ]
    if unknown:
        hints = [_hint(name, settings) for name in unknown]
        raise SettingsError(f"{first_names(hints, '; ')}: correct or unset what is none")


def escape_what_terminals_lack() -> None:
    """Print characters that the encoding of standard output or error lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _setting(variable: str) -> str:
    return variable[len(ENVIRONMENT_PREFIX) :].lower()


def _hint(variable: str, settings: Collection[str]) -> str:
    nearest = difflib.get_close_matches(_setting(variable), settings, 1)
    meant = f"did you mean {ENVIRONMENT_PREFIX}{nearest[0].upper()}?" if nearest else ""
    return f"{variable} is no setting ({meant or 'the README has a table of all there are'})"
