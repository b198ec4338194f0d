"""Summarizes with too large batches in too little memory: `python -m ... ENGINE DIRECTORY TEXTS`.

Memory is limited once everything is loaded. Writes the summaries, and as the last line how many
batches did not fit.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import cast

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer
from reviewsum_assets.job.engines import EngineName, load_engine
from reviewsum_assets.job.summarizer import (
    CheckpointInput,
    ProductInput,
    Summarizer,
    chunk_checkpoint,
)
from reviewsum_assets.settings import SummarySettings
from tests.support.little_memory import limit_memory

SETTINGS = SummarySettings(max_length=12, min_length=4)
_SPARE_BYTES = 150_000_000
_BATCH_TOKENS = 1_000_000


class _Misfits(logging.Handler):
    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "out of memory" in record.getMessage()


def main(engine_name: str, directory: Path, texts: int) -> None:
    """See the module."""
    tokenizer = ChunkTokenizer.load(directory, "", SETTINGS.encoder_tokens)
    engine = load_engine(
        cast("EngineName", engine_name),
        directory,
        SETTINGS,
        device="cpu",
        dtype="float32",
        threads=1,
    )
    engine.generate([tokenizer.encode("good sound")])
    planned = PlannedCheckpoint(
        number=1, products=texts, data_version="", recipe="", plan_id="", input_sha256=""
    )
    products = (ProductInput(str(n), f"good sound {n} " * 150, 1, "") for n in range(texts))
    work = chunk_checkpoint(CheckpointInput(planned, tuple(products)), Chunker(tokenizer, SETTINGS))
    misfits = _Misfits()
    logging.getLogger("reviewsum.job").addHandler(misfits)
    limit_memory(_SPARE_BYTES)
    summarizer = Summarizer(engine, tokenizer, _BATCH_TOKENS, lambda *_: None)
    for done in summarizer.generate([work]):
        for row in summarizer.assemble(done).rows:
            sys.stdout.write(f"{row.product_id} {row.abstracted_summary}\n")
    sys.stdout.write(f"{misfits.count}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
