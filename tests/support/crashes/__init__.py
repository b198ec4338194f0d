"""Kills the whole process tree at every write that commits something to a lake.

The writes are not listed anywhere: ``hooks/sitecustomize.py`` meets them as they happen, in every
Python process that has this folder on its path, so that a new one is covered without being named.
"""

from __future__ import annotations

from tests.support.crashes.drill import CrashDrill
from tests.support.crashes.warm_command import Ended, WarmCommand, WarmProcess

__all__ = ["CrashDrill", "Ended", "WarmCommand", "WarmProcess"]
