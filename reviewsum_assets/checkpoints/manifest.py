"""The checkpoint file: a CSV with exactly the columns that users of the summaries rely on."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Annotated, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import Count, PlaceName, SealedRecord

COLUMNS = ("product_id", "abstracted_summary", "review_count")

# The csv module refuses fields above 128 KiB unless told otherwise.
csv.field_size_limit(2**31 - 1)
_HEADER_CHARS = 200  # shown of a header that is another


class SummaryRow(NamedTuple):
    """One product's summary; a tuple, since a merge goes through millions of them."""

    product_id: str
    abstracted_summary: str
    review_count: int


class SummaryWriter:
    """Writes rows, after the header, to a text file opened with ``newline=""``."""

    def __init__(self, file: io.TextIOBase) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def write(self, row: SummaryRow) -> None:
        """Append one row."""
        self._writer.writerow(row)


def encode_rows(rows: Iterable[SummaryRow]) -> bytes:
    """Rows as the UTF-8 content of a checkpoint file."""
    text = io.StringIO(newline="")
    writer = SummaryWriter(text)
    for row in rows:
        writer.write(row)
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


# Bounds that real figures are far from, so that no sum or quotient of them overflows.
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class SummarizedProduct(_Record):
    """What one product cost, and how many of its reviews went in.

    Tokens are those of the model's tokenizer. A review counts as read if all of it was in the
    window that the model reads, and as cut if only a beginning was; the rest of ``reviews`` was
    left out. Both are None where grouped reviews do not tell one review from the next.

    ``chunks_by_level`` are the chunks of the reviews and, where chunk summaries were summarized
    again, those of each level above; they add up to ``chunks``.
    """

    product_id: str
    input_hash: str
    chunks: Count
    chunks_reused: Count  # chunks whose summary another, identical chunk had paid for
    tokens_in: Count
    tokens_out: Count
    reviews: Count
    reviews_read: Count | None
    reviews_cut: Count | None
    chunks_by_level: tuple[Count, ...]

    @property
    def reviews_left_out(self) -> int | None:
        """Reviews of which the window held nothing, if that is known."""
        if self.reviews_read is None or self.reviews_cut is None:
            return None
        return self.reviews - self.reviews_read - self.reviews_cut


class QuarantinedProduct(_Record):
    """A product that could not be summarized, and why; the rest of its checkpoint could."""

    product_id: str
    input_hash: str
    reason: str


class Timings(_Record):
    """Seconds of a checkpoint's stages; ``load`` is the model's, paid once a worker.

    On a GPU, reading and tokenizing overlap the generation of the checkpoints before, assembling
    and writing that of those after.
    """

    load: Seconds
    read: Seconds
    tokenize: Seconds
    generate: Seconds
    assemble: Seconds
    write: Seconds


class Producer(SealedRecord):
    """What made the checkpoint: enough to reproduce or to distrust it."""

    job_name: PlaceName
    host: str
    instance_type: str
    engine: str
    engine_reason: str = ""  # why it was not the faster engine; empty if it was
    failed_engine: str = ""  # the one that was chosen first and failed on this device, if any
    device: str
    dtype: str
    model_version: str
    package_versions: dict[str, str]
    canary_summaries: dict[str, str] = Field(
        default_factory=dict
    )  # by a hash of the text; empty: it was not asked


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
    seconds: Seconds  # from the start of work on it to its CSV being written
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
        """What tokenizing and generating took one worker; to be held against the prediction."""
        return self.timings.tokenize + self.timings.generate

    @property
    def reviews_read(self) -> int | None:
        """Reviews read whole, of the products for which that is known; None if for none."""
        known = [p.reviews_read for p in self.products if p.reviews_read is not None]
        return sum(known) if known else None

    @property
    def chunks(self) -> int:
        """Chunks of all summarized products."""
        return sum(product.chunks for product in self.products)

    @property
    def chunks_reused(self) -> int:
        """Chunks whose summary another, identical chunk had paid for."""
        return sum(product.chunks_reused for product in self.products)

    @property
    def tokens_in(self) -> int:
        """Source tokens the model read."""
        return sum(product.tokens_in for product in self.products)

    @property
    def tokens_out(self) -> int:
        """Summary tokens the model wrote."""
        return sum(product.tokens_out for product in self.products)


def read_manifests(lake: Lake, checkpoints: Iterable[PlannedCheckpoint]) -> Iterator[Manifest]:
    """Every manifest that can be read; whether its checkpoint is valid is not asked."""
    keys = (places.checkpoint_manifest(planned.number) for planned in checkpoints)
    for _, content in lake.contents(keys):
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
    }
)


class ChunkRecord(NamedTuple):
    """One chunk of a product, in its order within ``level``, and its summary.

    On level 1 a chunk is made of so many ``parts`` words of the reviews, above it of so many
    summaries of the level below. One without parts was not generated: it is the last summary of
    the level below, which was left alone. Tokens are those of the model.
    """

    product_id: str
    level: int
    parts: int
    tokens_in: int
    tokens_out: int
    summary: str


def chunk_table(records: Iterable[ChunkRecord]) -> pl.DataFrame:
    """Records in ``CHUNK_SCHEMA``."""
    return pl.DataFrame(list(records), schema=CHUNK_SCHEMA, orient="row")


def read_chunks(lake: Lake, manifest: Manifest) -> pl.DataFrame | None:
    """The chunk summaries of a checkpoint in ``CHUNK_SCHEMA``.

    None if none were kept, or the file is missing or damaged.
    """
    key = _key_of(manifest)
    content = None if key is None else lake.get(key)
    if content is None or hashlib.sha256(content).hexdigest() != manifest.chunks_sha256:
        return None
    return pl.read_parquet(io.BytesIO(content))


def damaged_chunks(lake: Lake, plan: Plan) -> dict[int, str]:
    """Keys of the files that are missing or damaged, by checkpoint; reads them all.

    Sound beside a job that computes a checkpoint again: its file has another key, and is written
    before the manifest that names it.
    """
    written = {
        key: (manifest.checkpoint, manifest.chunks_sha256)
        for manifest in read_manifests(lake, plan.checkpoints)
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
    """Record a worker and what it said, unless another one was first.

    Raises:
        LakeError: it cannot be written.
    """
    key = places.canary_reference(recipe_key)
    lake.create(key, producer.sealed())


def read_reference(lake: Lake, recipe_key: str) -> Producer | None:
    """The reference of a recipe; None if there is none that can be read."""
    try:
        return Producer.unsealed(lake.get(places.canary_reference(recipe_key)) or b"")
    except ValueError:
        return None


def damaged_references(lake: Lake) -> list[str]:
    """Keys of the references that cannot be read."""
    found = [item.key for item in lake.list(places.CANARY_SUMMARIES)]
    return [key for key in found if read_reference(lake, PurePosixPath(key).stem) is None]
