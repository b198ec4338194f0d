"""A workbench on a running emulator."""

from __future__ import annotations

import pytest

from tests.processing_emulator.workbench import Workbench
from tests.support.processing import ProcessingEmulator


@pytest.fixture
def bench(processing: ProcessingEmulator) -> Workbench:
    """Clients of a fresh emulator."""
    return Workbench(processing)
