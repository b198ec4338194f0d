"""Types of fields of records: of those that become part of a place, and of counts.

Whoever can write to the lake can write a record: what it names must not lead out of the folder
that it is meant for, there or on a local disk.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

_PART = "[A-Za-z0-9_][A-Za-z0-9_.+-]*"

# One part of a place, or nothing where there is no name yet.
PlaceName = Annotated[str, Field(pattern=f"^({_PART})?$")]
# A file below a folder.
FileName = Annotated[str, Field(pattern=f"^{_PART}(/{_PART})*$")]

Count = Annotated[int, Field(ge=0, le=2**53)]
