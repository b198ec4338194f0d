"""Wheels of a job on the lake: it installs from there, hash-checked, and asks no package index.

They are downloaded once for each set of pinned requirements and Python version, and stored under
``job_code/wheels/KEY/``. ``wheels.txt``, written last, has a line per wheel with its SHA-256; it is
a requirements file of pip, which the job's entry point follows.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from reviewsum_assets import places
from reviewsum_assets.compute.job_package import JobPackage
from reviewsum_assets.integrity import file_sha256
from reviewsum_assets.lake import Lake

_log = logging.getLogger(__name__)

WHEELS_FILE = "wheels.txt"
# Builds that run with glibc 2.35, which is that of Ubuntu 22.04 and of AWS's images.
_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(35, 4, -1)),
    *(f"manylinux{year}_x86_64" for year in (2014, 2010, 1)),
    "linux_x86_64",
)
_DOWNLOAD_SECONDS = 1800.0


@dataclass(frozen=True)
class JobWheels:
    """The wheels of a package's requirements for one version of Python, such as 3.12."""

    requirements: bytes
    python: str

    @classmethod
    def of(cls, package: JobPackage, python: str) -> JobWheels:
        """The wheels that a package needs."""
        return cls(package.requirements, python)

    @property
    def prefix(self) -> str:
        """Where they lie on the lake; the same for equal requirements."""
        content = "\n".join((self.python, *_PLATFORMS, self.requirements.decode()))
        return f"{places.JOB_CODE}/wheels/{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    @property
    def _listing_key(self) -> str:
        return f"{self.prefix}/{WHEELS_FILE}"

    def are_stored(self, lake: Lake) -> bool:
        """Whether all of them are on the lake."""
        listing = lake.get(self._listing_key)
        if listing is None:
            return False
        present = {item.key.rpartition("/")[2] for item in lake.list(self.prefix)}
        return present.issuperset(name for name, _ in read_wheels(listing.decode()))

    def ensure_stored(self, lake: Lake) -> str:
        """Download and store them unless they are there; returns why that failed, or nothing.

        Raises:
            LakeError: the lake cannot be written.
        """
        if self.are_stored(lake):
            # Young, so that nothing prunes what a job is about to read.
            lake.put(self._listing_key, lake.get(self._listing_key) or b"")
            return ""
        with tempfile.TemporaryDirectory(prefix="reviewsum-wheels-") as scratch:
            problem = self._download(Path(scratch))
            if problem:
                return problem
            found = sorted(Path(scratch).glob("*.whl"))
            _log.info("storing %d wheels at %s", len(found), lake.uri_of(self.prefix))
            for wheel in found:
                lake.put_file(f"{self.prefix}/{wheel.name}", wheel)
            lines = [f"./{wheel.name} --hash=sha256:{file_sha256(wheel)}\n" for wheel in found]
        lake.put(self._listing_key, "".join(lines).encode())
        return ""

    def _download(self, directory: Path) -> str:
        """Have pip download them; returns the last line of its error, or nothing."""
        _log.info("downloading the job's packages for Python %s", self.python)
        (directory / "requirements.txt").write_bytes(self.requirements)
        platforms = [option for name in _PLATFORMS for option in ("--platform", name)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation", "cp"]
        command += ["--python-version", self.python, *platforms]
        command += ["--dest", str(directory), "--requirement", str(directory / "requirements.txt")]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if not done.returncode:
            return ""
        lines = done.stderr.splitlines() or [f"pip ended with code {done.returncode}"]
        return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])


def read_wheels(listing: str) -> list[tuple[str, str]]:
    """File name and SHA-256 of each wheel that a ``wheels.txt`` names."""
    lines = (line.partition(" --hash=sha256:") for line in listing.splitlines() if line.strip())
    return [(name.removeprefix("./"), digest) for name, _, digest in lines]
