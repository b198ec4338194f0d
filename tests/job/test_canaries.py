from __future__ import annotations

from pathlib import Path

from reviewsum_assets.checkpoints.manifest import Producer, read_reference
from reviewsum_assets.job.chunking import ChunkTokenizer
from reviewsum_assets.job.devices import WorkerDevice
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.engines.base import CANARY_TEXTS
from reviewsum_assets.job.models.loaded import LoadedModel, RecipeReader, WorkerOptions
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.settings import SummarySettings
from reviewsum_assets.storage.lake import Lake
from tests.support.jobs import FAST, spec_for, texts


def started(lake: Lake, spec: JobSpec, **engine: object) -> Producer:
    """Load the model as a worker of a job with other engine settings does; what it records."""
    changed = spec.model_copy(update={"engine": spec.engine.model_copy(update=engine)})
    (recipe,) = spec.recipes.values()
    reader = RecipeReader.load(lake, recipe, changed)
    options = WorkerOptions(changed, WorkerDevice(None, threads=1), "local")
    return LoadedModel.load(lake, reader, options, lambda *_: None).producer


def test_another_worker_on_another_engine_asks_again_and_leaves_the_reference(
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


def test_canaries_are_what_the_engine_says_of_each_text(pegasus: Path) -> None:
    engine = load_engine(
        "transformers", pegasus, SummarySettings(**FAST), device="cpu", dtype="auto", threads=1
    )
    tokenizer = ChunkTokenizer.load(pegasus, "", 512)
    summaries = engine.generate(tokenizer.encode_many(CANARY_TEXTS))
    found = named_canaries(summaries, tokenizer)
    assert list(found) == [text_key(text) for text in CANARY_TEXTS]
    (ids,) = engine.generate([tokenizer.encode(CANARY_TEXTS[2])])
    assert found[text_key(CANARY_TEXTS[2])] == tokenizer.decode(ids)
