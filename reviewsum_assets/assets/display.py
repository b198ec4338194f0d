"""Metadata values that the UI shows well: links, tables of any text, previews."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg


def link_metadata(
    links: Mapping[str, str],
) -> dict[str, dg.UrlMetadataValue | dg.PathMetadataValue]:
    """Metadata entries for links by name: URLs where there are any, paths otherwise."""
    return {
        name: dg.MetadataValue.url(link)
        if link.startswith("https://")
        else dg.MetadataValue.path(link)
        for name, link in links.items()
    }


# The UI shows shorter Markdown inline, and longer one after a click (MetadataEntry in dagster-ui,
# 1.13.22).
SHOWN_CHARS = 1000


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A Markdown table whose cells are shown literally, with any characters."""
    return dg.MetadataValue.md("\n".join([*_head(header), *map(_line, rows)]))


def preview(header: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A table of the first rows that are shown without a click, at least one."""
    lines = _head(header)
    size = sum(len(line) + 1 for line in lines)
    for row in rows:
        line = _line(row)
        size += len(line) + 1
        if size > SHOWN_CHARS and len(lines) > 2:
            break
        lines.append(line)
    return dg.MetadataValue.md("\n".join(lines))


def shortened(text: str, characters: int) -> str:
    """The beginning of a text, with an ellipsis if it is longer."""
    return text if len(text) <= characters else f"{text[:characters]} …"


def _head(header: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header))]


def _line(row: Sequence[object]) -> str:
    return f"| {' | '.join(_cell(str(cell)) for cell in row)} |"


def _cell(text: str) -> str:
    escaped = " ".join(text.split())
    for character in "\\|`[*_":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped.replace("<", "&lt;")
