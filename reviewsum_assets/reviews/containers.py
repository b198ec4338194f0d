"""What a dump is wrapped in: compression, archives, and encodings other than UTF-8.

All readers see unpacked UTF-8, however the file was stored.
"""

from __future__ import annotations

import bz2
import codecs
import errno
import gzip
import io
import lzma
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, cast

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.dumps import UNREADABLE_ZIP, Dump, is_dump_name
from reviewsum_assets.reviews.rows import MOST_ROW_LENGTH

_PIECE_BYTES = 64 * 1024
_ZIP_MAGIC = b"PK\x03\x04"
_EMPTY_ZIP_MAGIC = b"PK\x05\x06"

# Errors of damage beside those of the standard library's file types.
_Opened = tuple[object, tuple[type[Exception], ...]]


def _open_zstd(raw: IO[bytes]) -> _Opened:
    """Open zstd; the package is not installed where a job reads reviews itself."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise DumpError(
            "a dump is compressed by zstd, which needs the package backports.zstd. To fix: install "
            "it, or compress by gzip"
        ) from error
    return zstd.ZstdFile(raw), (zstd.ZstdError,)


_COMPRESSIONS: tuple[tuple[str, bytes, Callable[[IO[bytes]], _Opened]], ...] = (
    ("gzip", b"\x1f\x8b", lambda raw: (gzip.GzipFile(fileobj=raw), (zlib.error,))),
    ("bzip2", b"BZh", lambda raw: (bz2.BZ2File(raw), ())),
    ("xz", b"\xfd7zXZ\0", lambda raw: (lzma.LZMAFile(raw), (lzma.LZMAError,))),  # noqa: SIM115  # ends with raw
    ("zstd", b"\x28\xb5\x2f\xfd", _open_zstd),
)
_UNPACK = "unpack it and use the files inside"
_SAVE_AS_CSV = "save it as CSV"
_EXPORT = "export it as CSV, JSON lines or Parquet"
_REFUSED = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed by lz4", "unpack it, or compress it by gzip or zstd"),
    (b"\x1f\x9d", "compressed by compress (.Z)", "unpack it, or compress it by gzip or zstd"),
    (b"\xff\x06\0\0sNaPpY", "compressed by snappy", "unpack it, or compress it by gzip or zstd"),
    (b"\xd0\xcf\x11\xe0", "an Excel 97 workbook", _SAVE_AS_CSV),
    (b"ORC", "an ORC file", _EXPORT),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"ARROW1", "an Arrow (Feather) file", _EXPORT),
    (b"PARE", "an encrypted Parquet file", "write it without encryption"),
    (b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"\x80\x02", "a Python pickle", _EXPORT),
    (b"\x80\x03", "a Python pickle", _EXPORT),
    (b"\x80\x04", "a Python pickle", _EXPORT),
    (b"\x80\x05", "a Python pickle", _EXPORT),
    (b"%PDF", "a PDF file", _EXPORT),
)
_TAR_MAGIC, _TAR_AT = b"ustar", 257
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class DamagedError(Exception):
    """A compressed stream is truncated or otherwise damaged."""


@dataclass(frozen=True)
class Container:
    """How to come from a dump's bytes to its text."""

    compression: str = ""
    encoding: str = "utf-8"
    byte_order_mark: bytes = b""
    ends_by_return: bool = False  # lines end with CR alone

    def __str__(self) -> str:
        parts = [self.compression, "" if self.encoding == "utf-8" else self.encoding[:6].upper()]
        return "".join(f", {part}" for part in parts if part)

    def open(self, raw: IO[bytes]) -> IO[bytes]:
        """Return the text as UTF-8, without byte order mark, with line ends that have LF.

        The result raises ``DamagedError`` where the compressed stream is damaged.
        """
        unpacked = _unpacked(raw, self.compression)
        read_until_damage(unpacked, len(self.byte_order_mark))
        if self.encoding != "utf-8":
            decoder = codecs.getincrementaldecoder(self.encoding)(errors="replace")
            unpacked = _mapped(unpacked, lambda piece: decoder.decode(piece, not piece).encode())
        if self.ends_by_return:
            unpacked = _mapped(unpacked, lambda piece: piece.replace(b"\r", b"\n"))
        return unpacked


def detect_container(raw: IO[bytes], name: str, head_bytes: int) -> tuple[Container, bytes, str]:
    """Return the container, the first bytes of its text, and the damage within them.

    At least the first line is read, unless it is too long for a row.

    Raises:
        DumpError: it is a container that cannot be read.
    """
    start, _ = read_until_damage(_unpacked(raw, ""), _TAR_AT + len(_TAR_MAGIC))
    raw.seek(0)
    _refuse(start, name)
    compression = next((n for n, magic, _ in _COMPRESSIONS if start.startswith(magic)), "")
    unpacked = _unpacked(raw, compression)
    head, damage = read_until_damage(unpacked, head_bytes)
    while len(head) < MOST_ROW_LENGTH and not damage and not _is_enough(head):
        more, damage = read_until_damage(unpacked, len(head))
        if not more:
            break
        head += more
    if compression:
        _refuse(head, name)
        if any(head.startswith(magic) for _, magic, _ in _COMPRESSIONS) or is_zip(head):
            raise DumpError(f"dump {name} is compressed twice. To fix: unpack it once")
        if head.startswith(b"PAR1"):
            raise DumpError(f"dump {name} is a Parquet file in {compression}. To fix: unpack it")
    mark, encoding = next(((m, e) for m, e in _ENCODINGS if head.startswith(m)), (b"", "utf-8"))
    if not mark and len(head) > 3 and not any(head[1:40:2]) and all(head[:40:2]):
        encoding = "utf-16-le"
    text = head[len(mark) :]
    if encoding != "utf-8":
        text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(text).encode()
    ends_by_return = b"\r" in text and b"\n" not in text
    if ends_by_return:
        text = text.replace(b"\r", b"\n")
    return Container(compression, encoding, mark, ends_by_return), text, damage


def is_zip(start: bytes) -> bool:
    """Whether a file that begins so is a zip archive."""
    return start.startswith((_ZIP_MAGIC, _EMPTY_ZIP_MAGIC))


def zip_members(dump: Dump) -> tuple[list[Dump], list[str]]:
    """Return the members of a zip archive that may be dumps, and those that cannot be read.

    Raises:
        DumpError: the archive is damaged, or an office document.
    """
    with dump.open() as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except UNREADABLE_ZIP as error:
            raise DumpError(
                f"dump {dump.name} is a damaged zip archive ({error}). To fix: upload it again"
            ) from error
    names = {entry.filename for entry in entries}
    if names & {"[Content_Types].xml", "mimetype"}:
        raise DumpError(f"dump {dump.name} is an Excel or office document. To fix: {_SAVE_AS_CSV}")
    members, skipped = [], []
    for entry in entries:
        if entry.is_dir() or not is_dump_name(entry.filename):
            continue
        if entry.flag_bits & 1:
            skipped.append(f"{entry.filename} (encrypted)")
        elif entry.compress_type not in (
            *(zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
            *(zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA),
        ):
            skipped.append(f"{entry.filename} (compressed by method {entry.compress_type})")
        else:
            members.append(replace(dump, member=entry.filename, member_size=entry.file_size))
    return members, skipped


def read_until_damage(file: IO[bytes], size: int) -> tuple[bytes, str]:
    """Read up to ``size`` bytes; also return the error of a damaged stream."""
    pieces: list[bytes] = []
    # Unlike read, read1 returns all bytes before the damage.
    read = getattr(file, "read1", file.read)
    try:
        while size > 0 and (piece := read(min(_PIECE_BYTES, size))):
            pieces.append(piece)
            size -= len(piece)
    except DamagedError as error:
        return b"".join(pieces), str(error)
    return b"".join(pieces), ""


def _unpacked(raw: IO[bytes], compression: str) -> IO[bytes]:
    opened: _Opened = (raw, (zipfile.BadZipFile, zlib.error, lzma.LZMAError))
    for name, _, open_it in _COMPRESSIONS:
        if name == compression:
            opened = open_it(raw)
    if opened[0] is raw and not isinstance(raw, zipfile.ZipExtFile):
        return raw
    unpacking = _Unpacking(cast("IO[bytes]", opened[0]), (EOFError, *opened[1]))
    return cast("IO[bytes]", io.BufferedReader(unpacking, _PIECE_BYTES))


def _is_enough(head: bytes) -> bool:
    """Whether these bytes show the format: a whole line, or the beginning of an array."""
    return b"\n" in head or b"\r" in head or head.lstrip().startswith(b"[")


def _refuse(start: bytes, name: str) -> None:
    for magic, kind, remedy in _REFUSED:
        if start.startswith(magic):
            raise DumpError(f"dump {name} is {kind}. To fix: {remedy}")
    if start[_TAR_AT:].startswith(_TAR_MAGIC):
        raise DumpError(f"dump {name} is a tar archive. To fix: {_UNPACK} (tar -xf)")


class _Unpacking(io.RawIOBase):
    """A decompressor that raises ``DamagedError`` for damage, and other errors as they are."""

    def __init__(self, source: IO[bytes], damage: tuple[type[Exception], ...]) -> None:
        self._source = source
        self._damage = damage

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as io documents it
        try:
            piece: bytes = self._source.read1(len(buffer))  # type: ignore[attr-defined]
        except self._damage as error:
            raise DamagedError(str(error) or type(error).__name__) from error
        except OSError as error:
            # Other errors are of the store: gzip and bzip2 set no number, a damaged zip archive
            # leads to positions outside of the file.
            if error.errno not in (None, errno.EINVAL):
                raise
            raise DamagedError(str(error)) from error
        buffer[: len(piece)] = piece
        return len(piece)


def _mapped(source: IO[bytes], function: Callable[[bytes], bytes]) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedReader(_Mapped(source, function), _PIECE_BYTES))


class _Mapped(io.RawIOBase):
    """Bytes that pass through a function, piece by piece; an empty piece ends them."""

    def __init__(self, source: IO[bytes], function: Callable[[bytes], bytes]) -> None:
        self._source = source
        self._function = function
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as io documents it
        while not self._ready:
            piece, damage = read_until_damage(self._source, _PIECE_BYTES)
            self._ready = self._function(piece)
            if damage and not self._ready:
                raise DamagedError(damage)
            if not piece:
                break
        piece, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)
