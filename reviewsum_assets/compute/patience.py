"""Bears errors that pass by themselves, for a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)


class Patience:
    """Swallows errors of a kind until nothing has succeeded for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    @contextmanager
    def with_errors_of(self, kind: type[Exception]) -> Iterator[None]:
        """Run a block; an error of ``kind`` is logged, or raised when patience is at its end."""
        try:
            yield
        except kind as error:
            now = time.monotonic()
            self._since = now if self._since is None else self._since
            if now - self._since > self._seconds:
                raise
            _log.warning("trying again: %s", error)
        else:
            self._since = None
