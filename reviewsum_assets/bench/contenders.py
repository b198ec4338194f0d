"""The contenders among the engines: the replaced script's loop and the job's, and their model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.demo import DEMO_MODEL
from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job import summarizer
from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer, load_tokenizer
from reviewsum_assets.job.engines import EngineName, load_engine
from reviewsum_assets.settings import EngineSettings, SummarySettings

# Tokens of each chunk as the encoder gets them, with the tokens of its summary; and the source
# tokens per batch at the end.
Chunks = list[tuple[tuple[int, ...], tuple[int, ...]]]
Loop = Callable[[Sequence[str]], tuple[Chunks, int]]

_PRODUCTS_PER_POOL = 100
_PLANNED = PlannedCheckpoint(
    number=1, products=1, data_version="", recipe="", plan_id="", input_sha256=""
)
_GENERATION = {"num_beams", "max_length", "min_length", "length_penalty", "early_stopping"}
# Pegasus has pad, end, two masks and <unk_2> to <unk_102> before the pieces of its vocabulary, and
# the pieces begin with pad and end themselves.
_IDS_BEFORE_PIECES = 103

# Layers, heads and feed-forward width of encoder and decoder, width, vocabulary and positions.
_SHAPES = {
    # From the config.json of google/pegasus-cnn_dailymail; 571M parameters.
    "pegasus-cnn_dailymail": (16, 16, 4096, 1024, 96_103, 1024),
    "tiny": (2, 2, 64, 32, 4_200, 512),
}


class BenchModel(NamedTuple):
    """Files of a model as both engines read them, its settings and its device."""

    directory: Path
    converted: Path
    prefix: str
    settings: SummarySettings
    device: str

    def tokenizer(self) -> ChunkTokenizer:
        """Load the tokenizer."""
        return ChunkTokenizer.load(self.directory, self.prefix, self.settings.encoder_tokens)


class Contender(NamedTuple):
    """A way to make summaries; without an engine it is the predecessor's loop."""

    name: str
    engine: EngineName | None
    dtype: str
    processes: int
    threads: int
    batch_tokens: int  # source tokens

    def loop(self, model: BenchModel) -> Loop:
        """Load the model and return the loop over texts of products."""
        if model.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return predecessor_loop(self, model) if self.engine is None else job_loop(self, model)


def predecessor_loop(contender: Contender, model: BenchModel) -> Loop:
    """Load the loop of the replaced script, the baseline of every engine.

    It processed the products one by one, tokenized a chunk again after every word, and generated at
    most 12 chunks at a time in float32, so that most batches held the chunks of a single product.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(contender.threads)
    settings, size = model.settings, EngineSettings.model_fields["chunk_batch_size"].default
    tokenizer = load_tokenizer(model.directory)
    loaded: Any = AutoModelForSeq2SeqLM.from_pretrained(
        model.directory, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    generator = loaded.to(model.device).eval()
    pad, end = generator.config.pad_token_id, generator.config.eos_token_id
    lengths = {**settings.model_dump(include=_GENERATION), "do_sample": False}
    cut_off = {"truncation": True, "max_length": settings.encoder_tokens, "return_tensors": "pt"}

    def cut(text: str) -> Iterator[str]:
        current: list[str] = []
        for word in text[: settings.max_chars].split():
            ids = tokenizer(" ".join([*current, word]), truncation=False)["input_ids"]
            if current and len(ids) >= settings.chunk_tokens:
                yield " ".join(current)
                current = []
            current.append(word)
        if current:
            yield " ".join(current)

    def summarize(texts: Sequence[str]) -> tuple[Chunks, int]:
        chunks: Chunks = []
        for text in texts:
            pieces = [f"{model.prefix}{piece}" for piece in cut(text)]
            for start in range(0, len(pieces), size):
                batch = tokenizer(pieces[start : start + size], padding=True, **cut_off).to(
                    model.device
                )
                with torch.inference_mode():
                    found = generator.generate(**batch, **lengths)
                tokenizer.batch_decode(found)  # part of the script's work
                for ids, made in zip(batch["input_ids"].tolist(), found.tolist(), strict=True):
                    source = tuple(token for token in ids if token != pad)
                    chunks.append((source, tuple(one for one in made if one not in (pad, end))))
        return chunks, 0

    return summarize


def job_loop(contender: Contender, model: BenchModel) -> Loop:
    """Load an engine as a job runs it; nothing is remembered from one call to the next."""
    name, tokenizer = contender.engine, model.tokenizer()
    assert name is not None
    directory = model.converted if name == "ctranslate2" else model.directory
    how = {"device": model.device, "dtype": contender.dtype}
    engine = load_engine(name, directory, model.settings, threads=contender.threads, **how)

    def summarize(texts: Sequence[str]) -> tuple[Chunks, int]:
        chunker = Chunker(tokenizer, model.settings)
        job = summarizer.Summarizer(engine, tokenizer, contender.batch_tokens, lambda *_: None)
        chunks: Chunks = []
        for start in range(0, len(texts), _PRODUCTS_PER_POOL):
            pool = enumerate(texts[start : start + _PRODUCTS_PER_POOL])
            products = [summarizer.ProductInput(str(n), text, 1, "") for n, text in pool]
            source = summarizer.CheckpointInput(_PLANNED, tuple(products))
            for work in job.generate([summarizer.chunk_checkpoint(source, chunker)]):
                job.assemble(work)
                for [level] in (one for sides in work.levels for one in sides.values()):
                    for chunk, key in zip(level.chunks, level.keys, strict=True):
                        made = work.summaries[key]
                        if made.failure:
                            raise BenchmarkError(made.failure)
                        chunks.append((chunk.token_ids, tuple(made.ids)))
        return chunks, job.batch_tokens

    return summarize


def shaped_config(shape: str) -> Any:
    """Return the config of the demo model in another shape; raises BenchmarkError if unknown."""
    from transformers import AutoConfig

    if shape not in _SHAPES:
        raise BenchmarkError(f"no shape {shape!r}: there are {', '.join(_SHAPES)}")
    *coder, width, vocabulary, positions = _SHAPES[shape]
    sizes = {"d_model": width, "vocab_size": vocabulary, "max_position_embeddings": positions}
    for name, size in zip(("layers", "attention_heads", "ffn_dim"), coder, strict=True):
        sizes |= {f"encoder_{name}": size, f"decoder_{name}": size}
    found = AutoConfig.from_pretrained(DEMO_MODEL, local_files_only=True, **sizes)
    found.update({"init_std": 0.02, "dtype": "float32"})
    return found


def write_shaped_model(directory: Path, shape: str) -> None:
    """Write a Pegasus with float32 random weights in the hub's layout.

    A model's cost depends on its shape alone, so its pace can be measured without its weights. The
    tokenizer cuts text exactly as that of the demo model does.
    """
    import torch
    from sentencepiece.sentencepiece_model_pb2 import ModelProto
    from transformers import PegasusForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    PegasusForConditionalGeneration(config := shaped_config(shape)).save_pretrained(directory)
    # After the weights: saving them writes a generation_config.json too.
    for name in ("generation_config.json", "special_tokens_map.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_MODEL / name, directory / name)
    vocabulary = ModelProto.FromString((DEMO_MODEL / "spiece.model").read_bytes())
    normal, unused = ModelProto.SentencePiece.NORMAL, ModelProto.SentencePiece.UNUSED
    # A filler with a score below the worst piece would change how unknown characters are cut.
    worst = min(piece.score for piece in vocabulary.pieces if piece.type == normal)
    for number in range(len(vocabulary.pieces), config.vocab_size - _IDS_BEFORE_PIECES):
        # Spaces reach the pieces as U+2581, so no text contains a piece with a space.
        vocabulary.pieces.add(piece=f"<filler {number}>", score=worst, type=unused)
    vocabulary.trainer_spec.vocab_size = len(vocabulary.pieces)
    (directory / "spiece.model").write_bytes(vocabulary.SerializeToString())
