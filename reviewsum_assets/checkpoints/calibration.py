"""Measured speed of finished checkpoints, from which the cost of the next ones is estimated.

Timings are seconds of the one worker that computed a checkpoint. Chunks with a reused summary cost
nothing and do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reviewsum_assets.checkpoints.manifest import Manifest, Producer
from reviewsum_assets.checkpoints.validity import finished_numbers
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

# Enough for a steady mean; read in less than a second, from S3 too.
_NEWEST_MANIFESTS = 50


@dataclass(frozen=True)
class Workplace:
    """The conditions that decide the speed of a worker."""

    instance_type: str
    device: str  # cpu or cuda
    engine: str  # the chosen one, even if it fails on this device and another takes over
    dtype: str  # auto: that of the newest checkpoint
    model_version: str

    def made(self, producer: Producer) -> bool:
        """Whether a checkpoint was computed under these conditions."""
        asked = (self.instance_type, self.device, self.engine, self.model_version)
        found = (
            producer.instance_type,
            producer.device.partition(" ")[0],
            producer.failed_engine or producer.engine,
            producer.model_version,
        )
        return asked == found and self.dtype in ("auto", producer.dtype)


@dataclass(frozen=True)
class Rate:
    """Seconds of a worker per unit: mean, and standard deviation among checkpoints."""

    mean: float
    spread: float


@dataclass(frozen=True)
class Calibration:
    """Measurements of the finished checkpoints of a workplace."""

    checkpoints: int
    per_chunk: Rate
    per_token: Rate
    tokens_out_per_chunk: float
    load_seconds: float


def calibrate(lake: Lake, workplace: Workplace) -> Calibration | None:
    """Measure the newest checkpoints of a workplace; None if there are none."""
    manifests = [m for m in _newest_manifests(lake) if workplace.made(m.producer)]
    manifests = [m for m in manifests if m.producer.dtype == manifests[0].producer.dtype]
    done = [(m, *_fresh(m)) for m in manifests if m.chunks > m.chunks_reused]
    if not done:
        return None
    seconds = [manifest.worker_seconds for manifest, _, _ in done]
    return Calibration(
        checkpoints=len(done),
        per_chunk=_rate(seconds, [chunks for _, chunks, _ in done]),
        per_token=_rate(seconds, [tokens for _, _, tokens in done]),
        tokens_out_per_chunk=sum(m.tokens_out for m, *_ in done) / sum(m.chunks for m, *_ in done),
        load_seconds=sum(m.timings.load for m, *_ in done) / len(done),
    )


def _newest_manifests(lake: Lake) -> Iterator[Manifest]:
    """The readable manifests among those with the highest numbers, highest first."""
    numbers = finished_numbers(lake)[: -_NEWEST_MANIFESTS - 1 : -1]
    for content in lake.get_many([places.checkpoint_manifest(number) for number in numbers]):
        try:
            yield Manifest.unsealed(content or b"")
        except ValueError:
            continue  # an invalid checkpoint is computed again


def _fresh(manifest: Manifest) -> tuple[float, float]:
    """Chunks and tokens of a checkpoint without the reused ones."""
    fresh = [(p, p.chunks - p.chunks_reused) for p in manifest.products if p.chunks]
    tokens = sum(p.tokens_in * chunks / p.chunks for p, chunks in fresh)
    return sum(chunks for _, chunks in fresh), tokens


def _rate(seconds: Sequence[float], units: Sequence[float]) -> Rate:
    """Mean and spread of seconds per unit, weighted by units."""
    total = sum(units)
    mean = sum(seconds) / total
    if len(units) == 1:
        return Rate(mean, 0.0)
    squares = sum(n * (s / n - mean) ** 2 for s, n in zip(seconds, units, strict=True))
    return Rate(mean, math.sqrt(squares / total * len(units) / (len(units) - 1)))
