"""Detects workers whose canary summaries differ from the reference, and names their platform."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field

from reviewsum_assets.checkpoints.manifest import Manifest, Producer, read_reference
from reviewsum_assets.evaluation.measures import similarity
from reviewsum_assets.storage.lake import Lake

# Fields that can change a summary: job and host cannot, and the model version is the same.
_PLATFORM = ("engine", "device", "dtype", "instance_type")


@dataclass(frozen=True)
class Drift:
    """Checkpoints of workers that agree with each other and differ from the reference.

    ``place`` is the platform, as in ``ctranslate2, cuda (NVIDIA A10G), bfloat16, ml.g5.12xlarge``,
    and ``changes`` its difference from the reference's, with library versions. ``rouge_l`` is the
    mean F1 over all ``texts`` that both summarized; ``expected`` and ``found`` are the summaries of
    the first of the ``differing`` ones.
    """

    checkpoints: int
    place: str
    changes: str
    differing: int
    texts: int
    rouge_l: float
    expected: str
    found: str


@dataclass
class CanaryComparison:
    """Compares the canary summaries of checkpoints with the references.

    ``compared`` counts checkpoints; ``silent`` those without canary summaries or reference.
    """

    lake: Lake
    compared: int = 0
    silent: int = 0
    _references: dict[str, Producer | None] = field(default_factory=dict)
    _different: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, recipe_key: str, manifest: Manifest) -> None:
        """Compare one checkpoint."""
        if recipe_key not in self._references:
            self._references[recipe_key] = read_reference(self.lake, recipe_key)
        pairs = _pairs(self._references[recipe_key], manifest.producer)
        if not pairs:
            self.silent += 1
            return
        self.compared += 1
        if any(expected != found for expected, found in pairs):
            platform = manifest.producer.model_copy(update={"job_name": "", "host": ""})
            self._different[recipe_key, platform.model_dump_json()] += 1

    def drifts(self) -> list[Drift]:
        """Return the drifts, least similar first."""
        drifts = []
        for (recipe_key, content), checkpoints in self._different.items():
            producer = Producer.model_validate_json(content)
            reference = self._references[recipe_key]
            assert reference is not None  # without a reference nothing can differ
            pairs = _pairs(reference, producer)
            differing = [pair for pair in pairs if pair[0] != pair[1]]
            drifts.append(
                Drift(
                    checkpoints=checkpoints,
                    place=", ".join(getattr(producer, name) for name in _PLATFORM),
                    changes=_changes(_facts(reference), _facts(producer)),
                    differing=len(differing),
                    texts=len(pairs),
                    rouge_l=statistics.fmean(similarity(*pair) for pair in pairs),
                    expected=differing[0][0],
                    found=differing[0][1],
                )
            )
        return sorted(drifts, key=lambda drift: drift.rouge_l)


def _pairs(reference: Producer | None, producer: Producer) -> list[tuple[str, str]]:
    """Expected and found summaries of the texts that both summarized."""
    expected = {} if reference is None else reference.canary_summaries
    found = producer.canary_summaries
    return [(expected[text], found[text]) for text in expected if text in found]


def _facts(producer: Producer) -> dict[str, str]:
    return {name: getattr(producer, name) for name in _PLATFORM} | producer.package_versions


def _changes(before: dict[str, str], now: dict[str, str]) -> str:
    changed = [
        f"{name} {now.get(name, 'none')}, was {before.get(name, 'none')}"
        for name in before | now
        if now.get(name) != before.get(name)
    ]
    return "; ".join(changed) or "same engine, device and library versions"
