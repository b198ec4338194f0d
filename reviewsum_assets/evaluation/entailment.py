"""Words of a text that its reviews do not entail, by a token classifier of LettuceDetect.

The classifier marks the spans of a text that its context does not support (Kovács and Recski 2025,
arXiv:2502.17125). The context are the product's reviews, the first ones, as far as they fit into
the model's window: if there are more, a sentence that another review supports may be marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.storage.tables import first_line

# The published models are trained with contexts of this length.
_MOST_TOKENS = 4_096
# For the instruction around the reviews.
_RESERVED_TOKENS = 32


@dataclass(frozen=True)
class EntailmentModel:
    """A loaded model, its tokenizer, and the tokens of its window."""

    detector: Any
    tokenizer: Any
    window: int

    @classmethod
    def load(cls, directory: Path) -> EntailmentModel:
        """Load a model directory as the Hugging Face hub has it.

        Raises:
            EvaluationError: LettuceDetect is not installed, or the directory has no such model.
        """
        try:
            from lettucedetect.models.inference import HallucinationDetector
        except ImportError as error:
            raise EvaluationError(
                "an entailment model needs LettuceDetect. To install it: "
                "pip install 'reviewsum_assets[entailment]'"
            ) from error
        from transformers import AutoTokenizer

        path = str(directory)
        try:
            window = _window(directory)
            detector = HallucinationDetector("transformer", model_path=path, max_length=window)
            return cls(detector, AutoTokenizer.from_pretrained(path), window)
        except (OSError, ValueError) as error:
            raise EvaluationError(
                f"entailment model {directory} cannot be loaded: {first_line(error)}. To fix: name "
                "a directory with a token classifier of LettuceDetect"
            ) from error

    def unsupported_share(self, text: str, reviews: Sequence[str]) -> float:
        """The share of words that are marked at least in part; 0 for a text without words."""
        words = [match.span() for match in re.finditer(r"\S+", text)]
        if not words:
            return 0.0
        context = list(self._context(text, reviews))
        found = self.detector.predict(context=context, answer=text, output_format="spans")
        spans = [(span["start"], span["end"]) for span in found]
        marked = [any(s < end and start < e for s, e in spans) for start, end in words]
        return sum(marked) / len(words)

    def _context(self, text: str, reviews: Sequence[str]) -> Iterator[str]:
        """The first reviews that fit into the window beside the text, at least one."""
        left = self.window - _RESERVED_TOKENS - self._tokens(text)
        for number, review in enumerate(reviews):
            left -= self._tokens(f"passage {number + 1}: {review}\n")
            if left < 0 and number:
                return
            yield review

    def _tokens(self, text: str) -> int:
        return len(self.tokenizer(text)["input_ids"])


def _window(directory: Path) -> int:
    """The tokens that the classifier of a directory reads at once.

    Raises:
        ValueError: there is none, or it is no token classifier.
    """
    from transformers import AutoConfig

    if not directory.is_dir():  # a name would be downloaded
        raise ValueError("there is no such directory")
    config = AutoConfig.from_pretrained(str(directory))
    kinds = config.architectures or ["a model of unknown kind"]
    if not any(kind.endswith("ForTokenClassification") for kind in kinds):
        # It would get a classifier with random weights.
        raise ValueError(f"it has {', '.join(kinds)}, which classifies no tokens")
    return min(_MOST_TOKENS, int(config.max_position_embeddings))
