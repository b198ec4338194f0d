"""How fast checkpoints were computed so far, from their manifests: what the next ones will take.

A manifest's timings are seconds of the one worker that computed it, so the figures here are too.
Chunks whose summary was reused cost nothing and do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reviewsum_assets.checkpoints.manifest import Manifest, Producer
from reviewsum_assets.checkpoints.validity import finished_numbers
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

# Enough for a steady mean, and read in well under a second from S3 too.
_NEWEST_MANIFESTS = 50


@dataclass(frozen=True)
class Workplace:
    """What a worker's speed depends on; ``device`` is ``cpu`` or ``cuda``.

    ``engine`` is the one that is chosen: where it fails, another one sets the pace each time.
    """

    instance_type: str
    device: str
    engine: str
    dtype: str  # auto: whatever the newest checkpoint was computed with
    model_version: str

    def made(self, producer: Producer) -> bool:
        """Whether a checkpoint was computed at a workplace like this."""
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
    """Seconds a worker needs for one thing: mean, and standard deviation among checkpoints."""

    mean: float
    spread: float


@dataclass(frozen=True)
class Calibration:
    """What the finished checkpoints of one workplace say."""

    checkpoints: int
    per_chunk: Rate
    per_token: Rate
    tokens_out_per_chunk: float
    load_seconds: float


@dataclass(frozen=True)
class _Sample:
    """One checkpoint's work, without what was reused."""

    seconds: float
    chunks: float
    tokens: float


def calibrate(lake: Lake, workplace: Workplace) -> Calibration | None:
    """Learn from the newest checkpoints of a workplace; None if there are none."""
    manifests = [m for m in _newest_manifests(lake) if workplace.made(m.producer)]
    manifests = [m for m in manifests if m.producer.dtype == manifests[0].producer.dtype]
    done = [(manifest, sample) for manifest in manifests if (sample := _sample(manifest)).chunks]
    if not done:
        return None
    samples = [sample for _, sample in done]
    return Calibration(
        checkpoints=len(done),
        per_chunk=_rate(samples, [sample.chunks for sample in samples]),
        per_token=_rate(samples, [sample.tokens for sample in samples]),
        tokens_out_per_chunk=sum(m.tokens_out for m, _ in done) / sum(m.chunks for m, _ in done),
        load_seconds=sum(m.timings.load for m, _ in done) / len(done),
    )


def _newest_manifests(lake: Lake) -> Iterator[Manifest]:
    """The readable ones among the manifests with the highest numbers, highest first."""
    numbers = finished_numbers(lake)[: -_NEWEST_MANIFESTS - 1 : -1]
    for content in lake.get_many([places.checkpoint_manifest(number) for number in numbers]):
        try:
            yield Manifest.unsealed(content or b"")
        except ValueError:
            continue  # it is invalid, and computed again before long


def _sample(manifest: Manifest) -> _Sample:
    computed = [p for p in manifest.products if p.chunks]
    fresh = [(p, p.chunks - p.chunks_reused) for p in computed]
    return _Sample(
        seconds=manifest.worker_seconds,
        chunks=sum(chunks for _, chunks in fresh),
        tokens=sum(p.tokens_in * chunks / p.chunks for p, chunks in fresh),
    )


def _rate(samples: Sequence[_Sample], units: Sequence[float]) -> Rate:
    """Mean and spread of seconds a unit, weighted by units: small checkpoints say little."""
    total = sum(units)
    mean = sum(sample.seconds for sample in samples) / total
    if len(samples) == 1:
        return Rate(mean, 0.0)
    squares = sum(
        unit * (sample.seconds / unit - mean) ** 2
        for sample, unit in zip(samples, units, strict=True)
    )
    return Rate(mean, math.sqrt(squares / total * len(samples) / (len(samples) - 1)))
