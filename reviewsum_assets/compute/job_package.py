"""Ships this package to the container: one archive, its entry point and pinned requirements.

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
_ARCHIVE = "reviewsum_assets.zip"
_REQUIREMENTS = "requirements.txt"

# What the job imports and the image lacks or has in other versions, and what that needs in turn:
# nothing is left for the day of the job to choose. PyTorch, transformers, accelerate and NumPy are
# the image's, which fit its CUDA and each other.
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
    "typing-extensions",
    "typing-inspection",
)
_OLDEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


# cuBLAS for CTranslate2 in images whose CUDA is newer.
CUBLAS_12 = "nvidia-cublas-cu12==12.9.1.4"


@dataclass(frozen=True)
class JobPackage:
    """The files a container gets at ``/opt/ml/processing/input/code``, by name."""

    files: dict[str, bytes]

    @property
    def requirements(self) -> bytes:
        """What the job installs; nothing if the image has it all."""
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
        """Where the files lie on the lake."""
        return f"{places.JOB_CODE}/{self.version}"


def build_package(*, installs: bool = True, cuda: str = "12") -> JobPackage:
    """The package as it is imported here, pinned to the libraries that are installed here.

    Args:
        installs: whether the job installs anything, or the image has it all.
        cuda: major version of the image's CUDA; empty if unknown.
    """
    root = Path(reviewsum_assets.__file__).parent
    files = {
        _ARCHIVE: _archive(root),
        ENTRY_POINT: (root / "job" / ENTRY_POINT).read_bytes(),
    }
    if installs:
        files[_REQUIREMENTS] = _requirements(cuda)
    return JobPackage(files)


def publish(lake: Lake, package: JobPackage) -> None:
    """Put the files on the lake, where they are not there already.

    Raises:
        JobError: something else lies there, which jobs would run.
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
        lake.put(key, content)  # young, so that nothing prunes what a job is about to read


def write(package: JobPackage, directory: Path) -> None:
    """Write the files to a directory, for those who start jobs by other means."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in package.files.items():
        (directory / name).write_bytes(content)


def _archive(root: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root.parent).as_posix()
            entry = zipfile.ZipInfo(name, _OLDEST_ZIP_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def _requirements(cuda: str) -> bytes:
    pins = [f"{name}=={version(name)}" for name in _NEEDED]
    if cuda == "13":
        pins.append(CUBLAS_12)
    return "".join(f"{pin}\n" for pin in pins).encode()


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
