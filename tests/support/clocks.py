"""A host whose clock shows another time than that of the lake's store."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo


class FastClock(datetime):
    """Replaces ``datetime`` in a module of a host that is five days ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """Five days from now."""
        return datetime.now(tz) + timedelta(days=5)
