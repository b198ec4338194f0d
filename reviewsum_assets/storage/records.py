"""Records with a checksum, and field types that keep hostile records in their folder.

A record may have been written by others: the names in it must not lead out of the folder that they
belong to, on the lake or on a local disk.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

_PART = "[A-Za-z0-9_][A-Za-z0-9_.+-]*"

# One part of a place; empty: there is no name yet.
PlaceName = Annotated[str, Field(pattern=f"^({_PART})?$")]
# A file below a folder.
FileName = Annotated[str, Field(pattern=f"^{_PART}(/{_PART})*$")]

Count = Annotated[int, Field(ge=0, le=2**53)]

_CHECKSUM = "checksum"
_DOCUMENT = re.compile(rb'(?P<body>.*),"checksum":"(?P<sha256>[0-9a-f]{64})"\}', re.DOTALL)
Record = TypeVar("Record", bound="SealedRecord")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class SealedRecord(BaseModel):
    """A record that ends with the SHA-256 of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_checksum(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if k != _CHECKSUM} if isinstance(data, dict) else data

    def sealed(self) -> bytes:
        """The document: JSON with its checksum as the last field."""
        body = self.model_dump_json(indent=1).encode().removesuffix(b"}").rstrip()
        return b'%s,"checksum":"%s"}' % (body, hashlib.sha256(body).hexdigest().encode())

    @classmethod
    def unsealed(cls: type[Record], content: bytes) -> Record:
        """The record of a document.

        Raises:
            ValueError: the content differs from what was written, or is of another kind.
        """
        found = _DOCUMENT.fullmatch(content)
        if found is None:
            raise ValueError("it is not what was written: its checksum is missing")
        if hashlib.sha256(found["body"]).hexdigest().encode() != found["sha256"]:
            raise ValueError("it is not what was written: its checksum differs")
        return cls.model_validate_json(content)
