"""Ships this package to the container: one archive, its entry point, pinned requirements, wheels.

Equal code gives equal bytes, and so the same place on the lake: it is uploaded once, and its hash
is part of a job's name.
"""

from __future__ import annotations

import hashlib
import io
import logging
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import reviewsum_assets
from reviewsum_assets.errors import JobError
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import file_sha256

ENTRY_POINT = "run_processing.py"
WHEELS_FILE = "wheels.txt"
_REQUIREMENTS = "requirements.txt"

# The job's imports that the image lacks or has in other versions, and their own requirements: no
# version is chosen on the day of the job. PyTorch, transformers, accelerate and NumPy are the
# image's, which fit its CUDA and each other, and so is requests, which no job imports.
_NEEDED = (
    "annotated-types",
    "ctranslate2",
    "dagster-pipes",
    "obstore",
    "polars",
    "polars-runtime-32",
    "protobuf",
    "psutil",
    "pydantic",
    "pydantic-core",
    "pydantic-settings",
    "python-dotenv",
    "pyyaml",
    "safetensors",
    "sentencepiece",
    "snowballstemmer",
    "typing-extensions",
    "typing-inspection",
    "vaderSentiment",
)
# cuBLAS for CTranslate2 in images whose CUDA is newer.
CUBLAS_12 = "nvidia-cublas-cu12==12.9.1.4"
# Builds that run with glibc 2.35, which Ubuntu 22.04 and AWS's images have.
_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(35, 4, -1)),
    *(f"manylinux{year}_x86_64" for year in (2014, 2010, 1)),
    "linux_x86_64",
)
_DOWNLOAD_SECONDS = 1800.0
_OLDEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobPackage:
    """The files that a container gets at ``/opt/ml/processing/input/code``, by name."""

    files: dict[str, bytes]

    @property
    def requirements(self) -> bytes:
        """The pinned requirements; empty if the image has them all."""
        return self.files.get(_REQUIREMENTS, b"")

    @property
    def version(self) -> str:
        """Hash of all files."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:12]

    @property
    def prefix(self) -> str:
        """Prefix of the files on the lake."""
        return f"{places.JOB_CODE}/{self.version}"


def build_package(*, installs: bool = True, cuda: str = "12") -> JobPackage:
    """Build the package from the code imported here, pinned to the libraries installed here.

    Args:
        installs: Whether the job installs anything, or the image has it all.
        cuda: Major version of the image's CUDA; empty if unknown.
    """
    root = Path(reviewsum_assets.__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(root.rglob("*.py")):
            entry = zipfile.ZipInfo(path.relative_to(root.parent).as_posix(), _OLDEST_ZIP_DATE)
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    files = {
        "reviewsum_assets.zip": buffer.getvalue(),
        ENTRY_POINT: (root / "job" / ENTRY_POINT).read_bytes(),
    }
    if installs:
        pins = [f"{name}=={version(name)}" for name in _NEEDED]
        pins += [CUBLAS_12] if cuda == "13" else []
        files[_REQUIREMENTS] = "".join(f"{pin}\n" for pin in pins).encode()
    return JobPackage(files)


def publish(lake: Lake, package: JobPackage) -> None:
    """Put the files on the lake unless they are there.

    Raises:
        JobError: Another content is there, which jobs would run.
    """
    for name, content in package.files.items():
        key = f"{package.prefix}/{name}"
        if lake.create(key, content):
            continue
        if lake.get(key) != content:
            raise JobError(
                f"{lake.uri_of(key)} is not the file that belongs there, and jobs would run it: "
                "find out who has changed it, then remove it"
            )
        lake.put(key, content)  # young, so that prune does not remove it before the job reads it


def write(package: JobPackage, directory: Path) -> None:
    """Write the files to a directory, for jobs that are started by other means."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in package.files.items():
        (directory / name).write_bytes(content)


@dataclass(frozen=True)
class JobWheels:
    """The wheels of a package's requirements for one version of Python, such as 3.12."""

    requirements: bytes
    python: str

    @property
    def prefix(self) -> str:
        """Prefix of the wheels on the lake; the same for equal requirements."""
        content = "\n".join((self.python, *_PLATFORMS, self.requirements.decode()))
        return f"{places.JOB_CODE}/wheels/{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def are_stored(self, lake: Lake) -> bool:
        """Whether all of them are on the lake."""
        listing = lake.get(f"{self.prefix}/{WHEELS_FILE}")
        if listing is None:
            return False
        present = {item.key.rpartition("/")[2] for item in lake.list(self.prefix)}
        return present.issuperset(name for name, _ in read_wheels(listing.decode()))

    def ensure_stored(self, lake: Lake) -> str:
        """Download and store them unless they are there; return why that failed, or nothing.

        Raises:
            LakeError: The lake cannot be written.
        """
        key = f"{self.prefix}/{WHEELS_FILE}"
        if self.are_stored(lake):
            lake.put(key, lake.get(key) or b"")  # young, as published files are
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
        lake.put(key, "".join(lines).encode())
        return ""

    def _download(self, directory: Path) -> str:
        """Download them with pip; return the last line of its error, or nothing."""
        _log.info("downloading the job's packages for Python %s", self.python)
        requirements = directory / _REQUIREMENTS
        requirements.write_bytes(self.requirements)
        platforms = [option for name in _PLATFORMS for option in ("--platform", name)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation", "cp"]
        command += ["--python-version", self.python, *platforms]
        command += ["--dest", str(directory), "--requirement", str(requirements)]
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
    """Return file name and SHA-256 of each wheel that a ``wheels.txt`` names."""
    lines = (line.partition(" --hash=sha256:") for line in listing.splitlines() if line.strip())
    return [(name.removeprefix("./"), digest) for name, _, digest in lines]
