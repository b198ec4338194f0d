"""Write the report: one HTML file that contains its data, its script and its style.

The data are JSON, compressed and encoded, so that no text of a review is part of the markup, and
the details of a product are decompressed only when a reader opens them. The policy of the page
(https://www.w3.org/TR/CSP3/) allows its own script and style, by hash, and nothing else.

The first lines of the page name the checksums of the tables it was made from; its last line is the
checksum of all before it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reviewsum_assets.checkpoints.merge import MergedTable, current_merged_table
from reviewsum_assets.checkpoints.plan import Plan, current_plan
from reviewsum_assets.errors import LakeError, ModelError, PlanError
from reviewsum_assets.job.models.directory import read_ready_model
from reviewsum_assets.report.products import TABLES, Details, Tables
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import file_sha256

_PARTS = {
    name: Path(__file__).with_name(f"page.{name}").read_bytes() for name in ("html", "css", "js")
}
_PAGE_VERSION = hashlib.sha256(b"\0".join(_PARTS.values())).hexdigest()[:16]
_PLACEHOLDER = re.compile(rb"\{\{(\w+)\}\}")
_SOURCES = re.compile(rb"<!doctype html>\n<!-- reviewsum report (\{[^>]*\}) -->\n")
_LONGEST_HEAD = 1024  # bytes
_CHECKSUM = b"<!-- sha256 %s -->\n"
_CHECKSUM_BYTES = len(_CHECKSUM % (b"0" * 64))
# Products whose details are decompressed together, some 100 KB.
PRODUCTS_PER_BLOCK = 200
_HASHED_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class Report:
    """A page that was written; ``shown`` of the ``products`` of the merged table are in it.

    ``notes`` are sentences on what it lacks.
    """

    products: int
    shown: int
    notes: tuple[str, ...]
    bytes: int


def write_report(
    lake: Lake,
    *,
    most: int,
    output: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Report:
    """Write the report of the merged table.

    Args:
        lake: read from, and written to unless there is an ``output``.
        most: number of products to show at most, those with the most reviews.
        output: local file to write in place of the lake's page.
        on_progress: receives the number of products done and of all that are shown.

    Raises:
        CheckpointError: there is no merged table, or a table cannot be read.
        LakeError: the page cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="reviewsum-report-") as scratch:
        path = Path(scratch, "report.html")
        tables = Tables.copied(lake, Path(scratch))
        parts = _write_parts(tables, most, Path(scratch), on_progress)
        origin = _origin(lake, tables, parts)
        _assemble(path, _sources(tables.sha256, most), origin, parts)
        if output is None:
            lake.put_file(places.REPORT, path)
        else:
            _copy(path, output)
        return Report(parts.products, parts.shown, origin.notes, path.stat().st_size)


def _copy(path: Path, output: Path) -> None:
    partial = output.with_name(f"{output.name}.partial")
    try:
        shutil.copyfile(path, partial)
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise LakeError(f"cannot write {output}: {error.strerror}") from error


def has_current_report(lake: Lake, most: int) -> bool:
    """Whether the page of the lake is that of its tables, with at most so many products."""
    head = _head(lake)
    if head is None or head != _sources({key: lake.sha256(key) for key in TABLES}, most):
        return False
    return lake.directory is None or not damaged_report(lake)  # S3 verifies checksums of its own


def damaged_report(lake: Lake) -> list[str]:
    """Damage of the page; reads every byte. A lake may be without it."""
    found = lake.head(places.REPORT)
    if found is None:
        return []
    digest, left = hashlib.sha256(), found.size - _CHECKSUM_BYTES
    with lake.open_reader(places.REPORT) as file:
        while left > 0 and (piece := file.read(min(left, _HASHED_AT_A_TIME))):
            digest.update(piece)
            left -= len(piece)
        is_whole = left == 0 and file.read() == _CHECKSUM % digest.hexdigest().encode()
    return [] if is_whole else [f"{places.REPORT} is not what was written: its SHA-256 differs"]


def _sources(sha256: Mapping[str, str | None], most: int) -> dict[str, Any]:
    """All that decides the content of a page."""
    tables = {Path(key).stem: checksum or "" for key, checksum in sha256.items()}
    return {**tables, "page": _PAGE_VERSION, "most": most}


def _head(lake: Lake) -> Any:
    """What the page says that it was made from; None if there is no page, or another file."""
    found = lake.head(places.REPORT)
    if found is None or found.size < _LONGEST_HEAD:
        return None
    match = _SOURCES.match(lake.read_range(places.REPORT, 0, _LONGEST_HEAD, None))
    try:
        return None if match is None else json.loads(match[1])
    except ValueError:
        return None


@dataclass
class _Parts:
    """The data of a page as files of script elements, and counts over its products."""

    index: Path
    details: Path
    products: int
    shown: int
    lack_evidence: int = 0
    lack_facts: int = 0


def _write_parts(
    tables: Tables, most: int, scratch: Path, on_progress: Callable[[int, int], None]
) -> _Parts:
    ids = tables.ids()
    shown = ids.head(most)
    parts = _Parts(scratch / "index", scratch / "details", ids.height, shown.height)
    done = 0
    with parts.index.open("wb") as index, parts.details.open("wb") as details:
        for some in tables.slices(shown):
            index.write(_data("data-index", gzip_json(_columns(some))))
            parts.lack_evidence += sum(one.lacks_evidence for one in some)
            parts.lack_facts += sum(one.lacks_facts for one in some)
            for start in range(0, len(some), PRODUCTS_PER_BLOCK):
                block = [one.details for one in some[start : start + PRODUCTS_PER_BLOCK]]
                name = f'id="details-{done // PRODUCTS_PER_BLOCK}"'
                details.write(_data(name, gzip_json(block)))
                done += len(block)
                on_progress(done, shown.height)
    return parts


def _columns(products: Sequence[Details]) -> dict[str, list[Any]]:
    """The rows of the list by column, as the script of the page reads them."""
    rows = [one.row for one in products]
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _data(attributes: str, content: bytes) -> bytes:
    """An element that holds data: browsers execute no script of this type."""
    start = f'<script type="application/octet-stream" {attributes}>'.encode()
    return start + base64.b64encode(content) + b"</script>\n"


def gzip_json(value: object) -> bytes:
    """A value as JSON, compressed; equal values give equal bytes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return gzip.compress(text.encode(), 6, mtime=0)


def _assemble(path: Path, sources: dict[str, Any], origin: _Origin, parts: _Parts) -> None:
    """Put the page together, in one pass over its template."""
    about = {
        "about": " · ".join(origin.parts),
        "notes": origin.notes,
        "evidence": bool(sources[Path(places.SUMMARY_EVIDENCE).stem]),
        "block": PRODUCTS_PER_BLOCK,
    }
    values: dict[bytes, bytes | Path] = {
        b"sources": json.dumps(sources).encode(),
        b"title": html.escape(f"Product summaries: {', '.join(origin.parts)}").encode(),
        b"style": _PARTS["css"],
        b"style_hash": _policy_hash(_PARTS["css"]),
        b"script": _PARTS["js"],
        b"script_hash": _policy_hash(_PARTS["js"]),
        b"about": _data('id="report"', json.dumps(about).encode()),
        b"index": parts.index,
        b"details": parts.details,
    }
    with path.open("wb") as page:
        for number, piece in enumerate(_PLACEHOLDER.split(_PARTS["html"])):
            content = values[piece] if number % 2 else piece
            if isinstance(content, bytes):
                page.write(content)
            else:
                with content.open("rb") as file:
                    shutil.copyfileobj(file, page)
    checksum = file_sha256(path).encode()
    with path.open("ab") as page:
        page.write(_CHECKSUM % checksum)


def _policy_hash(content: bytes) -> bytes:
    return b"sha256-" + base64.b64encode(hashlib.sha256(content).digest())


class _Origin(NamedTuple):
    """What a reader learns of the page as a whole: phrases for its title, and shortcomings."""

    parts: tuple[str, ...]
    notes: tuple[str, ...]


def _origin(lake: Lake, tables: Tables, parts: _Parts) -> _Origin:
    merged, plan = current_merged_table(lake), None
    if merged is not None and merged.parquet_sha256 != tables.sha256[places.MERGED_PARQUET]:
        merged = None
    with suppress(PlanError):
        plan = current_plan(lake)
    if merged is None or plan is None or merged.plan_id != plan.plan_id:
        plan = None
    found = lake.head(places.MERGED_PARQUET)
    return _Origin(
        (
            f"{parts.products:,} products",
            lake.uri,
            "plan unknown" if plan is None else f"plan {plan.sequence}",
            *([] if found is None else [f"merged on {found.last_modified:%Y-%m-%d}"]),
            *([] if plan is None else _model(lake, plan)),
        ),
        (*_gaps(tables, parts), *_shortcomings(merged, plan)),
    )


def _model(lake: Lake, plan: Plan) -> Iterator[str]:
    with suppress(ModelError):
        model = read_ready_model(lake, plan.recipes[plan.recipe].model_version)
        yield "demo model" if model.is_demo else f"model {model.source}"


def _shortcomings(merged: MergedTable | None, plan: Plan | None) -> Iterator[str]:
    if merged is not None and plan is None:
        yield "The merged table is of an earlier plan than the current one."
    if merged is not None and merged.incomplete_checkpoints:
        count = len(merged.incomplete_checkpoints)
        yield f"Pending checkpoints whose products the merged table lacks: {count:,}."


def _gaps(tables: Tables, parts: _Parts) -> Iterator[str]:
    shown = f"{parts.shown:,} products"
    if parts.shown < parts.products:
        yield (
            f"Of {parts.products:,} products the page shows the {parts.shown:,} with the most "
            "reviews; the setting report_products is the limit."
        )
    if not tables.sha256[places.SUMMARY_EVIDENCE]:
        yield "There is no evidence yet: the page does not show which reviews support a sentence."
    elif parts.lack_evidence:
        yield (
            f"The evidence is older than the merged table: for {parts.lack_evidence:,} of {shown} "
            "it is of other sentences, which are not shown."
        )
    if not tables.sha256[places.PRODUCT_FACTS]:
        yield "There are no product facts yet: stars, days and highlights are unknown."
    elif parts.lack_facts:
        yield (
            f"The product facts are of other reviews than the merged table for "
            f"{parts.lack_facts:,} of {shown}."
        )
