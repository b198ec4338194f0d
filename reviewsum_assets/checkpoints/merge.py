"""The merged table: every selected product's newest summary, as CSV and Parquet.

Also as CSV for spreadsheets, on request. Sentences that repeat an earlier one are left out, and
long summaries keep the sentences with the most support, as the settings say; checkpoint files stay
as they are. All of it streams: memory holds ids, not summaries.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import polars as pl
from pydantic import Field

from reviewsum_assets.checkpoints.manifest import (
    COLUMNS,
    QuarantinedProduct,
    SummaryRow,
    read_rows,
    require_summaries,
)
from reviewsum_assets.checkpoints.plan import (
    Plan,
    PlannedCheckpoint,
    read_planned_reviews,
    read_table,
)
from reviewsum_assets.checkpoints.validity import CheckpointState, check_checkpoints
from reviewsum_assets.errors import CheckpointError, first_names
from reviewsum_assets.reviews.evidence import shortened
from reviewsum_assets.reviews.sentences import SENTENCE_END, without_repeats
from reviewsum_assets.settings import MergeSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import Count, SealedRecord, file_sha256
from reviewsum_assets.storage.tables import UNREADABLE, first_line, require_columns

# Spreadsheets execute cells that begin like a formula, and a review may be one. An apostrophe in
# front prevents it: https://owasp.org/www-community/attacks/CSV_Injection. Some spreadsheets also
# accept signs of full width, and spaces before the sign.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")  # noqa: RUF001 - meant as they are


def as_text(cell: str) -> str:
    """A cell's content, which no spreadsheet executes."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def write_spreadsheet(merged_csv: Path, path: Path) -> None:
    """Copy the merged CSV with quoted texts, without formulas.

    Excel needs the byte order mark to detect UTF-8.
    """
    with (
        merged_csv.open(encoding="utf-8", newline="") as source,
        path.open("w", encoding="utf-8-sig", newline="") as target,
    ):
        writer = csv.writer(target, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(COLUMNS)
        for row in read_rows(source):
            writer.writerow(
                (as_text(row.product_id), as_text(row.abstracted_summary), row.review_count)
            )


MERGED_SCHEMA = pl.Schema(
    {"product_id": pl.String, "abstracted_summary": pl.String, "review_count": pl.Int64}
)
# Additional columns of the Parquet table, see ``SummarizedProduct``; null if unknown.
COVERAGE_COLUMNS = pl.Schema({"reviews_read": pl.Int64, "reviews_cut": pl.Int64})
MERGED_PARQUET_SCHEMA = pl.Schema({**MERGED_SCHEMA, **COVERAGE_COLUMNS})
_DEFAULT = MergeSettings()
_MAKE_IT = "use `reviewsum run`, or materialize merged_summaries"


class MergedTable(SealedRecord):
    """The record of a merge; sizes in bytes."""

    plan_id: str
    selected: Annotated[Count, Field(ge=1)]
    rows: Count
    quarantined: Count
    incomplete_checkpoints: tuple[int, ...]
    csv_sha256: str
    csv_bytes: Count
    parquet_sha256: str
    parquet_bytes: Count
    spreadsheet_sha256: str = ""  # empty: there is no table for spreadsheets
    settings: MergeSettings
    merged_from: str  # ``content_digest`` of the checkpoints

    @property
    def completeness(self) -> float:
        """Share of the selected products that have a summary or a quarantine entry."""
        return (self.rows + self.quarantined) / self.selected

    def is_whole(self, plan: Plan, content: str) -> bool:
        """Whether this is the complete table of a plan, with this ``content_digest``."""
        is_of_plan = self.plan_id == plan.plan_id and self.merged_from == content
        return is_of_plan and not self.incomplete_checkpoints


def content_digest(checksums: Mapping[int, str]) -> str:
    """Hash of the CSV checksums of checkpoints by number."""
    return hashlib.sha256(json.dumps(sorted(checksums.items())).encode()).hexdigest()


def merge_checkpoints(
    lake: Lake,
    plan: Plan,
    settings: MergeSettings = _DEFAULT,
    *,
    allow_incomplete: bool = False,
) -> MergedTable:
    """Write the merged table of ``plan`` as CSV and Parquet.

    Args:
        lake: read from and written to.
        plan: the current plan.
        settings: sentences that stay, and whether there is a table for spreadsheets; without that
            setting, an earlier one is removed.
        allow_incomplete: merge the valid checkpoints, and record the others.

    Raises:
        CheckpointError: a checkpoint is missing or invalid and ``allow_incomplete`` is not set,
            or none is valid, or no product has a summary, or the reviews of a checkpoint, which
            ``summary_words`` needs, are missing.
    """
    spreadsheet = settings.spreadsheet_csv
    with tempfile.TemporaryDirectory(prefix="reviewsum-merge-") as scratch:
        csv_path, parquet_path = Path(scratch, "merged.csv"), Path(scratch, "merged.parquet")
        coverage_path = Path(scratch, "coverage.csv")
        texts = _Texts(lake, settings)
        rows, quarantined, bad, checksums = _write_csv(lake, plan, texts, csv_path, coverage_path)
        if bad and (not allow_incomplete or len(bad) == len(plan.checkpoints)):
            names = first_names([state.describe() for state in bad])
            raise CheckpointError(
                f"{len(bad)} of {len(plan.checkpoints)} checkpoints cannot be merged: {names}. To "
                "compute and merge them: launch the job refresh (`reviewsum run`). To merge "
                "without them: set allow_incomplete."
            )
        require_summaries(rows, quarantined)
        table = pl.scan_csv(csv_path, schema=MERGED_SCHEMA, empty_string_is_null=False)
        coverage = pl.scan_csv(coverage_path, schema=COVERAGE_COLUMNS)
        pl.concat([table, coverage], how="horizontal").sink_parquet(parquet_path)
        spreadsheet_path = Path(scratch, "spreadsheet.csv")
        if spreadsheet:
            write_spreadsheet(csv_path, spreadsheet_path)
        merged = MergedTable(
            plan_id=plan.plan_id,
            selected=plan.selected,
            rows=rows,
            quarantined=len(quarantined),
            incomplete_checkpoints=tuple(state.planned.number for state in bad),
            csv_sha256=file_sha256(csv_path),
            csv_bytes=csv_path.stat().st_size,
            parquet_sha256=file_sha256(parquet_path),
            parquet_bytes=parquet_path.stat().st_size,
            spreadsheet_sha256=file_sha256(spreadsheet_path) if spreadsheet else "",
            settings=settings,
            merged_from=content_digest(checksums),
        )
        lake.put_file(places.MERGED_PARQUET, parquet_path)
        lake.put_file(places.MERGED_CSV, csv_path)
        if spreadsheet:
            lake.put_file(places.MERGED_SPREADSHEET, spreadsheet_path)
        else:
            lake.delete(places.MERGED_SPREADSHEET)
    lake.put(places.MERGED_MANIFEST, merged.sealed())
    return merged


def current_merged_table(lake: Lake) -> MergedTable | None:
    """The record of the last merge, or None if there is no readable one."""
    try:
        return MergedTable.unsealed(lake.get(places.MERGED_MANIFEST) or b"")
    except ValueError:
        return None


def merged_slices(lake: Lake, rows: int) -> Iterator[pl.DataFrame]:
    """The merged table in ``MERGED_PARQUET_SCHEMA``, ``rows`` at a time; at least one slice.

    Raises:
        CheckpointError: there is no table, or it cannot be read.
    """
    uri = lake.uri_of(places.MERGED_PARQUET)
    if lake.head(places.MERGED_PARQUET) is None:
        raise CheckpointError(f"{uri} is missing: {_MAKE_IT}")
    try:
        scan = lake.scan_parquet(places.MERGED_PARQUET)
        require_columns(scan.collect_schema(), MERGED_PARQUET_SCHEMA)
        for start in range(0, scan.select(pl.len()).collect().item() or 1, rows):
            yield scan.slice(start, rows).collect()
    except (*UNREADABLE, ValueError) as error:
        raise CheckpointError(f"{uri} cannot be read ({first_line(error)}): {_MAKE_IT}") from error


@dataclass(frozen=True)
class _Texts:
    """The texts of merged summaries, from those of checkpoints."""

    lake: Lake
    settings: MergeSettings

    def of(self, planned: PlannedCheckpoint, rows: Sequence[SummaryRow]) -> list[str]:
        """The text of each row of one checkpoint."""
        texts = [row.abstracted_summary for row in rows]
        if self.settings.repeated_sentences == "drop":
            texts = [without_repeats(text) for text in texts]
        most = self.settings.summary_words
        if not most or all(len(text.split()) <= most for text in texts):
            return texts
        columns = "product_id", "all_reviews", "ratings"
        read = read_planned_reviews(self.lake, planned).select(columns)
        reviews = {
            product: _separate(text or "", stars) for product, text, stars in read.iter_rows()
        }
        found = zip(rows, texts, strict=True)
        return [shortened(text, most, *reviews[row.product_id]) for row, text in found]


def _separate(text: str, stars: list[float | None] | None) -> tuple[list[str], list[float | None]]:
    """The reviews of a window with their stars; where they are not separate, its sentences."""
    lines = text.strip("\n").split("\n") if stars is not None else SENTENCE_END.split(text)
    return lines, stars if stars is not None else [None] * len(lines)


def _write_csv(
    lake: Lake, plan: Plan, texts: _Texts, path: Path, coverage_path: Path
) -> tuple[int, list[QuarantinedProduct], list[CheckpointState], dict[int, str]]:
    """Write every newest row, and the reviews read of its product to a second file.

    Returns:
        Rows, quarantined products, invalid checkpoints, and checksums of the valid ones.
    """
    # By checkpoint, the present review counts of the products that it is newest for.
    review_counts: dict[int, dict[str, int]] = {}
    selected = read_table(lake, plan).filter("selected")
    products = selected.select("checkpoint", "product_id", "review_count")
    for number, product_id, count in products.iter_rows():
        review_counts.setdefault(number, {})[product_id] = count
    rows = 0
    quarantined: list[QuarantinedProduct] = []
    bad: list[CheckpointState] = []
    checksums: dict[int, str] = {}
    with (
        path.open("w", encoding="utf-8", newline="") as file,
        coverage_path.open("w", encoding="utf-8", newline="") as coverage_file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        coverage_writer = csv.writer(coverage_file)
        coverage_writer.writerow(COVERAGE_COLUMNS.names())
        for state in check_checkpoints(lake, plan.checkpoints):
            if state.manifest is None:
                bad.append(state)
                continue
            checksums[state.planned.number] = state.manifest.csv_sha256
            newest = review_counts.pop(state.planned.number)
            read = {p.product_id: (p.reviews_read, p.reviews_cut) for p in state.manifest.products}
            merged = [row for row in state.rows if row.product_id in newest]
            writer.writerows(
                (row.product_id, text, newest[row.product_id])
                for row, text in zip(merged, texts.of(state.planned, merged), strict=True)
            )
            coverage_writer.writerows(read[row.product_id] for row in merged)
            rows += len(merged)
            quarantined += [q for q in state.manifest.quarantined if q.product_id in newest]
    return rows, quarantined, bad, checksums


_ROWS_A_SLICE = 50_000
_MOST_BINS = 12
_NICE_WIDTHS = (5, 10, 20, 25, 50, 100, 250, 500, 1000)
# Lower limits of the classes of products by reviews; the first class is below the first limit.
_CLASSES = (5, 10, 20, 50, 100, 200, 500, 1000, 5000)


class ReviewClass(NamedTuple):
    """Reviews of products with ``fewest`` to ``most`` of them, and the ``part`` that is counted."""

    fewest: int
    most: int | None  # None: no limit
    reviews: int
    part: int


@dataclass(frozen=True)
class MergedStatistics:
    """Words of summaries, and the reviews behind them.

    ``lengths`` are summaries by their words: first, last, count. The part of ``classes`` has a
    summary; without grouped reviews there are none. The part of ``reads`` was read by the model in
    full, and ``reviews_cut`` in part, of products for which it is known.
    """

    words: int
    lengths: tuple[tuple[int, int, int], ...]
    reviews_covered: int
    classes: tuple[ReviewClass, ...]
    reads: tuple[ReviewClass, ...]
    reviews_cut: int

    @property
    def review_coverage(self) -> float | None:
        """Share of all grouped reviews whose product has a summary."""
        reviews = sum(found.reviews for found in self.classes)
        return sum(found.part for found in self.classes) / reviews if reviews else None


def merged_statistics(lake: Lake, grouped: pl.LazyFrame | None) -> MergedStatistics:
    """Count words and reviews; ``grouped`` has one row per product with review_count.

    Memory holds four numbers per product.
    """
    rows = pl.concat(
        slice_.select(
            *("review_count", "reviews_read", "reviews_cut"),
            words=pl.col("abstracted_summary").str.count_matches(r"\S+"),
        )
        for slice_ in merged_slices(lake, _ROWS_A_SLICE)
    )
    merged, known = rows.lazy(), rows.filter(pl.col("reviews_read").is_not_null())
    return MergedStatistics(
        words=int(rows["words"].sum()),
        lengths=_bins(rows["words"]),
        reviews_covered=int(rows["review_count"].sum()),
        classes=() if grouped is None else _classes(grouped, merged, "review_count"),
        reads=_classes(known.lazy(), known.lazy(), "reviews_read"),
        reviews_cut=int(known["reviews_cut"].sum()),
    )


def _bins(words: pl.Series) -> tuple[tuple[int, int, int], ...]:
    longest = words.max()
    assert longest is None or isinstance(longest, int)
    if longest is None:
        return ()
    width = next((w for w in _NICE_WIDTHS if longest // w < _MOST_BINS), _NICE_WIDTHS[-1])
    counts = dict((words // width).value_counts().iter_rows())
    return tuple(
        (number * width, (number + 1) * width - 1, counts.get(number, 0))
        for number in range(min(counts), max(counts) + 1)
    )


def _classes(products: pl.LazyFrame, counted: pl.LazyFrame, part: str) -> tuple[ReviewClass, ...]:
    """Reviews of all products by class, and in ``part`` those of the counted ones."""
    both = _by_class(products, "review_count").join(
        _by_class(counted, part), on="place", how="left", suffix="_counted"
    )
    first, last = (0, *_CLASSES), (*(limit - 1 for limit in _CLASSES), None)
    found = both.fill_null(0).sort("place").collect(engine="streaming")
    return tuple(
        ReviewClass(first[place], last[place], *sums) for place, *sums in found.iter_rows()
    )


def _by_class(products: pl.LazyFrame, column: str) -> pl.LazyFrame:
    count = pl.col("review_count").cast(pl.Int64)
    place = pl.sum_horizontal((count >= fewest).cast(pl.Int64) for fewest in _CLASSES)
    return products.group_by(place=place).agg(reviews=pl.col(column).cast(pl.Int64).sum())
