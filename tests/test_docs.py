"""README and docs/ agree with the code. Run as a module, it writes the settings table again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from reviewsum_assets.cli.app import app
from reviewsum_assets.settings import Settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "reviewsum_assets" / "docs"
SETTINGS = DOCS / "settings.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]

_CODE_BLOCK = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_SETTINGS_TABLE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- end of settings -->)", re.DOTALL)
_LONGEST_README = 250
_LARGEST_IMAGE = 150_000


def settings_table() -> str:
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{name}` | {_default(name)} | {field.description} |")
    return "".join(f"{row}\n" for row in rows)


def write_settings_table() -> None:
    table = settings_table()
    SETTINGS.write_text(_SETTINGS_TABLE.sub(lambda _: table, SETTINGS.read_text()))


def test_the_settings_table_is_that_of_the_code() -> None:
    found = _SETTINGS_TABLE.search(SETTINGS.read_text())
    assert found is not None
    assert found[0] == settings_table(), "run: python -m tests.test_docs"


def test_the_settings_in_the_readme_have_the_defaults_of_the_code() -> None:
    section = _section("The ten settings that matter")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE)
    assert len(rows) == 10
    assert rows == [(name, _default(name)) for name, _ in rows]


def test_every_fault_has_a_test_that_exists() -> None:
    text = (DOCS / "faults.md").read_text()
    found = re.search(r"<!-- faults -->\n(.*?)\n<!-- end of faults -->", text, re.DOTALL)
    assert found is not None
    header, _, *rows = found[1].splitlines()
    assert header == "| fault | promise | computed again | tests |"
    absent = []
    for row in rows:
        *_, tests = row.strip("| ").split(" | ")
        named = re.findall(r"`([^`]+)::(test_\w+)`", tests)
        assert len(named) == tests.count(",") + 1, row
        absent += [name for name in named if not _test_exists(*name)]
    assert absent == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_file_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"(?:tests/)?((?:[a-z_]+/)*test_[a-z0-9_]+\.py)", page.read_text()))
    assert [name for name in sorted(named) if not (ROOT / "tests" / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_resolves(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", _CODE_BLOCK.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_links_to_every_page() -> None:
    text = README.read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name})" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    commands = typer.main.get_command(app)
    assert isinstance(commands, TyperGroup)
    unknown = []
    for name, options in _calls(page.read_text()):
        command = commands.commands.get(name)
        known = {text for option in command.params for text in option.opts} if command else set()
        unknown += [f"{name} {option}" for option in options if option not in known]
        unknown += [] if command else [name]
    assert unknown == []


def test_quick_start_has_exactly_two_blocks_to_run() -> None:
    assert _section("Quick start").count("```bash\n") == 2


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= _LONGEST_README


def test_images_are_few_and_small() -> None:
    images = list((DOCS / "images").iterdir())
    assert len(images) <= 3
    assert all(image.stat().st_size <= _LARGEST_IMAGE for image in images)


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    return "" if default in ("", (), {}) else f"`{default}`"


def _section(title: str) -> str:
    return README.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def _test_exists(file: str, test: str) -> bool:
    path = ROOT / "tests" / file
    return path.exists() and f"\ndef {test}(" in path.read_text()


def _anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives to the headings of a page."""
    text = _CODE_BLOCK.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Commands of ``reviewsum`` with their long options, in code blocks and in code spans."""
    blocks = [block.replace("\\\n", " ") for block in _CODE_BLOCK.findall(text)]
    lines = [line for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", _CODE_BLOCK.sub("", text))
    for line in lines + spans:
        for name, rest in re.findall(r"\breviewsum ([a-z]+)\b([^#&|]*)", line):
            yield name, re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)


if __name__ == "__main__":
    write_settings_table()
