"""Reads a dump in little memory: `python -m ... DUMP LAKE MEGABYTES`.

Address space is limited to so much more than was taken once everything was loaded. Writes the
counts of reviews as JSON.
"""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake


def limit_memory(spare_bytes: int) -> None:
    """Let this process take only so much more address space than it has."""
    status = Path("/proc/self/status").read_text()
    size = re.search(r"VmSize:\s+(\d+) kB", status)
    assert size is not None
    most = int(size[1]) * 1024 + spare_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(dump: str, lake: str, megabytes: int) -> None:
    """See the module."""
    limit_memory(megabytes * 1_000_000)
    record, _ = group_reviews(Lake.open(lake), load_settings(dumps=(dump,)))
    sys.stdout.write(record.counts.model_dump_json())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
