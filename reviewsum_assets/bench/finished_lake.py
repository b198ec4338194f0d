"""A lake on which everything is done, made by the project's own functions without the model."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from reviewsum_assets.bench.stage_inputs import product_id, product_texts
from reviewsum_assets.checkpoints.manifest import Producer, SummarizedProduct, SummaryRow, Timings
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.job.summarizer import CheckpointInput, CheckpointSummaries
from reviewsum_assets.job.worker import read_input, write_checkpoint
from reviewsum_assets.reviews.grouping import group_reviews, scan_grouped
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

# What the summary of 3,500 characters takes: three chunks, of some 200 characters each.
_SUMMARY_CHARS = 600
_CHUNKS, _TOKENS_IN, _TOKENS_OUT = 3, 800, 150
# Input of a product; short, since whatever reads a finished lake does not read it.
_INPUT_CHARS = 100
_DISTINCT_SUMMARIES = 10_000


def finished_lake(options: Mapping[str, Any]) -> int:
    """Group, plan, complete and merge ``top_k`` products; returns how many checkpoints they are.

    Args:
        options: settings; ``lake`` names one that holds nothing.
    """
    settings = load_settings(**options)
    lake = Lake.open(settings.lake)
    _write_grouped_csv(Path(settings.lake, places.GROUPED_CSV), settings.top_k)
    grouped, _ = group_reviews(lake, settings)
    model, _ = ready_model(lake, settings)
    ensure_converted(lake, model)
    plan = make_plan(
        lake, scan_grouped(lake, grouped), grouped.version, model.version, settings
    ).plan
    summaries = cycle(list(product_texts(_DISTINCT_SUMMARIES, _SUMMARY_CHARS)))
    for planned in plan.checkpoints:
        source = read_input(lake, planned, plan.recipes[planned.recipe])
        write_checkpoint(
            lake,
            _summarized(source, summaries),
            _producer(model.version),
            load_seconds=0.0,
            started_at=time.monotonic(),
        )
    merge_checkpoints(lake, plan)
    return len(plan.checkpoints)


def _write_grouped_csv(path: Path, products: int) -> None:
    path.parent.mkdir(parents=True)
    texts = product_texts(products, _INPUT_CHARS)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("product_id", "all_reviews", "review_count"))
        writer.writerows(
            (product_id(number), text, 5 + (products - number) // 10)
            for number, text in enumerate(texts)
        )


def _summarized(source: CheckpointInput, summaries: Iterator[str]) -> CheckpointSummaries:
    """A checkpoint as a job leaves it, its summaries being any text."""
    return CheckpointSummaries(
        planned=source.planned,
        rows=tuple(
            SummaryRow(product.product_id, " ".join(next(summaries).split()), product.review_count)
            for product in source.products
        ),
        products=tuple(
            SummarizedProduct(
                product_id=product.product_id,
                input_hash=product.input_hash,
                chunks=_CHUNKS,
                chunks_reused=0,
                tokens_in=_TOKENS_IN,
                tokens_out=_TOKENS_OUT,
                reviews=product.review_count,
                reviews_read=None,
                reviews_cut=None,
                chunks_by_level=(_CHUNKS,),
            )
            for product in source.products
        ),
        quarantined=(),
        reviews=sum(product.review_count for product in source.products),
        timings=Timings(load=0, read=0, tokenize=0, generate=0, assemble=0, write=0),
    )


def _producer(model_version: str) -> Producer:
    return Producer(
        job_name="benchmark",
        host="localhost",
        instance_type="local",
        engine="none",
        device="cpu",
        dtype="float32",
        model_version=model_version,
        package_versions={},
    )
