"""Documentation and the package's docstrings, comments and strings avoid the banned words.

Run as a module, it prints the present number of hits per folder.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "reviewsum_assets"
GLOSSARY = PACKAGE / "docs" / "glossary.md"
PAGES = [ROOT / "README.md", *sorted((PACKAGE / "docs").glob("*.md"))]

_BANNED_BLOCK = re.compile(r"<!-- banned -->\n```text\n(.*?)```\n", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documentation_has_no_banned_word(page: Path) -> None:
    assert dict(_hits(_BANNED_BLOCK.sub("", page.read_text()))) == {}


def test_the_package_has_no_banned_word() -> None:
    assert not hits_of_package(), "write these differently: see docs/glossary.md"


def hits_of_package() -> list[str]:
    """Banned words of docstrings, comments and strings, with their files."""
    return [
        f"{path.relative_to(PACKAGE)}: {word}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for word in _hits(_prose(path.read_text())).elements()
    ]


def _hits(text: str) -> Counter[str]:
    return Counter(match[0].lower() for match in _pattern().finditer(" ".join(text.split())))


@cache
def _pattern() -> re.Pattern[str]:
    block = _BANNED_BLOCK.search(GLOSSARY.read_text())
    assert block is not None
    words = "|".join(map(re.escape, block[1].splitlines()))
    return re.compile(rf"\b(?:{words})\b", re.IGNORECASE)


def _prose(source: str) -> str:
    """Comments and string literals of a module; phrases may go on in the next line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]
    # Not from tokens: what they are for f-strings depends on the version of Python.
    nodes = ast.walk(ast.parse(source))
    strings = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return "\n".join([*comments, *strings])
