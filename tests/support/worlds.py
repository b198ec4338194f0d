"""A dump, a lake and a Dagster home in one folder, and the console script that works on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.crashes import Ended, WarmCommand, WarmProcess
from tests.support.dumps import FORMATS, reviews_of, write

SETTINGS = {
    "REVIEWSUM_MAX_LENGTH": "16",
    "REVIEWSUM_MIN_LENGTH": "4",
    "REVIEWSUM_WORKERS": "1",
    "REVIEWSUM_DEVICE": "cpu",
    "REVIEWSUM_CHECKPOINT_SIZE": "2",
}


@dataclass(frozen=True)
class World:
    """A folder with a dump, a lake and a Dagster home, and the command that works in it."""

    command: WarmCommand
    dump: Path
    model: Path
    lake: Lake

    def run(self) -> Ended:
        """Run, and wait for the end."""
        return self.command("run", "--dump", str(self.dump), "--model", str(self.model))

    def verify(self) -> list[str]:
        """What `reviewsum verify` finds, a line each."""
        return self.command("verify").out.splitlines()

    @property
    def merged(self) -> bytes | None:
        """The merged table."""
        return self.lake.get(places.MERGED_CSV)


def build_world(folder: Path, warm: WarmProcess, model: Path, lake: str = "") -> World:
    """A world in which nothing has happened yet."""
    folder.mkdir(exist_ok=True)
    opened = Lake.open(lake or str(folder / "lake"))
    command = WarmCommand(warm, folder, {**SETTINGS, "REVIEWSUM_LAKE": opened.uri})
    return World(command, write_dump(folder / "dump.json", 4), model, opened)


def write_dump(path: Path, products: int) -> Path:
    """Five reviews of each product, and a line that cannot be read."""
    reviews = [review for n in range(products) for review in reviews_of(f"B{n:03d}")]
    return Path(write(path, FORMATS["2018"](reviews) + b"{broken\n"))
