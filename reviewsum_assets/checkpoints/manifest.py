"""The manifest of a checkpoint: written last, it commits the checkpoint and explains it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from reviewsum_assets.integrity import SealedRecord


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class SummarizedProduct(_Record):
    """What one product cost. Tokens are those of the model's tokenizer."""

    product_id: str
    input_hash: str
    chunks: int
    chunks_reused: int  # chunks whose summary another, identical chunk had paid for
    tokens_in: int
    tokens_out: int
    repacked_from: int | None = None  # the checkpoint it was computed in, if not in this one


class QuarantinedProduct(_Record):
    """A product that could not be summarized, and why; the rest of its checkpoint could."""

    product_id: str
    input_hash: str
    reason: str
    repacked_from: int | None = None


class Timings(_Record):
    """Seconds of a checkpoint's stages; ``load`` is the model's, paid once a worker.

    On a GPU, reading and tokenizing overlap the generation of the checkpoints before, assembling
    and writing that of those after.
    """

    load: float
    read: float = 0.0
    tokenize: float
    generate: float
    assemble: float = 0.0
    write: float


class Producer(_Record):
    """What made the checkpoint: enough to reproduce or to distrust it."""

    job_name: str
    host: str
    instance_type: str
    engine: str
    device: str
    dtype: str
    model_version: str
    package_versions: dict[str, str]


class Manifest(SealedRecord):
    """The commit record of one checkpoint.

    A repacked checkpoint computed nothing: its times are zero, its ``producer`` is that of the
    newest checkpoint it took summaries from, and ``repacked_from`` has those of all of them.
    """

    plan_id: str
    checkpoint: int
    data_version: str
    csv_sha256: str
    csv_bytes: int
    products: tuple[SummarizedProduct, ...]
    quarantined: tuple[QuarantinedProduct, ...]
    reviews: int
    producer: Producer
    timings: Timings
    seconds: float  # from the start of work on it to its CSV being written
    predicted_seconds: float | None = None  # of one worker, to tokenize and generate it
    finished_at: str  # ISO 8601, UTC
    repacked_from: dict[int, Producer] = Field(default_factory=dict)  # by checkpoint

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """(product_id, input_hash) of every product, summarized or not."""
        return [
            *((product.product_id, product.input_hash) for product in self.products),
            *((product.product_id, product.input_hash) for product in self.quarantined),
        ]

    def producer_of(self, product: SummarizedProduct | QuarantinedProduct) -> Producer:
        """What made the summary of one of the products, or failed to."""
        if product.repacked_from is None:
            return self.producer
        return self.repacked_from[product.repacked_from]

    @property
    def worker_seconds(self) -> float:
        """What tokenizing and generating took one worker; to be held against the prediction."""
        return self.timings.tokenize + self.timings.generate

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
