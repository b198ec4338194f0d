"""The result of an evaluation, as one object."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.evaluation.bootstrap import Interval
from reviewsum_assets.evaluation.candidates import Kind


class SystemResult(BaseModel):
    """One row of the tables; see ``rouge``, ``text_measures`` and ``sentiment`` for the measures.

    ``difference`` is that of ROUGE-L to the system that all are compared with.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Kind
    source: str
    rouge1: Interval
    rouge2: Interval
    rouge_l: Interval
    difference: Interval
    words: float
    compression: float
    novelty: float
    repetition: float
    sentiment_agreement: float | None


class EvaluationResult(BaseModel):
    """Everything that was measured in one call.

    ``left_out`` counts, by name, the references' products that reviews or a system lack: all
    systems are compared on the ``products`` that none lacks.
    """

    model_config = ConfigDict(frozen=True)

    references: str
    reviews: str
    products: int
    references_a_product: float
    left_out: dict[str, int]
    compared_with: str
    seed: int
    notes: tuple[str, ...]
    systems: tuple[SystemResult, ...]
