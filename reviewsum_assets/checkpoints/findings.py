"""What a check finds: how many of how many, and the first few by name."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_EXAMPLES = 20


@dataclass
class Finding:
    """Products something is wrong with; ``examples`` are (product_id, what is wrong)."""

    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, count: int, examples: list[tuple[str, str]]) -> None:
        """Add what another part of the table holds."""
        self.count += count
        self.examples += examples[: MOST_EXAMPLES - len(self.examples)]

    def share(self, total: int) -> float:
        """Of so many; all of it, if there is something where nothing should be."""
        return self.count / max(1, total, self.count)
