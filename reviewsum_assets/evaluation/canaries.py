"""Which workers say something else of the canary texts than the reference, and what they ran on."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from reviewsum_assets.checkpoints.manifest import Manifest, Producer, read_reference
from reviewsum_assets.evaluation.measures import Rouge
from reviewsum_assets.storage.lake import Lake

# What a worker runs on; its job, host and the model's version decide nothing or are the same.
_PLACE = ("engine", "device", "dtype", "instance_type")


@dataclass(frozen=True)
class Drift:
    """Checkpoints of workers that say the same, and not what the reference says.

    ``rouge_l`` is the mean F1 of all ``texts`` that both summarized, equal ones included;
    ``expected`` and ``found`` are the summaries of the first text that differ.
    """

    checkpoints: int
    producer: Producer
    reference: Producer
    differing: int
    texts: int
    rouge_l: float
    expected: str
    found: str

    @property
    def place(self) -> str:
        """``ctranslate2, cuda (NVIDIA A10G), bfloat16, ml.g5.12xlarge``."""
        return ", ".join(getattr(self.producer, name) for name in _PLACE)

    @property
    def changes(self) -> str:
        """What else these workers ran on than the reference; versions by library."""
        before, now = _facts(self.reference), _facts(self.producer)
        changed = [
            f"{name} {now.get(name, 'none')}, was {before.get(name, 'none')}"
            for name in dict.fromkeys([*before, *now])
            if now.get(name) != before.get(name)
        ]
        return "; ".join(changed) or "same engine, device and library versions"


@dataclass
class CanaryComparison:
    """Collects checkpoints, and holds what their workers said against the references.

    ``compared`` counts checkpoints; ``silent`` those without canary summaries or reference.
    """

    lake: Lake
    compared: int = 0
    silent: int = 0
    _references: dict[str, Producer | None] = field(default_factory=dict)
    _different: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, recipe_key: str, manifest: Manifest) -> None:
        """Add one checkpoint."""
        if recipe_key not in self._references:
            self._references[recipe_key] = read_reference(self.lake, recipe_key)
        producer, reference = manifest.producer, self._references[recipe_key]
        pairs = [] if reference is None else list(_pairs(reference, producer))
        if not pairs:
            self.silent += 1
            return
        self.compared += 1
        if any(expected != found for expected, found in pairs):
            said = producer.model_copy(update={"job_name": "", "host": ""})
            self._different[recipe_key, said.model_dump_json()] += 1

    def drifts(self) -> list[Drift]:
        """Those that differ, the farthest off first."""
        if not self._different:
            return []
        rouge = Rouge()
        found = []
        for (recipe_key, content), checkpoints in self._different.items():
            producer = Producer.model_validate_json(content)
            reference = self._references[recipe_key]
            assert reference is not None  # there is nothing to differ from otherwise
            pairs = list(_pairs(reference, producer))
            differing = [pair for pair in pairs if pair[0] != pair[1]]
            found.append(
                Drift(
                    checkpoints=checkpoints,
                    producer=producer,
                    reference=reference,
                    differing=len(differing),
                    texts=len(pairs),
                    rouge_l=statistics.fmean(rouge.similarity(*pair) for pair in pairs),
                    expected=differing[0][0],
                    found=differing[0][1],
                )
            )
        return sorted(found, key=lambda drift: drift.rouge_l)


def _pairs(reference: Producer, producer: Producer) -> Iterator[tuple[str, str]]:
    """Expected and found summaries of the texts that both have."""
    for text, expected in reference.canary_summaries.items():
        if text in producer.canary_summaries:
            yield expected, producer.canary_summaries[text]


def _facts(producer: Producer) -> dict[str, str]:
    return {
        **{name: str(getattr(producer, name)) for name in _PLACE},
        **producer.package_versions,
    }
