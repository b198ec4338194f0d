"""Read by every Python process that has this folder on its path, before anything else.

Once the process imports the lake, it takes part in the drill that ``CRASH_DRILL`` names.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_LAKE = "reviewsum_assets.storage.lake"


class _LakeFinder(importlib.abc.MetaPathFinder):
    """Finds the lake's module as usual, and puts the drill's hooks in once it is loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        if name != _LAKE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def load_and_hook(module: ModuleType) -> None:
            load(module)
            from tests.support.crashes.boundaries import take_part

            take_part(os.environ["CRASH_DRILL"])

        spec.loader.exec_module = load_and_hook  # type: ignore[method-assign]
        return spec


def join_drill() -> None:
    """Take part in the drill that the environment names, if it names one."""
    if "CRASH_DRILL" in os.environ:
        sys.meta_path.insert(0, _LakeFinder())


join_drill()
