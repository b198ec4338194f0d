"""What every product of a plan would cost with each strategy: a choice before it is paid."""

from __future__ import annotations

import polars as pl
from pydantic import BaseModel, ConfigDict

from reviewsum_assets import places
from reviewsum_assets.checkpoints.plan import Plan, Recipe, read_table
from reviewsum_assets.checkpoints.review_window import windows
from reviewsum_assets.compute.base import Capacity
from reviewsum_assets.compute.chunk_counts import (
    ChunkCounter,
    ChunkCounts,
    evenly,
    load_tokenizer,
    mean_count,
)
from reviewsum_assets.compute.estimate import Estimate, Share, priced
from reviewsum_assets.compute.pace import expected_pace
from reviewsum_assets.errors import PlanError
from reviewsum_assets.job.model_directory import read_ready_model
from reviewsum_assets.lake import Lake
from reviewsum_assets.reviews.grouping import current_grouped_reviews, reading_grouped, scan_grouped
from reviewsum_assets.settings import Settings

# Their texts are read whole, of products of all sizes alike.
_COUNTED_PRODUCTS = 300


class StrategyCosts(BaseModel):
    """The same products, all to be computed, with either strategy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    join: Estimate
    hierarchical: Estimate


def compare_strategies(
    lake: Lake, plan: Plan, settings: Settings, capacity: Capacity
) -> StrategyCosts:
    """What computing all selected products would take, whatever is computed already.

    Args:
        lake: holds grouped reviews, the model and the manifests of what is done.
        plan: says which products and, but for the strategy, with which model and settings.
        settings: engine, price and products a checkpoint are taken from it.
        capacity: of the compute that would run the job.

    Raises:
        PlanError: the grouped reviews are gone.
        ModelError: the model is.
        DumpError: the grouped reviews are damaged.
    """
    record = current_grouped_reviews(lake)
    if record is None:
        raise PlanError("there are no grouped reviews to count: materialize grouped_reviews")
    table = read_table(lake, plan).filter("selected")
    ranked = table.sort("review_count", "product_id", descending=[True, False])["product_id"]
    chosen = evenly(ranked.to_list(), _COUNTED_PRODUCTS)
    grouped = scan_grouped(lake, record).filter(pl.col("product_id").is_in(list(chosen)))
    estimates: dict[str, Estimate] = {}
    for strategy in StrategyCosts.model_fields:
        recipe = _with_strategy(plan.recipes[plan.recipe], strategy)
        model = read_ready_model(lake, recipe.model_version)
        pace = expected_pace(lake, recipe, model, settings, capacity)
        counter = ChunkCounter(
            load_tokenizer(lake, recipe, model), recipe.settings, pace.tokens_out_per_chunk
        )
        with reading_grouped(lake.uri_of(places.GROUPED_REVIEWS)):
            texts = windows(grouped, recipe.settings).select("text").collect()["text"]
        a_product = mean_count([counter.count(text) for text in texts])
        sizes = _checkpoint_sizes(plan.selected, settings.checkpoint_size)
        counts = ChunkCounts(tuple(map(a_product.times, sizes)), len(texts))
        estimates[strategy] = priced([Share(pace, counts)], plan.selected, settings, capacity)
    return StrategyCosts.model_validate(estimates)


def _with_strategy(recipe: Recipe, strategy: str) -> Recipe:
    settings = recipe.settings.model_copy(update={"strategy": strategy})
    return Recipe(model_version=recipe.model_version, settings=settings)


def _checkpoint_sizes(products: int, size: int) -> list[int]:
    return [min(size, products - start) for start in range(0, products, size)]
