"""A lake as it would be after some writes, for dry runs: the real lake stays as it is."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from reviewsum_assets.storage.lake import Lake, LakeObject
from reviewsum_assets.storage.stores import checked_key, local_root, refuse_credentials


class Overlay(Lake):
    """A lake whose writes go to ``scratch``, an empty local directory.

    ``uri`` is the address of the real lake; a directory need not exist and is not made.
    """

    def __init__(self, uri: str, scratch: Path) -> None:
        refuse_credentials(uri)
        is_absent = not uri.startswith("s3://") and not local_root(uri).exists()
        shown = str(local_root(uri)) if is_absent else uri
        beneath = Lake.open(str(scratch / "absent")) if is_absent else Lake.open(uri, create=False)
        super().__init__(shown if is_absent else beneath.uri, beneath._store, beneath.directory)
        self._beneath = beneath
        self._written = Lake.open(str(scratch / "written"))
        self._removed: set[str] = set()

    def list(self, prefix: str) -> list[LakeObject]:
        """Every object below ``prefix``, of both lakes, sorted by key."""
        found = {item.key: item for item in self._beneath.list(prefix)}
        for key in self._removed & found.keys():
            del found[key]
        found |= {item.key: item for item in self._written.list(prefix)}
        return [found[key] for key in sorted(found)]

    def scan_parquet(self, *keys: str) -> pl.LazyFrame:
        """A lazy table of the rows of Parquet objects of both lakes."""
        return pl.concat([self._holder(key).scan_parquet(key) for key in keys])

    def local_directory(self, prefix: str) -> Path | None:
        """The directory with all objects below ``prefix``; None if they are in two."""
        holders = {self._holder(item.key) for item in self.list(prefix)}
        is_cut = any(key.startswith(f"{prefix}/") for key in self._removed)
        return holders.pop().local_directory(prefix) if len(holders) == 1 and not is_cut else None

    def delete(self, key: str) -> None:
        """Hide an object."""
        self._written.delete(key)
        self._removed.add(checked_key(key))

    def _write(self, key: str, data: bytes | Path, *, overwrite: bool = True) -> bool:
        if not overwrite and self.head(key) is not None:
            return False
        return self._written._write(key, data, overwrite=overwrite)

    def _holder(self, key: str) -> Lake:
        is_beneath = checked_key(key) not in self._removed and self._written.head(key) is None
        return self._beneath if is_beneath else self._written
