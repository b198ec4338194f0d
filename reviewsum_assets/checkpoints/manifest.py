"""The manifest of a checkpoint: written last, it commits the checkpoint and explains it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from reviewsum_assets.integrity import SealedRecord
from reviewsum_assets.record_types import Count, PlaceName

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
