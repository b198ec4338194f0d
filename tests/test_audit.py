"""Continuous integration tells an audit without findings from one that did not take place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[1] / ".ci" / "audit.py"
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
SKIPPED = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}
VULNERABLE = {
    "name": "weak",
    "version": "2.0",
    "vulns": [{"id": "CVE-2020-1", "fix_versions": ["2.1"], "aliases": [], "description": ""}],
}


@pytest.mark.parametrize(
    ("report", "code", "told"),
    [
        ([SOUND], 0, "1 packages audited, 0 of them vulnerable"),
        ([SOUND, VULNERABLE], 1, "weak 2.0: CVE-2020-1, fixed by 2.1"),
        ([SOUND, SKIPPED], 0, "WARNING: NOT AUDITED: unknown"),
        ([VULNERABLE, SKIPPED], 1, "WARNING: NOT AUDITED: unknown"),
        ([SKIPPED], 3, "0 packages audited"),
        (None, 3, "0 packages audited"),
    ],
)
def test_an_audit_is_judged_by_what_was_looked_up(
    report: list[object] | None, code: int, told: str
) -> None:
    text = "" if report is None else json.dumps({"dependencies": report, "fixes": []})
    judged = subprocess.run(
        [sys.executable, str(AUDIT)], input=text, capture_output=True, text=True, check=False
    )
    assert judged.returncode == code, judged.stderr
    assert told in judged.stdout
