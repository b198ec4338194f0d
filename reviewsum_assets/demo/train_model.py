"""Makes the small Pegasus of the demonstration: vocabulary, training, held-out check, hub files.

``python -m reviewsum_assets.demo.train_model --output DIR`` does all of it on a CPU. The number of
steps is fixed, not the time: two runs see the same examples in the same order.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import sentencepiece
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, PegasusForConditionalGeneration, PreTrainedTokenizerBase

from reviewsum_assets.demo import phrasebook
from reviewsum_assets.demo.claims import accuracy
from reviewsum_assets.demo.hub_files import write_generation_config, write_tokenizer_files
from reviewsum_assets.demo.reference_summary import SENTENCE_MARK
from reviewsum_assets.demo.small_pegasus import small_pegasus
from reviewsum_assets.demo.training_examples import Example, training_example, unrelated_sentence

_PIECES = 4000
_CHUNK_TOKENS = 300
_TOKENS_A_STEP = 3600
_MOST_CHUNKS_A_STEP = 60
_PEAK_RATE = 1.5e-3
_WARM_UP_STEPS = 200
_FIRST_CYCLE = 2 / 3
_IGNORED = -100
# Added to the seed, so that no stream of examples repeats another.
_VOCABULARY_STREAM, _HELD_OUT_STREAM = 1_000_001, 2_000_003


@dataclass(frozen=True)
class Batch:
    """Token ids of some chunks and their summaries, padded to equal lengths."""

    source: Tensor
    mask: Tensor
    target: Tensor


class WordTokens:
    """Token ids of text, word by word: Pegasus never joins words, so each is looked up once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def of_word(self, word: str) -> list[int]:
        """Ids of one word."""
        if word not in self._known:
            self._known[word] = self._tokenizer(word, add_special_tokens=False)["input_ids"]
        return self._known[word]

    def count(self, word: str) -> int:
        """Number of tokens of one word."""
        return len(self.of_word(word))

    def of_chunk(self, text: str) -> list[int]:
        """Ids of a chunk, end token included."""
        return [token for word in text.split() for token in self.of_word(word)] + [1]

    def of_summary(self, summary: str) -> list[int]:
        """Ids of a summary, sentence marks and end token included."""
        return [*self._tokenizer(summary, add_special_tokens=False)["input_ids"], 1]


def make_vocabulary(directory: Path, seed: int) -> PreTrainedTokenizerBase:
    """Train spiece.model on made-up text and return the tokenizer that reads it."""
    rng = Random(seed + _VOCABULARY_STREAM)
    examples = [training_example(rng, tokens=200, count=len) for _ in range(8000)]
    lines = [example.text for example in examples]
    lines += [example.summary.replace(SENTENCE_MARK, " ") for example in examples]
    lines += [unrelated_sentence(rng) for _ in range(20_000)]
    lines += phrasebook.FOREIGN_REVIEWS * 40
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="unigram",
        vocab_size=_PIECES,
        # Fewer pieces than asked for are fine: the made-up language is small.
        hard_vocab_limit=False,
        character_coverage=0.9999,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=[SENTENCE_MARK],
        max_sentence_length=20_000,
        num_threads=1,
        minloglevel=2,
    )
    (directory / "spiece.model").write_bytes(model.getvalue())
    write_tokenizer_files(directory)
    return AutoTokenizer.from_pretrained(directory)


def make_batch(rng: Random, words: WordTokens, progress: float) -> Batch:
    """Draw the examples of one step; chunks grow longer as training progresses from 0 to 1."""
    tokens = _chunk_tokens(rng, progress)
    count = min(_TOKENS_A_STEP // tokens, _MOST_CHUNKS_A_STEP)
    examples = [training_example(rng, tokens=tokens, count=words.count) for _ in range(count)]
    sources = [words.of_chunk(example.text) for example in examples]
    targets = [words.of_summary(example.summary) for example in examples]
    source = _padded(sources, 0)
    return Batch(source=source, mask=(source != 0).long(), target=_padded(targets, _IGNORED))


def _chunk_tokens(rng: Random, progress: float) -> int:
    if progress < _FIRST_CYCLE * 0.2:
        return 60
    if progress < _FIRST_CYCLE * 0.4:
        return 120
    # The last chunk of a product may be a few words.
    return _CHUNK_TOKENS if rng.random() < 0.5 else rng.randrange(6, _CHUNK_TOKENS)


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def train(
    model: PegasusForConditionalGeneration, words: WordTokens, *, steps: int, seed: int
) -> None:
    """Train in place on an endless stream of examples."""
    rng = Random(seed)
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
    )
    started, running_loss = time.monotonic(), 0.0
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, steps)
        loss = _loss(model, make_batch(rng, words, step / steps))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running_loss += loss.item()
        if (step + 1) % 100 == 0:
            minutes = (time.monotonic() - started) / 60
            print(f"step {step + 1}/{steps}  loss {running_loss / 100:.3f}  {minutes:.1f} min")
            running_loss = 0.0
    model.eval()


def _learning_rate(step: int, steps: int) -> float:
    """Two cosine cycles: the second, at half the rate, is where the model learns to count."""
    first = int(steps * _FIRST_CYCLE)
    if step < first:
        peak, progress = _PEAK_RATE, step / first
    else:
        peak, progress = _PEAK_RATE / 2, (step - first) / (steps - first)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return peak * min(1.0, (step + 1) / _WARM_UP_STEPS) * (0.02 + 0.98 * cosine)


def _loss(model: PegasusForConditionalGeneration, batch: Batch) -> Tensor:
    output = model(input_ids=batch.source, attention_mask=batch.mask, labels=batch.target)
    return functional.cross_entropy(
        output.logits.flatten(0, 1), batch.target.flatten(), ignore_index=_IGNORED
    )


def held_out_examples(words: WordTokens, seed: int, count: int) -> list[Example]:
    """Examples that training never sees: half of them full chunks, the others of any length."""
    rng = Random(seed + _HELD_OUT_STREAM)
    return [
        training_example(rng, tokens=_chunk_tokens(rng, progress=1.0), count=words.count)
        for _ in range(count)
    ]


@torch.inference_mode()
def summarize(
    model: PegasusForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
) -> list[str]:
    """Summaries of the texts, generated as the pipeline does."""
    summaries: list[str] = []
    for first in range(0, len(texts), 12):
        inputs = tokenizer(list(texts[first : first + 12]), padding=True, return_tensors="pt")
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            num_beams=3,
            max_length=128,
            min_length=32,
            length_penalty=0.8,
            early_stopping=True,
            renormalize_logits=True,
        )
        summaries += tokenizer.batch_decode(output, skip_special_tokens=True)
    return summaries


def save(model: PegasusForConditionalGeneration, directory: Path) -> None:
    """Write configuration and half-precision weights in the hub's layout."""
    model.half().save_pretrained(directory)
    write_generation_config(directory)


def main() -> None:
    """Make the model from nothing and print how well it does on held-out chunks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)

    tokenizer = make_vocabulary(arguments.output, arguments.seed)
    words = WordTokens(tokenizer)
    model = small_pegasus(len(tokenizer))
    print(f"{len(tokenizer)} tokens, {model.num_parameters():,} parameters")
    train(model, words, steps=arguments.steps, seed=arguments.seed)

    examples = held_out_examples(words, arguments.seed, 200)
    summaries = summarize(model, tokenizer, [example.text for example in examples])
    scored = zip(summaries, examples, strict=True)
    for name, share in asdict(
        accuracy((summary, example.facts, example.summary) for summary, example in scored)
    ).items():
        print(f"held-out {name.replace('_', ' ')}: {share:.1%}")
    save(model, arguments.output)


if __name__ == "__main__":
    main()
