"""Reads a summary back into what it claims, so that claims can be held against the facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reviewsum_assets.demo.product_grammar import ASPECTS
from reviewsum_assets.demo.product_kinds import KINDS
from reviewsum_assets.demo.reference_summary import Facts


@dataclass(frozen=True)
class Claims:
    """What a summary says of a product, by the names of kind and aspects."""

    kind: str | None
    praised: frozenset[str]
    criticized: frozenset[str]


def claims_of(summary: str) -> Claims:
    """Find the kind of product and the praised and criticized aspects that a summary names."""
    return Claims(
        kind=next((kind.name for kind in KINDS if f"this {kind.name}" in summary), None),
        praised=frozenset(name for name, aspect in ASPECTS.items() if aspect.praise in summary),
        criticized=frozenset(
            name for name, aspect in ASPECTS.items() if aspect.complaint in summary
        ),
    )


@dataclass(frozen=True)
class Accuracy:
    """How well a set of summaries agrees with the facts of their chunks; each from 0 to 1.

    Precision is the share of claims that are facts; recall the share of what the reference
    summary says that the summary says too.
    """

    kind: float
    praise_precision: float
    complaint_precision: float
    recall: float


def accuracy(pairs: Iterable[tuple[str, Facts, str]]) -> Accuracy:
    """Score summaries, each given with its chunk's facts and its reference summary."""
    kinds = [0, 0]
    praise = [0, 0]
    complaint = [0, 0]
    recalled = [0, 0]
    for summary, facts, reference in pairs:
        claimed, wanted = claims_of(summary), claims_of(reference)
        _add(kinds, claimed.kind == wanted.kind, 1)
        _add(praise, len(claimed.praised & {*facts.praised}), len(claimed.praised))
        _add(complaint, len(claimed.criticized & {*facts.criticized}), len(claimed.criticized))
        hits = (claimed.praised & wanted.praised, claimed.criticized & wanted.criticized)
        _add(recalled, sum(map(len, hits)), len(wanted.praised) + len(wanted.criticized))
    return Accuracy(_share(kinds), _share(praise), _share(complaint), _share(recalled))


def _add(counts: list[int], hits: int, total: int) -> None:
    counts[0] += hits
    counts[1] += total


def _share(counts: list[int]) -> float:
    return counts[0] / counts[1] if counts[1] else 1.0
