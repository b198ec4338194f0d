"""A table that is made from others of the lake, part by part, and copies what has not changed.

The record beside the table is written last. A table that differs from its record is not used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import Count, SealedRecord, file_sha256


class TableRecord(SealedRecord):
    """The record of a table; ``computed`` of its products are not copied from the last one.

    ``source`` is the version of all that the table is made from, ``version`` that of its code.
    """

    source: str
    version: int
    rows: Count
    products: Count
    computed: Count
    sha256: str
    bytes: Count


@dataclass(frozen=True)
class DerivedTable:
    """Where a table and its record are; ``version`` is raised when unchanged sources give another.

    ``schema`` has ``product_id`` and the column ``hash_column``, which is equal for products whose
    rows are made from the same.
    """

    key: str
    record_key: str
    version: int
    schema: pl.Schema
    hash_column: str

    def record(self, lake: Lake) -> TableRecord | None:
        """The record, or None if there is no readable one."""
        try:
            return TableRecord.unsealed(lake.get(self.record_key) or b"")
        except ValueError:
            return None

    def undamaged(self, lake: Lake) -> TableRecord | None:
        """The record, or None if it or the table is missing, damaged, or of another version."""
        record = self.record(lake)
        if record is None or record.version != self.version:
            return None
        if lake.directory is None:  # S3 verifies checksums of its own
            found = lake.head(self.key)
            return record if found is not None and found.size == record.bytes else None
        return record if lake.sha256(self.key) == record.sha256 else None

    def damage(self, lake: Lake) -> list[str]:
        """Damage of the table or its record; reads every byte. A lake may be without both."""
        record, sha256 = self.record(lake), lake.sha256(self.key)
        if record is None and (sha256 or lake.head(self.record_key)):
            return [f"{self.record_key} is missing or not what was written"]
        if record is None or record.sha256 == sha256:
            return []
        trouble = "is missing" if sha256 is None else "is not what was written: its SHA-256 differs"
        return [f"{self.key} {trouble}"]

    def scan(self, lake: Lake) -> pl.LazyFrame:
        """Scan the table, which has to be there."""
        return lake.scan_parquet(self.key)

    def write(
        self, lake: Lake, source: str, parts: Iterable[tuple[pl.DataFrame, int]]
    ) -> TableRecord:
        """Write the table and its record.

        Args:
            lake: written to.
            source: version of all that the table is made from.
            parts: rows in ``schema``, and the number of their products that were computed.
        """
        rows = products = computed = 0
        with tempfile.TemporaryDirectory(prefix="reviewsum-table-") as scratch:
            files: list[Path] = []
            for part, count in parts:
                files.append(Path(scratch, f"part_{len(files)}.parquet"))
                part.write_parquet(files[-1])
                rows += part.height
                products += part["product_id"].n_unique()
                computed += count
            path = Path(scratch, "table.parquet")
            pl.scan_parquet(files, glob=False).sink_parquet(path, compression="zstd")
            record = TableRecord(
                source=source,
                version=self.version,
                rows=rows,
                products=products,
                computed=computed,
                sha256=file_sha256(path),
                bytes=path.stat().st_size,
            )
            lake.put_file(self.key, path)
        lake.put(self.record_key, record.sealed())
        return record

    def earlier(self, lake: Lake, undamaged: TableRecord | None) -> EarlierRows:
        """The rows of the last table, if it has an undamaged record."""
        return EarlierRows(
            self, pl.LazyFrame(schema=self.schema) if undamaged is None else self.scan(lake)
        )


class EarlierRows:
    """Rows of the last table; memory holds the ids and hashes of its rows."""

    def __init__(self, table: DerivedTable, rows: pl.LazyFrame) -> None:
        self._rows, self._keys, self._schema = rows, ["product_id", table.hash_column], table.schema
        self._index = rows.select(self._keys).with_row_index("row").collect(engine="streaming")

    def of(self, products: pl.DataFrame) -> pl.DataFrame:
        """The rows of these products (product_id and hash) that still hold."""
        found = products.join(self._index, on=self._keys)["row"]
        if found.is_empty():
            return pl.DataFrame(schema=self._schema)
        # Products that are in one part now were near each other in the last table, too.
        first, last = found.min(), found.max()
        assert isinstance(first, int)
        assert isinstance(last, int)
        near = self._rows.slice(first, last - first + 1)
        keys = products.lazy().select(self._keys)
        return near.join(keys, on=self._keys, how="semi").collect(engine="streaming")
