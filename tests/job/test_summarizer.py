from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.checkpoints.sides import Sides
from reviewsum_assets.errors import JobError
from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.engines.base import Engine, EngineInfo, EngineOutOfMemory
from reviewsum_assets.job.hierarchy import summary_joiner
from reviewsum_assets.job.summarizer import (
    CheckpointInput,
    CheckpointSummaries,
    ProductInput,
    Summarizer,
    chunk_checkpoint,
)
from reviewsum_assets.settings import SummarySettings
from tests.support.models import POISON

SETTINGS = SummarySettings(max_length=20, min_length=4, chunk_tokens=24)
HIERARCHICAL = SETTINGS.model_copy(update={"strategy": "hierarchical"})
TWO_SIDED = SETTINGS.model_copy(update={"strategy": "two_sided"})
LONG = "The battery life is excellent and the screen is bright, but the sound is poor. " * 3


@dataclass
class Watched:
    """A real engine that remembers its batches, and can be short of memory."""

    engine: Engine
    most_tokens: int = 1_000_000
    refused: tuple[int, ...] = ()
    broken: bool = False
    short_for: int = 0  # calls that run out of memory, however small
    failures: int = 0
    batches: list[list[list[int]]] = field(default_factory=list)

    def generate(self, batch: Sequence[Sequence[int]]) -> list[list[int]]:
        if self.broken:
            raise RuntimeError("broken")
        if self.short_for or padded(batch) > self.most_tokens:
            self.short_for = max(0, self.short_for - 1)
            self.failures += 1
            raise EngineOutOfMemory("no memory")
        if self.refused in map(tuple, batch):
            raise ValueError("refused")
        self.batches.append([list(row) for row in batch])
        return self.engine.generate(batch)

    def describe(self) -> EngineInfo:
        return self.engine.describe()


def padded(batch: Sequence[Sequence[int]]) -> int:
    return len(batch) * max(map(len, batch))


Small = tuple[Summarizer, Chunker]


def build(
    directory: Path,
    *,
    batch_tokens: int = 480,
    most_tokens: int = 1_000_000,
    settings: SummarySettings = SETTINGS,
    on_generated: Callable[[int, int, float], None] = lambda *_: None,
) -> tuple[Small, Watched]:
    tokenizer = ChunkTokenizer.load(directory, "", settings.encoder_tokens)
    engine = Watched(
        load_engine("transformers", directory, settings, device="cpu", dtype="auto", threads=1),
        most_tokens,
    )
    joiner = summary_joiner(tokenizer, settings)
    summarizer = Summarizer(engine, tokenizer, batch_tokens, on_generated, joiner)
    return (summarizer, Chunker(tokenizer, settings)), engine


def checkpoint(number: int, texts: Sequence[str | None]) -> CheckpointInput:
    planned = PlannedCheckpoint(
        number=number, products=len(texts), data_version="", recipe="", plan_id="", input_sha256=""
    )
    products = (ProductInput(f"P{number}-{i}", text, 7, "") for i, text in enumerate(texts))
    return CheckpointInput(planned, tuple(products))


def summarize(small: Small, *texts: Sequence[str | None]) -> dict[int, CheckpointSummaries]:
    summarizer, chunker = small
    inputs = [checkpoint(number, some) for number, some in enumerate(texts, 1)]
    works = [chunk_checkpoint(source, chunker) for source in inputs]
    return {
        done.source.planned.number: summarizer.assemble(done) for done in summarizer.generate(works)
    }


def summaries(done: CheckpointSummaries) -> list[str]:
    return [row.abstracted_summary for row in done.rows]


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


def test_identical_chunks_are_generated_once_and_the_last_used_are_remembered(
    pegasus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summarizer, engine = build(pegasus)
    done = summarize(summarizer, ["good sound", "good sound"], ["good  sound"])
    again = summarize(summarizer, ["good sound", None])
    assert sum(map(len, engine.batches)) == 1
    assert [p.chunks_reused for p in done[1].products] == [0, 1]
    assert done[2].products[0].chunks_reused == again[1].products[0].chunks_reused == 1
    assert len({row.abstracted_summary for d in done.values() for row in d.rows}) == 1
    monkeypatch.setattr("reviewsum_assets.job.summarizer._REMEMBERED_CHUNKS", 2)
    texts = ["one sound", "bad sound", "bright screen", "poor sound"]
    assert len(summarize(summarizer, texts)[1].rows) == 4
    reused = summarize(summarizer, texts)[1].products
    assert sum(product.chunks_reused for product in reused) == 2


def test_products_without_text_are_quarantined_and_one_of_ten_megabytes_is_not(
    pegasus: Path,
) -> None:
    done = summarize(build(pegasus)[0], [None, "", " \n ", "good sound " * 1_000_000])[1]
    assert [q.product_id for q in done.quarantined] == ["P1-0", "P1-1", "P1-2"]
    assert {q.reason for q in done.quarantined} == {"no text to summarize"}
    assert [row.product_id for row in done.rows] == ["P1-3"]


def test_a_poison_product_is_quarantined_but_an_engine_that_always_fails_ends_the_work(
    poisoned_bart: Path,
) -> None:
    texts = [f"good sound {n}" for n in range(9)]
    texts[4] += POISON
    summarizer, engine = build(poisoned_bart)
    done = summarize(summarizer, texts)[1]
    (bad,) = done.quarantined
    assert bad.product_id == "P1-4"
    assert bad.reason.startswith("chunk 1 of 1: IndexError")
    assert len(done.rows) == 8
    engine.broken = True
    with pytest.raises(JobError, match="fails on plain text too"):
        summarize(summarizer, ["good sound"])


def test_out_of_memory_reduces_the_batches_a_few_times_and_loses_nothing(pegasus: Path) -> None:
    texts = [f"good sound {n} {LONG[: n % 60]}" for n in range(300)]
    plain = summarize(build(pegasus, batch_tokens=36_000)[0], texts)[1]
    summarizer, engine = build(pegasus, batch_tokens=36_000, most_tokens=100)
    assert summarize(summarizer, texts)[1].rows == plain.rows
    assert 0 < engine.failures < 10
    sizes = sorted(map(padded, engine.batches))
    assert sizes[len(sizes) // 2] >= 70
    assert sizes[-1] <= 100


def test_memory_that_is_short_for_a_moment_quarantines_nothing(
    pegasus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reviewsum_assets.job.summarizer._MEMORY_PAUSES", (0.0, 0.0))
    summarizer, engine = build(pegasus)
    engine.short_for = 3  # a batch of two, then one chunk alone twice
    done = summarize(summarizer, ["good sound", "bad sound"])[1]
    assert (len(done.rows), done.quarantined) == (2, ())
    engine.most_tokens = 0  # memory that stays short ends the work
    with pytest.raises(JobError, match=r"single chunk of \d tokens does not fit"):
        summarize(summarizer, ["poor sound"])


def test_pooled_checkpoints_have_the_summaries_of_each_alone(pegasus: Path) -> None:
    first, second = [LONG, "good sound"], ["bad battery", LONG + " indeed"]
    summarizer, engine = build(pegasus, batch_tokens=100)
    together = summarize(summarizer, first, second)
    assert max(map(padded, engine.batches)) <= 100
    alone = [summarize(build(pegasus)[0], texts)[1] for texts in (first, second)]
    for pooled, single in zip(together.values(), alone, strict=True):
        assert summaries(pooled) == summaries(single)
    # One chunk has the same summary with either strategy.
    hierarchical = summarize(build(pegasus, settings=HIERARCHICAL)[0], ["good sound"])[1]
    assert summaries(hierarchical) == summaries(alone[0])[1:]


def test_hierarchical_summaries_are_summarized_again_until_one_is_left(pegasus: Path) -> None:
    shares: list[float] = []
    summarizer, engine = build(
        pegasus, settings=HIERARCHICAL, on_generated=lambda _, __, share: shares.append(share)
    )
    done = summarize(summarizer, [LONG, "Stopped working after 2 weeks.", LONG + "Indeed."])[1]
    tokenizer = ChunkTokenizer.load(pegasus, "", 512)
    by_product = {row.product_id: row.abstracted_summary for row in done.rows}
    for product in done.products:
        records = [one for one in done.chunks if one.product_id == product.product_id]
        levels = product.chunks_by_level
        # Every level joins all summaries of the level below, and the last leaves the summary.
        for number in range(2, len(levels) + 1):
            below = [one for one in records if one.level == number - 1]
            level = [one for one in records if one.level == number]
            assert sum(one.parts or 1 for one in level) == len(below)
            assert len(level) <= (len(below) + 1) // 2
        assert [one.summary for one in records if one.level == len(levels)] == [
            by_product[product.product_id]
        ]
        assert product.chunks == sum(levels) == sum(one.parts > 0 for one in records)
        assert product.tokens_in == sum(one.tokens_in for one in records)
        assert len(tokenizer.encode(by_product[product.product_id])) <= 2 * HIERARCHICAL.max_length
    assert len(done.products[0].chunks_by_level) > 2
    assert done.products[1].chunks_by_level == (1,)
    assert sum(product.chunks_reused for product in done.products) > 0
    generated = [tuple(row) for batch in engine.batches for row in batch]
    assert len(set(generated)) == len(generated)
    assert shares == sorted(shares)


def test_hierarchical_survives_little_memory_and_pools_levels(pegasus: Path) -> None:
    texts = [LONG, f"Good value for the price. {LONG}", f"{LONG} Don't buy it."]
    alone, calls = [], 0
    for text in texts:
        summarizer, engine = build(pegasus, settings=HIERARCHICAL, batch_tokens=4000)
        alone += summaries(summarize(summarizer, [text])[1])
        calls += len(engine.batches)
    for most_tokens in (4000, 50):
        summarizer, engine = build(
            pegasus, settings=HIERARCHICAL, batch_tokens=4000, most_tokens=most_tokens
        )
        done = summarize(summarizer, texts[:2], texts[2:])
        assert [*summaries(done[1]), *summaries(done[2])] == alone
        assert most_tokens == 50 or len(engine.batches) < calls


def test_a_chunk_that_fails_on_a_higher_level_quarantines_its_product(pegasus: Path) -> None:
    summarizer, engine = build(pegasus, settings=HIERARCHICAL)
    summarize(summarizer, [LONG])
    last = engine.batches[-1][0]
    summarizer, engine = build(pegasus, settings=HIERARCHICAL)
    engine.refused = tuple(last)
    done = summarize(summarizer, [LONG, "good sound"])[1]
    (bad,) = done.quarantined
    assert re.fullmatch(r"level [2-9], chunk 1 of \d: ValueError: refused", bad.reason)
    assert [row.product_id for row in done.rows] == ["P1-1"]
    assert {one.product_id for one in done.chunks} == {"P1-1"}


def test_each_side_of_a_product_is_summarized_as_if_it_were_alone(pegasus: Path) -> None:
    sides = [(LONG, "It is poor."), (LONG, LONG + "Indeed."), ("Good sound.", ""), ("", LONG)]
    windows = [f"{liked}\n\n{disliked}" if disliked else liked for liked, disliked in sides]
    summarizer, engine = build(pegasus, settings=TWO_SIDED)
    done = summarize(summarizer, [*windows, ""])[1]
    texts = sorted({text for both in sides for text in both if text})
    alone = summarize(build(pegasus, settings=HIERARCHICAL)[0], texts)[1]
    expected = dict(zip(texts, summaries(alone), strict=True)) | {"": ""}
    divided = [
        Sides.of_summary(row.abstracted_summary, product.side_chars or (0, 0))
        for row, product in zip(done.rows, done.products, strict=True)
    ]
    assert divided == [(expected[liked], expected[disliked]) for liked, disliked in sides]
    (unrated,) = done.quarantined
    assert unrated.product_id == "P1-4"
    assert unrated.reason.startswith("no review has stars")
    # Equal chunks of different sides and products are generated once.
    generated = [tuple(row) for batch in engine.batches for row in batch]
    assert len(set(generated)) == len(generated)
    for product in done.products:
        records = [one for one in done.chunks if one.product_id == product.product_id]
        assert product.chunks == sum(product.chunks_by_level)
        assert product.chunks == sum(one.parts > 0 for one in records)
        assert product.tokens_in == sum(one.tokens_in for one in records)
    by_side = {one.side: one.summary for one in done.chunks if one.product_id == "P1-1"}
    assert (by_side["liked"], by_side["disliked"]) == divided[1]
    assert list(by_side) == ["liked", "disliked"]
    assert len(generated) == sum(p.chunks - p.chunks_reused for p in done.products)


def test_a_side_that_fails_quarantines_its_product_by_name(pegasus: Path) -> None:
    summarizer, engine = build(pegasus, settings=TWO_SIDED)
    summarize(summarizer, [LONG])
    last = engine.batches[-1][0]
    summarizer, engine = build(pegasus, settings=TWO_SIDED)
    engine.refused = tuple(last)
    done = summarize(summarizer, [f"good sound\n\n{LONG}", "good sound"])[1]
    (bad,) = done.quarantined
    assert re.fullmatch(r"disliked, level [2-9], chunk 1 of \d: ValueError: refused", bad.reason)
    assert [row.product_id for row in done.rows] == ["P1-1"]
