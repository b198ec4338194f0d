"""What one grouping reads: dumps and members of archives, with format, counts and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.containers import is_zip, zip_members
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.fields import is_same_name
from reviewsum_assets.reviews.formats import JSON_LAYOUTS, Format, detect_format
from reviewsum_assets.reviews.rows import Quarantine
from reviewsum_assets.reviews.values import Reading
from reviewsum_assets.settings import ReviewField, Settings


class DumpSummary(BaseModel):
    """Result of one dump, or of one member of a zip archive.

    ``fields`` says how much of each field could be read, ``recoded`` how many rows are not UTF-8
    and were read as Windows-1252, ``skipped`` which other members are no dumps, and ``damage``
    where and why it breaks off, if it does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    format: str
    size: int
    e_tag: str
    rows: int
    quarantined: int
    member: str = ""
    damage: str = ""
    recoded: int = 0
    skipped: tuple[str, ...] = ()
    fields: dict[str, Reading]

    @property
    def label(self) -> str:
        """Name with that of the member."""
        return f"{self.name}/{self.member}" if self.member else self.name

    @property
    def shares(self) -> dict[str, float | None]:
        """Share of the values of each field that could be read, None where the dump has none."""
        return {
            name: reading.read / reading.given if reading.given else None
            for name, reading in self.fields.items()
        }

    def sentence(self) -> str:
        """Return what was read, in one line."""
        fields = ", ".join(
            f"{name} {'absent' if share is None else f'{share:.0%}'}"
            for name, share in self.shares.items()
        )
        parts = [
            f"{self.rows:,} rows read",
            f"{self.quarantined:,} bad",
            f"readable: {fields}" if fields else "",
            f"{self.recoded:,} not UTF-8, read as Windows-1252" if self.recoded else "",
            f"no dumps: {'; '.join(self.skipped)}" if self.skipped else "",
        ]
        return f"{self.label} ({self.format}): {', '.join(part for part in parts if part)}"


class Source:
    """A dump or a member of an archive while it is read: its format and what was found so far."""

    def __init__(self, dump: Dump, detected: Format) -> None:
        self.dump = dump
        self.format = detected
        self.rows = 0
        self.recoded = 0
        self.skipped: tuple[str, ...] = ()
        self.readings: dict[str, Reading] = {}

    def summary(self, quarantine: Quarantine) -> DumpSummary:
        """Return what was found."""
        label = self.dump.label
        return DumpSummary(
            name=self.dump.name,
            member=self.dump.member,
            format=str(self.format),
            size=self.dump.listed.size,
            e_tag=self.dump.e_tag,
            rows=self.rows,
            quarantined=quarantine.counts[label],
            damage=quarantine.damage.get(label, ""),
            recoded=self.recoded,
            skipped=self.skipped,
            fields=self.readings,
        )


def find_sources(dump: Dump, settings: Settings) -> list[Source]:
    """Return a dump, or the members of an archive that are dumps.

    Raises:
        DumpError: the format is unknown, or no member is a dump.
    """
    with dump.open() as file:
        if not is_zip(bytes(file.read(4))):
            return [Source(dump, detect_format(dump, settings.columns))]
    members, skipped = zip_members(dump)
    found = []
    for member in members:
        try:
            found.append(Source(member, detect_format(member, settings.columns)))
        except DumpError as error:
            skipped.append(str(error))
    if not found:
        reasons = "; ".join(skipped) or "it is empty"
        raise DumpError(f"dump {dump.name} is a zip archive without a dump: {reasons}")
    found[0].skipped = tuple(skipped)
    return found


def require_mapped(sources: Sequence[Source], mapping: Mapping[ReviewField, str]) -> None:
    """Check that each column of the setting ``columns`` is in a dump.

    Raises:
        DumpError: one is in no dump; a key of JSON may be anywhere, and is not missed.
    """
    if any(source.format.layout in JSON_LAYOUTS for source in sources):
        return
    first = sources[0]
    for field, column in mapping.items():
        if not any(is_same_name(column, used) for source in sources for used in source.format.used):
            raise DumpError(
                f"no dump has a column {column!r}, which the setting columns names for {field}; "
                f"the columns of {first.dump.label} are {', '.join(first.format.names)[:1000]}"
            )
