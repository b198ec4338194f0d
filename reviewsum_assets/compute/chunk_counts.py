"""How many chunks and tokens checkpoints hold, counted as the job itself would cut them.

Where chunk summaries are summarized again, the levels above the reviews are counted as if every
summary had the same length.

Up to 5,000 products every one is counted, up to 500 where all their reviews are read; of more, an
even sample of about so many is, and scaled up: consecutive checkpoints are alike, since products
are ordered by their number of reviews.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint, Recipe
from reviewsum_assets.errors import ModelError
from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer
from reviewsum_assets.job.hierarchy import chunks_above, token_limit
from reviewsum_assets.job.models.conversion import read_conversion
from reviewsum_assets.job.models.directory import ReadyModel
from reviewsum_assets.job.models.files import damaged_files
from reviewsum_assets.job.summarizer import CheckpointInput
from reviewsum_assets.job.worker import read_input
from reviewsum_assets.settings import SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

# About ten seconds, however much of its reviews is read.
EXACT_PRODUCTS = {"join": 5_000, "hierarchical": 500}
_SAMPLED_CHECKPOINTS = 100
_PARALLEL_READS = 8
_WEIGHTS = (".safetensors", "model.bin")

T = TypeVar("T")


@dataclass(frozen=True)
class CheckpointCount:
    """Chunks and source tokens of one checkpoint; not whole numbers where scaled up."""

    chunks: float
    tokens_in: float

    def times(self, factor: float) -> CheckpointCount:
        """Both, multiplied."""
        return CheckpointCount(factor * self.chunks, factor * self.tokens_in)


class ChunkCounter:
    """Counts the chunks of products, those above their reviews too.

    Args:
        tokenizer: of the model.
        settings: how texts are cut, and the strategy.
        summary_tokens: that a chunk summary has.
    """

    def __init__(
        self, tokenizer: ChunkTokenizer, settings: SummarySettings, summary_tokens: float
    ) -> None:
        self._chunker = Chunker(tokenizer, settings)
        self._climbs = settings.strategy == "hierarchical"
        self._limit = token_limit(tokenizer, settings)
        self._summary_tokens = summary_tokens

    def count(self, text: str | None) -> CheckpointCount:
        """Chunks of one product, and the tokens that the model reads in them."""
        chunks = self._chunker.chunks(text)
        tokens = sum(len(chunk.token_ids) for chunk in chunks)
        if not self._climbs or len(chunks) < 2:
            return CheckpointCount(len(chunks), tokens)
        total = len(chunks) + sum(chunks_above(len(chunks), self._summary_tokens, self._limit))
        # Every summary but the last is read once more.
        return CheckpointCount(total, tokens + (total - 1) * self._summary_tokens)


@dataclass(frozen=True)
class ChunkCounts:
    """Counts of some checkpoints, in their order, and of how many products they are counts."""

    checkpoints: tuple[CheckpointCount, ...]
    products_counted: int

    @property
    def chunks(self) -> float:
        """Chunks of all."""
        return sum(count.chunks for count in self.checkpoints)

    @property
    def tokens_in(self) -> float:
        """Source tokens of all."""
        return sum(count.tokens_in for count in self.checkpoints)


def count_chunks(
    lake: Lake,
    planned: Sequence[PlannedCheckpoint],
    recipe: Recipe,
    model: ReadyModel,
    *,
    summary_tokens: float,
    exact_products: int | None = None,
) -> ChunkCounts:
    """Count the chunks of checkpoints that follow one recipe.

    Args:
        lake: holds their input.
        planned: the checkpoints.
        recipe: of all of them.
        model: of the recipe.
        summary_tokens: that a chunk summary has.
        exact_products: of more products than this a sample is counted; ``EXACT_PRODUCTS`` unless
            given.

    Raises:
        CheckpointError: grouped reviews are missing, or not those that were planned.
    """
    if exact_products is None:
        exact_products = EXACT_PRODUCTS[recipe.settings.strategy]
    is_exact = sum(checkpoint.products for checkpoint in planned) <= exact_products
    chosen = planned if is_exact else evenly(planned, _SAMPLED_CHECKPOINTS)
    counter = ChunkCounter(load_tokenizer(lake, recipe, model), recipe.settings, summary_tokens)
    counted: dict[int, CheckpointCount] = {}
    products_counted = products_chosen = 0
    for source in _inputs(lake, chosen, recipe):
        products = source.products
        if not is_exact:
            products = tuple(evenly(products, max(1, exact_products // len(chosen))))
        counts = [counter.count(product.text) for product in products]
        counted[source.planned.number] = mean_count(counts).times(len(source.products))
        products_counted += len(products)
        products_chosen += len(source.products)
    mean = mean_count(list(counted.values())).times(len(counted) / products_chosen)
    return ChunkCounts(
        tuple(counted.get(c.number) or mean.times(c.products) for c in planned),
        products_counted,
    )


def evenly(items: Sequence[T], count: int) -> Sequence[T]:
    """At most ``count`` of the items, the same distance apart."""
    if len(items) <= count:
        return items
    return [items[index * len(items) // count] for index in range(count)]


def mean_count(counts: Sequence[CheckpointCount]) -> CheckpointCount:
    """Of at least one."""
    return CheckpointCount(
        sum(count.chunks for count in counts) / len(counts),
        sum(count.tokens_in for count in counts) / len(counts),
    )


def _inputs(
    lake: Lake, planned: Sequence[PlannedCheckpoint], recipe: Recipe
) -> Iterator[CheckpointInput]:
    """Grouped reviews of checkpoints, read side by side, a bounded number at a time."""
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        for start in range(0, len(planned), _PARALLEL_READS):
            some = planned[start : start + _PARALLEL_READS]
            yield from pool.map(lambda one: read_input(lake, one, recipe), some)


def load_tokenizer(lake: Lake, recipe: Recipe, model: ReadyModel) -> ChunkTokenizer:
    """The model's tokenizer, loaded without fetching its weights.

    Raises:
        ModelError: a file is missing, or not the one that was published.
    """
    conversion = read_conversion(lake, model.version)
    if conversion is not None and conversion.files:
        prefix, files = places.converted_model_directory(model.version), conversion.files
    else:
        prefix, files = places.model_directory(model.version), model.files
    light = [file for file in files if not file.name.endswith(_WEIGHTS)]
    for key in damaged_files(lake, prefix, light):
        raise ModelError(
            f"{lake.uri_of(key)} is missing or not the file that was published; remove it and "
            "materialize summarizer_model again"
        )
    with tempfile.TemporaryDirectory(prefix="reviewsum-tokenizer-") as scratch:
        for file in light:
            lake.download(f"{prefix}/{file.name}", Path(scratch, file.name))
        return ChunkTokenizer.load(Path(scratch), model.prefix, recipe.settings.encoder_tokens)
