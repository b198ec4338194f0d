from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.errors import JobError
from reviewsum_assets.job.chunking import Chunker
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.engines.base import Engine, EngineInfo, EngineOutOfMemory
from reviewsum_assets.job.summarizer import (
    CheckpointInput,
    CheckpointSummaries,
    ProductInput,
    Summarizer,
    chunk_checkpoint,
)
from reviewsum_assets.job.tokenization import ChunkTokenizer
from reviewsum_assets.settings import SummarySettings
from tests.support.models import POISON

SETTINGS = SummarySettings(max_length=20, min_length=4, chunk_tokens=24)
LONG = "The battery life is excellent and the screen is bright, but the sound is poor. " * 3


@dataclass
class Watched:
    """A real engine that remembers what it was asked, and can be short of memory."""

    engine: Engine
    most_rows: int = 1000
    batches: list[list[list[int]]] = field(default_factory=list)

    def generate(self, batch: Sequence[Sequence[int]]) -> list[list[int]]:
        if len(batch) > self.most_rows:
            raise EngineOutOfMemory("too many rows")
        self.batches.append([list(row) for row in batch])
        return self.engine.generate(batch)

    def describe(self) -> EngineInfo:
        return self.engine.describe()


@dataclass
class SmallSummarizer:
    """A summarizer and what cuts its chunks."""

    summarizer: Summarizer
    chunker: Chunker

    def summarize(self, inputs: Sequence[CheckpointInput]) -> list[CheckpointSummaries]:
        works = [chunk_checkpoint(source, self.chunker) for source in inputs]
        return [self.summarizer.assemble(work) for work in self.summarizer.generate(works)]


def build(
    directory: Path, *, batch_tokens: int = 480, most_rows: int = 1000
) -> tuple[SmallSummarizer, Watched]:
    tokenizer = ChunkTokenizer.load(directory, "", SETTINGS.encoder_tokens)
    engine = Watched(
        load_engine("transformers", directory, SETTINGS, device="cpu", dtype="auto", threads=1),
        most_rows,
    )
    summarizer = Summarizer(engine, tokenizer, batch_tokens, lambda *_: None)
    return SmallSummarizer(summarizer, Chunker(tokenizer, SETTINGS)), engine


def checkpoint(number: int, texts: Sequence[str | None]) -> CheckpointInput:
    planned = PlannedCheckpoint(
        number=number, products=len(texts), data_version="", recipe="", plan_id=""
    )
    products = (ProductInput(f"P{number}-{i}", text, 7, "") for i, text in enumerate(texts))
    return CheckpointInput(planned, tuple(products))


def summarize(
    summarizer: SmallSummarizer, *texts: Sequence[str | None]
) -> dict[int, CheckpointSummaries]:
    inputs = [checkpoint(number, some) for number, some in enumerate(texts, 1)]
    return {done.planned.number: done for done in summarizer.summarize(inputs)}


def test_every_product_gets_its_chunk_summaries_joined_by_one_space(pegasus: Path) -> None:
    summarizer, engine = build(pegasus)
    done = summarize(summarizer, [LONG, "Stopped working after 2 weeks."])[1]
    tokenizer = ChunkTokenizer.load(pegasus, "", 512)
    chunks = Chunker(tokenizer, SETTINGS).chunks(LONG)
    alone = [tokenizer.decode(engine.engine.generate([c.token_ids])[0]) for c in chunks]
    assert done.rows[0].abstracted_summary == " ".join(alone)
    assert [row.product_id for row in done.rows] == ["P1-0", "P1-1"]
    assert done.products[0].chunks == len(chunks) > 1
    assert done.reviews == 14


def test_batches_keep_to_the_budget(pegasus: Path) -> None:
    summarizer, engine = build(pegasus, batch_tokens=100)
    summarize(summarizer, [LONG, LONG + "x", "short", "also short"])
    for batch in engine.batches:
        assert len(batch) * max(map(len, batch)) <= 100


def test_identical_chunks_are_generated_once(pegasus: Path) -> None:
    summarizer, engine = build(pegasus)
    done = summarize(summarizer, ["good sound", "good sound"], ["good  sound"])
    again = summarize(summarizer, ["good sound"])
    assert sum(map(len, engine.batches)) == 1
    assert [p.chunks_reused for p in done[1].products] == [0, 1]
    assert done[2].products[0].chunks_reused == again[1].products[0].chunks_reused == 1
    assert len({row.abstracted_summary for d in done.values() for row in d.rows}) == 1


@pytest.mark.parametrize("text", [None, "", " \n "])
def test_a_product_without_text_is_quarantined(pegasus: Path, text: str | None) -> None:
    done = summarize(build(pegasus)[0], [text, "good sound"])[1]
    assert [(q.product_id, q.reason) for q in done.quarantined] == [
        ("P1-0", "no text to summarize")
    ]
    assert [row.product_id for row in done.rows] == ["P1-1"]


def test_a_product_of_ten_megabytes_is_summarized(pegasus: Path) -> None:
    assert len(summarize(build(pegasus)[0], ["good sound " * 1_000_000])[1].rows) == 1


def test_a_poison_product_is_quarantined_and_the_rest_completes(poisoned_pegasus: Path) -> None:
    texts = [f"good sound {n}" for n in range(9)]
    texts[4] += POISON
    done = summarize(build(poisoned_pegasus)[0], texts)[1]
    (bad,) = done.quarantined
    assert bad.product_id == "P1-4"
    assert bad.reason.startswith("chunk 1 of 1: IndexError")
    assert len(done.rows) == 8


def test_what_fails_on_everything_is_raised_and_never_recorded(poisoned_pegasus: Path) -> None:
    summarizer, _ = build(poisoned_pegasus, most_rows=0)
    with pytest.raises(JobError, match="fails on plain text too"):
        summarize(summarizer, ["good sound"])


def test_out_of_memory_halves_the_batches_and_loses_nothing(pegasus: Path) -> None:
    texts = [f"good sound {n}" for n in range(40)]
    plain = summarize(build(pegasus, batch_tokens=4000)[0], texts)[1]
    summarizer, engine = build(pegasus, batch_tokens=4000, most_rows=3)
    assert summarize(summarizer, texts)[1].rows == plain.rows
    assert max(map(len, engine.batches)) <= 3


def test_pooled_checkpoints_give_what_each_gives_alone(pegasus: Path) -> None:
    first, second = [LONG, "good sound"], ["bad battery", LONG + " indeed"]
    together = summarize(build(pegasus)[0], first, second)
    assert together[1].rows == summarize(build(pegasus)[0], first)[1].rows
    assert [row.abstracted_summary for row in together[2].rows] == [
        row.abstracted_summary for row in summarize(build(pegasus)[0], second)[1].rows
    ]


def test_a_checkpoint_of_known_chunks_only_needs_no_engine(pegasus: Path) -> None:
    summarizer, engine = build(pegasus)
    summarize(summarizer, ["good sound"])
    calls = len(engine.batches)
    assert len(summarize(summarizer, ["good sound", None])[1].rows) == 1
    assert len(engine.batches) == calls
