"""A machine whose NVIDIA driver shows GPUs: a program that answers as ``nvidia-smi`` does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

A10G = "GPU-0a, NVIDIA A10G, 23028, 580.95.05"
L40S = "GPU-0b, NVIDIA L40S, 46068, 580.95.05"


def show_gpus(directory: Path, monkeypatch: pytest.MonkeyPatch, *rows: str) -> None:
    """Put the program on the path of this process and its children."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "nvidia-smi"
    answer = "\n".join(f"echo '{row}'" for row in rows)
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
