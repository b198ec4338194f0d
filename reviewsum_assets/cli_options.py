"""Options that several commands share, and the settings they lead to."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from reviewsum_assets.settings import Settings, load_settings

LakeOption = Annotated[
    str | None, typer.Option("--lake", help="Directory or s3://bucket/prefix that holds all data.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output.")
]


def chosen_settings(**options: Any) -> Settings:
    """Settings from the environment and the options that were given."""
    return load_settings(**{name: value for name, value in options.items() if value is not None})
