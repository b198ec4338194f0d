"""A container image's Python that lacks most of what a job needs, with no network of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

# What AWS's images bring, of what a job with a converted model imports.
_PACKAGES = ("pip", "numpy", "tokenizers", "huggingface_hub")
# No configuration of this machine, and an index where nothing listens.
CLOSED_INDEX = {
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_RETRIES": "0",
}


def bare_image(directory: Path) -> str:
    """Make a virtual environment that has those packages of this one; returns its interpreter."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True, timeout=120
    )
    ours = Path(sysconfig.get_path("purelib"))
    (theirs,) = directory.glob("lib/python3*/site-packages")
    for name in _PACKAGES:
        for found in (*ours.glob(name), *ours.glob(f"{name}.libs"), *ours.glob(f"{name}-*")):
            (theirs / found.name).symlink_to(found)
    return str(directory / "bin" / "python3")
