"""The files of a checkpoint: summaries as CSV, chunk summaries, and the manifest that commits both.

The columns of the CSV are a contract with the users of the summaries.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Annotated, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.checkpoints.sides import Sides
from reviewsum_assets.errors import CheckpointError
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import Count, PlaceName, SealedRecord

COLUMNS = ("product_id", "abstracted_summary", "review_count")

# The default limit of the csv module is 128 KiB per field.
csv.field_size_limit(2**31 - 1)
_HEADER_CHARS = 200  # shown of an unexpected header


class SummaryRow(NamedTuple):
    """One product's summary; a tuple, since a merge reads millions."""

    product_id: str
    abstracted_summary: str
    review_count: int


def encode_rows(rows: Iterable[SummaryRow]) -> bytes:
    """Rows as the UTF-8 content of a checkpoint file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows((COLUMNS, *rows))
    return text.getvalue().encode()


def decode_rows(content: bytes) -> list[SummaryRow]:
    """Rows of a checkpoint file.

    Raises:
        ValueError: it is not UTF-8, its columns are others, or a row does not fit them.
    """
    return list(read_rows(io.StringIO(content.decode(), newline="")))


def read_rows(file: Iterable[str]) -> Iterator[SummaryRow]:
    """Rows of an open summary CSV, one at a time.

    Raises:
        ValueError: the columns are others, or a row does not fit them.
    """
    reader = csv.reader(file)
    try:
        header = tuple(next(reader, ()))
    except csv.Error as error:
        raise ValueError(f"line 1 is not CSV: {error}") from error
    if header != COLUMNS:
        found = ",".join(header)[:_HEADER_CHARS]
        raise ValueError(f"expected the columns {','.join(COLUMNS)}, found {found!r}")
    try:
        for row in reader:
            product_id, summary, review_count = row
            yield SummaryRow(product_id, summary, int(review_count))
    except (csv.Error, ValueError) as error:
        raise ValueError(f"line {reader.line_num} is not a summary row: {error}") from error


# Far beyond real figures, so that no sum or quotient overflows.
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class SummarizedProduct(_Record):
    """The cost of one product, and how many of its reviews the model read.

    Reviews are read in full, cut, or left out; None if the grouped reviews are not separable.
    """

    product_id: str
    input_hash: str
    chunks: Count
    chunks_reused: Count  # chunks with the summary of an identical chunk
    tokens_in: Count
    tokens_out: Count
    reviews: Count
    reviews_read: Count | None
    reviews_cut: Count | None
    chunks_by_level: tuple[Count, ...]  # level 1: chunks of reviews; above: of summaries
    # With two_sided, of the liked and the disliked side: characters of the summary, 0 if absent.
    side_chars: tuple[Count, Count] | None = None

    @property
    def reviews_left_out(self) -> int | None:
        """Reviews outside of the window, if known."""
        if self.reviews_read is None or self.reviews_cut is None:
            return None
        return self.reviews - self.reviews_read - self.reviews_cut

    def sides_of(self, summary: str) -> Sides | None:
        """Divide this product's summary; None if its strategy is not ``two_sided``."""
        return None if self.side_chars is None else Sides.of_summary(summary, self.side_chars)


class QuarantinedProduct(_Record):
    """A product that could not be summarized, unlike the rest of its checkpoint."""

    product_id: str
    input_hash: str
    reason: str


# "liked, level 2, chunk 1 of 3: " before the reason of one product.
_PLACE_IN_PRODUCT = re.compile(r"((dis)?liked, )?(level \d+, )?chunk \d+ of \d+: ")


def require_summaries(summarized: int, quarantined: Iterable[QuarantinedProduct]) -> None:
    """Refuse a result in which the model, not a product, is at fault: all are in quarantine.

    A checkpoint of such products beside others with summaries is no such result.

    Raises:
        CheckpointError: None is ``summarized``; names the most frequent reason.
    """
    reasons = Counter(_PLACE_IN_PRODUCT.sub("", one.reason, count=1) for one in quarantined)
    if summarized or not reasons:
        return
    ((reason, count),) = reasons.most_common(1)
    raise CheckpointError(
        f"no product has a summary: all {reasons.total():,} are in quarantine, {count:,} of them "
        f"for this reason: {reason}. Nothing is merged. To fix: correct the model, the settings or "
        "the reviews and run again; to try again without a change, materialize the partitions with "
        "`recompute`"
    )


class Totals(NamedTuple):
    """Sums over products; tokens of the model's tokenizer."""

    chunks: int = 0
    chunks_reused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Timings(_Record):
    """Seconds of a checkpoint's stages; on a GPU they overlap the generation of others."""

    load: Seconds  # of the model, once per worker
    read: Seconds
    tokenize: Seconds
    generate: Seconds
    assemble: Seconds
    write: Seconds


class Producer(SealedRecord):
    """The origin of a checkpoint, which is needed to reproduce it."""

    job_name: PlaceName
    host: str
    instance_type: str
    engine: str
    engine_reason: str = ""  # why the faster engine was not used, if so
    failed_engine: str = ""  # the chosen engine, if it failed on this device
    device: str
    dtype: str
    model_version: str
    package_versions: dict[str, str]
    canary_summaries: dict[str, str] = Field(default_factory=dict)  # by a hash of the text


class Manifest(SealedRecord):
    """The commit record of one checkpoint."""

    plan_id: str
    checkpoint: Count
    data_version: str
    csv_sha256: str
    csv_bytes: Count
    products: tuple[SummarizedProduct, ...]
    quarantined: tuple[QuarantinedProduct, ...]
    reviews: Count
    producer: Producer
    timings: Timings
    seconds: Seconds  # from the start of work to the written CSV
    predicted_seconds: Seconds | None  # of one worker, to tokenize and generate it
    finished_at: str  # ISO 8601, UTC
    chunks_sha256: str | None  # of the file of chunk summaries; None: there are no chunks

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """(product_id, input_hash) of every product, summarized or not."""
        return [
            *((product.product_id, product.input_hash) for product in self.products),
            *((product.product_id, product.input_hash) for product in self.quarantined),
        ]

    @property
    def worker_seconds(self) -> float:
        """Seconds of one worker to tokenize and generate, comparable with the prediction."""
        return self.timings.tokenize + self.timings.generate

    @property
    def reviews_read(self) -> int | None:
        """Reviews read in full, of products for which it is known; None if for none."""
        known = [p.reviews_read for p in self.products if p.reviews_read is not None]
        return sum(known) if known else None

    @property
    def totals(self) -> Totals:
        """Sums over all summarized products."""
        return Totals(*(sum(getattr(p, n) for p in self.products) for n in Totals._fields))


def read_manifests(lake: Lake, numbers: Iterable[int]) -> Iterator[Manifest]:
    """Every readable manifest of these checkpoints, whether or not they are valid."""
    for _, content in lake.contents(map(places.checkpoint_manifest, numbers)):
        try:
            yield Manifest.unsealed(content or b"")
        except ValueError:
            continue


CHUNK_SCHEMA = pl.Schema(
    {
        "product_id": pl.String,
        "level": pl.Int16,
        "parts": pl.Int32,
        "tokens_in": pl.Int32,
        "tokens_out": pl.Int32,
        "summary": pl.String,
        "side": pl.String,
    }
)


class ChunkRecord(NamedTuple):
    """One chunk of a product, in its order within side and ``level``, and its summary.

    ``side`` is a field's name of ``Sides``, or empty if there are no sides. ``parts`` counts words
    of the reviews on level 1, above it summaries of the level below; 0: the last summary of the
    level below was carried over, without generation.
    """

    product_id: str
    level: int
    parts: int
    tokens_in: int
    tokens_out: int
    summary: str
    side: str = ""


def chunk_table(records: Iterable[ChunkRecord]) -> pl.DataFrame:
    """Records in ``CHUNK_SCHEMA``."""
    return pl.DataFrame(list(records), schema=CHUNK_SCHEMA, orient="row")


def read_chunks(lake: Lake, manifest: Manifest) -> pl.DataFrame | None:
    """The chunk summaries in ``CHUNK_SCHEMA``; None if absent or damaged."""
    key = _key_of(manifest)
    content = None if key is None else lake.get(key)
    if content is None or hashlib.sha256(content).hexdigest() != manifest.chunks_sha256:
        return None
    table = pl.read_parquet(io.BytesIO(content))
    # Files from before there were sides lack the column.
    whole = pl.concat([pl.DataFrame(schema=CHUNK_SCHEMA), table], how="diagonal")
    return whole.with_columns(pl.col("side").fill_null(""))


def damaged_chunks(lake: Lake, plan: Plan) -> dict[int, str]:
    """Keys of missing or damaged chunk summaries by checkpoint; reads them all.

    A job may run meanwhile: its file has another key and is written before its manifest.
    """
    written = {
        key: (manifest.checkpoint, manifest.chunks_sha256)
        for manifest in read_manifests(lake, [planned.number for planned in plan.checkpoints])
        if (key := _key_of(manifest)) is not None
    }
    damaged = {}
    for key, content in lake.contents(written):
        number, sha256 = written[key]
        if content is None or hashlib.sha256(content).hexdigest() != sha256:
            damaged[number] = key
    return damaged


def _key_of(manifest: Manifest) -> str | None:
    if manifest.chunks_sha256 is None:
        return None
    return places.checkpoint_chunks(manifest.checkpoint, manifest.chunks_sha256)


def record_reference(lake: Lake, recipe_key: str, producer: Producer) -> None:
    """Record the first worker of a recipe with its canary summaries.

    Raises:
        LakeError: it cannot be written.
    """
    lake.create(places.canary_reference(recipe_key), producer.sealed())


def read_reference(lake: Lake, recipe_key: str) -> Producer | None:
    """The reference of a recipe, if there is a readable one."""
    try:
        return Producer.unsealed(lake.get(places.canary_reference(recipe_key)) or b"")
    except ValueError:
        return None


def damaged_references(lake: Lake) -> list[str]:
    """Keys of unreadable references."""
    found = [item.key for item in lake.list(places.CANARY_SUMMARIES)]
    return [key for key in found if read_reference(lake, PurePosixPath(key).stem) is None]
