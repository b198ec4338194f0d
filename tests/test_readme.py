from __future__ import annotations

import re
from pathlib import Path

from reviewsum_assets.settings import Settings

README = Path(__file__).parents[1] / "README.md"


def settings_table() -> list[str]:
    """The README's settings table as settings.py has it."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in ("", (), {}) else f"`{field.default}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return rows


def test_the_settings_table_is_that_of_the_code() -> None:
    text = README.read_text()
    found = re.search(r"<!-- settings: .*? -->\n(.*?)\n<!-- end of settings -->", text, re.DOTALL)
    assert found is not None
    assert found[1].splitlines() == settings_table()


def test_every_fault_has_a_test_that_exists() -> None:
    text = README.read_text()
    found = re.search(r"<!-- faults: .*? -->\n(.*?)\n<!-- end of faults -->", text, re.DOTALL)
    assert found is not None
    header, _, *rows = found[1].splitlines()
    assert header == "| fault | promise | computed again | tests |"
    for row in rows:
        *_, tests = row.strip("| ").split(" | ")
        named = re.findall(r"`([^`]+)::(test_\w+)`", tests)
        assert len(named) == tests.count(",") + 1, row
        for file, test in named:
            assert f"\ndef {test}(" in (README.parent / "tests" / file).read_text(), row


def test_quick_start_has_exactly_two_blocks_to_run() -> None:
    section = README.read_text().split("## Quick start")[1].split("\n## ")[0]
    assert section.count("```bash\n") == 2
