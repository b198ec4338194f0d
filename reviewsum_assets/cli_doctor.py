"""``reviewsum doctor``: what will work, before anything is paid for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from reviewsum_assets.cli_options import JsonOption, LakeOption, chosen_settings
from reviewsum_assets.cli_output import out, print_json, printable
from reviewsum_assets.compute.doctor import Finding, diagnose
from reviewsum_assets.errors import SettingsError

_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


class DoctorResult(BaseModel):
    """Output of ``reviewsum doctor --json``."""

    ok: bool  # no problem; there may be warnings
    findings: list[Finding]


def doctor(
    lake: LakeOption = None,
    dump: Annotated[
        list[str] | None, typer.Option(help="Dump that a run would read; may be repeated.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model that a run would use.")] = None,
    compute: Annotated[
        str | None, typer.Option(help="Where jobs would run: local, or sagemaker.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check settings, lake, credentials, devices and model; compute and pay for nothing."""
    findings: list[Finding] = []
    for found in _findings(
        lake=lake, dumps=tuple(dump or ()) or None, model=model, compute=compute
    ):
        findings.append(found)
        if not as_json:
            _show(found)
    has_problem = any(found.state == "problem" for found in findings)
    if as_json:
        print_json(DoctorResult(ok=not has_problem, findings=findings))
    if has_problem:
        raise typer.Exit(1)


def _findings(**options: Any) -> Iterator[Finding]:
    try:
        settings = chosen_settings(**options)
    except SettingsError as error:
        yield Finding(
            subject="settings", state="problem", text=str(error), remedy="correct the settings"
        )
        return
    yield Finding(subject="settings", state="ok", text="all values can work")
    yield from diagnose(settings)


def _show(found: Finding) -> None:
    out.print(
        f"[{_STYLES[found.state]}]{found.state:>8}[/]  [bold]{found.subject}[/]: ",
        end="",
        highlight=False,
    )
    out.print(printable(found.text), markup=False, highlight=False, soft_wrap=True)
    if found.remedy:
        out.print(f"{'':>10}to fix: {found.remedy}", markup=False, highlight=False, soft_wrap=True)
