"""The loop of the script that this project replaces, as the yardstick of every engine.

It went through the products one by one. To cut a product it tokenized the growing chunk anew after
every word; it then generated at most 12 chunks at a time, so that most batches held the three or
four chunks of a single product. Weights were float32, on one device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reviewsum_assets.job.chunking import ChunkTokenizer, load_tokenizer
from reviewsum_assets.settings import EngineSettings, SummarySettings


def literal_pieces(
    words: Iterable[str], limit: int, tokens_of: Callable[[str], int]
) -> list[list[str]]:
    """The contract's rule as it is written: every word costs the tokenization of all before it.

    Args:
        words: of one product.
        limit: tokens that no chunk reaches, its end token included, unless it is a single word.
        tokens_of: counts the tokens of a text, the end token included.
    """
    pieces: list[list[str]] = []
    current: list[str] = []
    for word in words:
        current.append(word)
        if tokens_of(" ".join(current)) >= limit and len(current) > 1:
            pieces.append(current[:-1])
            current = [word]
    return [*pieces, current] if current else pieces


class PredecessorLoop:
    """Summarizes products as the replaced script did.

    Args:
        directory: of a model, in the hub's layout.
        prefix: that the model wants before every chunk.
        settings: lengths and beams; probabilities are not renormalized, as there.
        device: ``cpu`` or ``cuda``.
        threads: of the CPU.
    """

    def __init__(
        self, directory: Path, prefix: str, settings: SummarySettings, *, device: str, threads: int
    ) -> None:
        import torch
        from transformers import AutoModelForSeq2SeqLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self._settings = settings
        self._device = device
        self._tokenizer = ChunkTokenizer.load(directory, prefix, settings.encoder_tokens)
        self._plain_tokenizer = load_tokenizer(directory)
        self._chunks_a_batch = EngineSettings.model_fields["chunk_batch_size"].default
        model: Any = AutoModelForSeq2SeqLM.from_pretrained(
            directory, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        self._model = model.to(device).eval()
        self._pad = model.config.pad_token_id

    def summarize(self, texts: list[str]) -> list[list[tuple[list[int], str, int]]]:
        """For each product its chunks: tokens, summary, tokens of the summary."""
        return [self._summarize(text) for text in texts]

    def _summarize(self, text: str) -> list[tuple[list[int], str, int]]:
        rows = [self._tokenizer.encode(chunk) for chunk in self._chunks(text)]
        size = self._chunks_a_batch
        summaries: list[tuple[str, int]] = []
        for start in range(0, len(rows), size):
            summaries += self._generate(rows[start : start + size])
        return [(row, *summary) for row, summary in zip(rows, summaries, strict=True)]

    def _chunks(self, text: str) -> list[str]:
        words = text[: self._settings.max_chars].split()
        pieces = literal_pieces(words, self._settings.chunk_tokens, self._tokens_of)
        return [" ".join(piece) for piece in pieces]

    def _tokens_of(self, text: str) -> int:
        return len(self._plain_tokenizer(text, truncation=False)["input_ids"])

    def _generate(self, rows: list[list[int]]) -> list[tuple[str, int]]:
        import torch

        settings, longest = self._settings, max(map(len, rows))
        ids = torch.tensor([[*row, *[self._pad] * (longest - len(row))] for row in rows])
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids.to(self._device),
                attention_mask=(ids != self._pad).long().to(self._device),
                num_beams=settings.num_beams,
                max_length=settings.max_length,
                min_length=settings.min_length,
                length_penalty=settings.length_penalty,
                early_stopping=settings.early_stopping,
                do_sample=False,
            )
        special = {self._pad, self._model.config.eos_token_id}
        return [
            (self._tokenizer.decode(row), sum(token not in special for token in row))
            for row in output.tolist()
        ]
