"""Ships this package to the container: one archive, its entry point and pinned requirements.

Equal code gives equal bytes, and so the same place on the lake: it is uploaded once, and its hash
is part of a job's name.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import reviewsum_assets
from reviewsum_assets import places
from reviewsum_assets.errors import JobError
from reviewsum_assets.lake import Lake

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
