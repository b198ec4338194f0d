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

# Upper bounds of the hits per folder of the package; "" is the package itself. Lower a bound to the
# present number (`python -m tests.test_english`) when its folder improves; never raise one.
MOST_HITS = {
    "": 7,
    "bench": 8,
    "checkpoints": 12,
    "compute": 26,
    "evaluation": 5,
    "job": 14,
    "reviews": 11,
    "storage": 8,
}

_BANNED_BLOCK = re.compile(r"<!-- banned -->\n```text\n(.*?)```\n", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documentation_has_no_banned_word(page: Path) -> None:
    assert dict(_hits(_BANNED_BLOCK.sub("", page.read_text()))) == {}


@pytest.mark.parametrize(
    "folder", sorted({"", *MOST_HITS, *(path.parent.name for path in PACKAGE.glob("*/*.py"))})
)
def test_the_package_has_no_more_banned_words_than_before(folder: str) -> None:
    hits = hits_of(folder)
    bound = MOST_HITS.get(folder, 0)
    assert sum(hits.values()) <= bound, (
        f"write these differently (docs/glossary.md, Style): {sorted(hits.elements())}; "
        f"lower MOST_HITS[{folder!r}] when the count falls below {bound}"
    )


def hits_of(folder: str) -> Counter[str]:
    """Banned words of a folder, with their files."""
    paths = (PACKAGE / folder).rglob("*.py") if folder else PACKAGE.glob("*.py")
    return Counter(
        f"{path.relative_to(PACKAGE)}: {word}"
        for path in paths
        for word in _hits(_prose(path.read_text())).elements()
    )


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


if __name__ == "__main__":
    folders = sorted({"", *(path.parent.name for path in PACKAGE.glob("*/*.py"))})
    counts = {folder: sum(hits_of(folder).values()) for folder in folders}
    print({folder: count for folder, count in counts.items() if count})  # noqa: T201 - a command
