"""Whatever is scored: a system's summaries, a baseline's, or people's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["summaries", "baseline", "bound"]


@dataclass(frozen=True)
class Candidate:
    """Texts by product: one each, but of people all that they wrote.

    ``kind`` tells summaries from baselines and from bounds, which know the references. With
    ``leaves_itself_out`` each text is one of the references, and scored against the others.
    """

    name: str
    kind: Kind
    texts: Mapping[str, tuple[str, ...]]
    source: str = ""
    leaves_itself_out: bool = False
