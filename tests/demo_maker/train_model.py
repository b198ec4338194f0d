"""Training of the small Pegasus: vocabulary, weights, held-out check, files in the hub's layout.

``python -m tests.demo_maker.train_model --output DIR`` does all of it on a CPU. The number of steps
is fixed, not the time.

Reproducibility: for one seed and vocabulary, the examples and their order are the same everywhere.
Weights are the same only on the same kind of CPU with the same number of threads and versions of
torch and transformers; the vocabulary needs the same version of sentencepiece. The files in
``reviewsum_assets/demo/model`` come from an earlier training, with another vocabulary: a new model
differs from them and gives other summaries.
"""

from __future__ import annotations

import argparse
import io
import math
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random

import sentencepiece
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, PegasusForConditionalGeneration, PreTrainedTokenizerBase

from reviewsum_assets.demo import DEMO_MODEL
from tests.demo_maker.language import LANGUAGE
from tests.demo_maker.small_pegasus import small_pegasus
from tests.demo_maker.training_examples import (
    SENTENCE_MARK,
    Example,
    accuracy,
    training_example,
    unrelated_sentence,
)

_PIECES, _CHUNK_TOKENS = 4000, 300
_TOKENS_PER_STEP, _MOST_CHUNKS_PER_STEP = 3600, 60
_PEAK_RATE, _WARM_UP_STEPS, _FIRST_CYCLE = 1.5e-3, 200, 2 / 3
_END, _IGNORED = 1, -100
# The ids of a text without end token.
TokenIds = Callable[[str], list[int]]
# Added to the seed, so that no stream of examples repeats another.
_VOCABULARY_STREAM, _HELD_OUT_STREAM = 1_000_001, 2_000_003
# No training changes these. There is no tokenizer.json: readers of the model must be able to start
# from spiece.model. The mask tokens are not named: transformers 5 gives other ids to a vocabulary
# whose masks are, and shifts all of it if only one of the two is.
_TOKENIZER_FILES = ("special_tokens_map.json", "tokenizer_config.json")
_GENERATION_FILE = "generation_config.json"


def make_vocabulary(directory: Path, seed: int) -> PreTrainedTokenizerBase:
    """Train spiece.model on made-up text and return the tokenizer that reads it."""
    rng = Random(seed + _VOCABULARY_STREAM)
    examples = [training_example(rng, tokens=200, count=len) for _ in range(8000)]
    lines = [example.text for example in examples]
    lines += [example.summary.replace(SENTENCE_MARK, " ") for example in examples]
    lines += [unrelated_sentence(rng) for _ in range(20_000)]
    lines += LANGUAGE.foreign_reviews * 40
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
        eos_id=_END,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=[SENTENCE_MARK],
        max_sentence_length=20_000,
        num_threads=1,
        minloglevel=2,
    )
    (directory / "spiece.model").write_bytes(model.getvalue())
    for name in _TOKENIZER_FILES:
        shutil.copyfile(DEMO_MODEL / name, directory / name)
    return AutoTokenizer.from_pretrained(directory)


def make_batch(rng: Random, ids: TokenIds, progress: float) -> tuple[Tensor, Tensor]:
    """Draw sources and targets of one step; chunks grow as training progresses from 0 to 1."""
    tokens = _chunk_tokens(rng, progress)
    count = min(_TOKENS_PER_STEP // tokens, _MOST_CHUNKS_PER_STEP)
    examples = [_example(rng, ids, tokens) for _ in range(count)]
    # Pegasus never joins words, so the ids of a chunk are those of its words.
    sources = [[token for word in item.text.split() for token in ids(word)] for item in examples]
    return _padded(sources, 0), _padded([ids(item.summary) for item in examples], _IGNORED)


def _example(rng: Random, ids: TokenIds, tokens: int) -> Example:
    return training_example(rng, tokens=tokens, count=lambda word: len(ids(word)))


def _chunk_tokens(rng: Random, progress: float) -> int:
    if progress < _FIRST_CYCLE * 0.2:
        return 60
    if progress < _FIRST_CYCLE * 0.4:
        return 120
    # The last chunk of a product may be a few words.
    return _CHUNK_TOKENS if rng.random() < 0.5 else rng.randrange(6, _CHUNK_TOKENS)


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """End the rows with the end token and pad them to equal lengths."""
    width = max(map(len, rows))
    return torch.tensor([[*row, _END, *[value] * (width - len(row))] for row in rows])


def train(model: PegasusForConditionalGeneration, ids: TokenIds, steps: int, seed: int) -> None:
    """Train in place on an endless stream of examples."""
    rng = Random(seed)
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
    )
    running_loss = 0.0
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, steps)
        source, target = make_batch(rng, ids, step / steps)
        output = model(input_ids=source, attention_mask=(source != 0).long(), labels=target)
        loss = functional.cross_entropy(
            output.logits.flatten(0, 1), target.flatten(), ignore_index=_IGNORED
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running_loss += loss.item()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps}  loss {running_loss / 100:.3f}")
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


def held_out_examples(ids: TokenIds, seed: int, count: int) -> list[Example]:
    """Make examples outside of the training stream: half full chunks, half of any length."""
    rng = Random(seed + _HELD_OUT_STREAM)
    return [_example(rng, ids, _chunk_tokens(rng, progress=1.0)) for _ in range(count)]


@torch.inference_mode()
def summarize(
    model: PegasusForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[str]:
    """Generate summaries of the texts as the pipeline does."""
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


def main() -> None:
    """Make the model and print its scores on held-out chunks."""
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
    ids = cache(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
    model = small_pegasus(len(tokenizer))
    print(f"{len(tokenizer)} tokens, {model.num_parameters():,} parameters")
    train(model, ids, arguments.steps, arguments.seed)

    examples = held_out_examples(ids, arguments.seed, 200)
    summaries = summarize(model, tokenizer, [example.text for example in examples])
    for name, share in accuracy(zip(summaries, examples, strict=True)).items():
        print(f"held-out {name}: {share:.1%}")
    model.half().save_pretrained(arguments.output)
    shutil.copyfile(DEMO_MODEL / _GENERATION_FILE, arguments.output / _GENERATION_FILE)


if __name__ == "__main__":
    main()
