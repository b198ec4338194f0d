"""Markdown tables for previews in the asset pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dagster as dg


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A Markdown table; every cell is shown as it is, whatever characters it holds."""
    lines = [header, ["---"] * len(header), *([_cell(str(cell)) for cell in row] for row in rows)]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def shortened(text: str, characters: int) -> str:
    """The beginning of a text, with an ellipsis if there is more of it."""
    return text if len(text) <= characters else f"{text[:characters]} …"


def _cell(text: str) -> str:
    escaped = " ".join(text.split())
    for character in "\\|`[*_":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped.replace("<", "&lt;")
