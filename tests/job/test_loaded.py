from __future__ import annotations

from pathlib import Path

from reviewsum_assets.checkpoints.manifest import Producer, read_reference
from reviewsum_assets.job.chunking import ChunkTokenizer
from reviewsum_assets.job.devices import WorkerDevice
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.engines.base import CANARY_TEXTS, canary_key
from reviewsum_assets.job.models.loaded import LoadedModel, RecipeReader, WorkerOptions
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.settings import SummarySettings
from reviewsum_assets.storage.lake import Lake
from tests.support.jobs import FAST, spec_for, texts


def started(lake: Lake, spec: JobSpec, **engine: object) -> Producer:
    """Load the model as a worker of a job with other engine settings; its record."""
    changed = spec.model_copy(update={"engine": spec.engine.model_copy(update=engine)})
    (recipe,) = spec.recipes.values()
    reader = RecipeReader.load(lake, recipe, changed)
    options = WorkerOptions(changed, WorkerDevice(None, threads=1), "local")
    return LoadedModel.load(lake, reader, options, lambda *_: None).producer


def test_the_first_workers_canary_summaries_stay_the_reference_of_every_engine(
    lake: Lake, pegasus: Path
) -> None:
    plan, spec = spec_for(lake, pegasus, texts(2))
    silent = started(lake, spec, canary=False)
    assert (silent.canary_summaries, read_reference(lake, plan.recipe)) == ({}, None)
    first = started(lake, spec, engine="ctranslate2")
    assert read_reference(lake, plan.recipe) == first
    second = started(lake, spec, engine="transformers")
    assert (first.engine, second.engine) == ("ctranslate2", "transformers")
    assert second.canary_summaries == first.canary_summaries
    assert read_reference(lake, plan.recipe) == first
    tokenizer = ChunkTokenizer.load(pegasus, "", 512)
    engine = load_engine(
        "transformers", pegasus, SummarySettings(**FAST), device="cpu", dtype="auto", threads=1
    )
    alone = [engine.generate([tokenizer.encode(text)])[0] for text in CANARY_TEXTS]
    expected = zip(map(canary_key, CANARY_TEXTS), map(tokenizer.decode, alone), strict=True)
    assert first.canary_summaries == dict(expected)
