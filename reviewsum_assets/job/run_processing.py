"""Entry point of a Processing job, in a container or as a local process.

With ``--spec`` it computes the checkpoints of a job spec. Without, it follows the calling
convention of the script that this project replaces: ``--top_k N``, grouped reviews as CSV under the
input directory, a model under the model directory, results under the output directory.

Exit codes: 0 everything landed, or the budget left no room for the rest; 2 the call is wrong;
3 something did not land, log and ``result.json`` have the reason; 75 stopped by SIGTERM or SIGINT,
run again to finish.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from dagster_pipes import PipesContext

# Billing starts with the container, so a budget counts from here.
_STARTED = time.monotonic()
# SageMaker shows the beginning of this file as the job's ExitMessage.
MESSAGE_FILE = Path("/opt/ml/output/message")
# Of one KB; bytes that are not UTF-8 fail the job.
_MESSAGE_BYTES = 1000


def leave_message(path: Path, message: str) -> None:
    """Write the exit message to the service's place if this is one of its containers."""
    text = message.encode()[:_MESSAGE_BYTES].decode(errors="ignore")
    # The log has it too: a full disk must not hide why a job ended.
    with contextlib.suppress(OSError):
        if path.absolute().parent.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _end(message: str) -> NoReturn:
    leave_message(MESSAGE_FILE, message)
    sys.exit(message)


def _make_importable() -> None:
    """Make the package importable where this file was started by its path.

    Either the file is in the package, or a container got it alone, as ``ScriptProcessor`` ships it:
    then the package is an archive among the Processing inputs, with the wheels to install, listed
    in ``wheels.txt``, or a ``requirements.txt`` for a package index. Signals end the process
    meanwhile, which the kernel does not do for the first process of a container.
    """
    here = Path(__file__).resolve()
    # This folder must not be searched: its module names would shadow others.
    others = [path for path in sys.path if path != str(here.parent)]
    if (here.parents[1] / "settings.py").exists():
        sys.path[:] = [str(here.parents[2]), *others]
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(75))
    inputs = here.parents[1]
    archives = _at_most_one(inputs, "reviewsum_assets*.zip", "reviewsum_assets*.whl")
    wheels = _at_most_one(inputs, "wheels.txt")
    for listing in wheels:
        _refuse_changed(listing)
        if not _install(listing, "--no-index", "--no-deps", "--require-hashes"):
            _end(
                f"the wheels beside {listing} cannot be installed with Python "
                f"{sys.version.split()[0]}: the log has the reason. To fix: set image_python to "
                "this version, or package_source to image if the image has all packages"
            )
    for requirements in [] if wheels else _at_most_one(inputs, "requirements.txt"):
        if not _install(requirements):
            _end(
                f"the packages that {requirements} names cannot be installed from a package index: "
                "the log has the reason. To fix: set package_source to lake, or to image if the "
                "image has all packages"
            )
    sys.path[:] = [*map(str, archives), *others]


def _install(requirements: Path, *options: str) -> bool:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--root-user-action", "ignore", *options, "--requirement", requirements.name]
    return not subprocess.run(pip, cwd=requirements.parent, check=False).returncode


def _refuse_changed(listing: Path) -> None:
    """End if a wheel is missing or is not the stored one."""
    for line in listing.read_text(encoding="utf-8").splitlines():
        name, _, expected = line.partition(" --hash=sha256:")
        wheel = listing.parent / name
        found = hashlib.sha256(wheel.read_bytes()).hexdigest() if wheel.exists() else "missing"
        if found != expected:
            _end(
                f"the wheel {wheel.name} is not the one that was stored: its SHA-256 is {found}, "
                f"{listing.name} says {expected}. To fix: find out who changed it, remove the "
                "folder of the wheels from the lake, and run again"
            )


def _at_most_one(inputs: Path, *patterns: str) -> list[Path]:
    """Find a file to install or import; a second one may have come with the data."""
    found = sorted(path for pattern in patterns for path in inputs.glob(f"**/{pattern}"))
    if len(found) > 1:
        _end(
            f"{', '.join(map(str, found))}: one of these at most is to be run, and which is not "
            "known; remove the others from the inputs"
        )
    return found


# Worker processes import this file too, and inherit the search path from their parent.
if __name__ == "__main__" and not __package__:
    _make_importable()

import reviewsum_assets
from reviewsum_assets.errors import DumpError, ReviewsumError, escape_what_terminals_lack
from reviewsum_assets.job.lease import held_lease
from reviewsum_assets.job.parent import run_job, summarize_grouped
from reviewsum_assets.job.progress import JobResult, ProgressReporter, open_pipes
from reviewsum_assets.job.spec import Host, JobSpec, read_spec
from reviewsum_assets.reviews.grouped import scan_grouped
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import result_key

EXIT_USAGE = 2
_log = logging.getLogger("reviewsum.job")


class StopSignal:
    """Remembers SIGTERM and SIGINT, which Processing sends to end a job."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def request(self) -> None:
        """End the job as these signals do."""
        self.received = True

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.request()
        _log.warning("received %s: ending", signal.Signals(number).name)


def main(arguments: list[str] | None = None) -> int:
    """Run a job; returns the process's exit code."""
    escape_what_terminals_lack()
    logging.basicConfig(
        stream=sys.stderr,
        level=os.environ.get("REVIEWSUM_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(message)s",
    )
    options = _parser().parse_args(arguments)
    stop = StopSignal()
    _log.info("reviewsum_assets from %s", Path(reviewsum_assets.__file__).parent)
    try:
        return (_run_legacy if options.spec is None else _run_spec)(options, stop)
    except ReviewsumError as error:
        _log.error("%s", error)
        leave_message(options.message_file, str(error))
        return EXIT_USAGE


def _run_spec(options: argparse.Namespace, stop: StopSignal) -> int:
    spec = read_spec(options.spec)
    host = Host.read(options.resource_config)
    lake = Lake.open(spec.lake)
    with contextlib.ExitStack() as stack:
        if options.lease:
            stack.enter_context(held_lease(lake, spec.name, stop.request))
        # Only the first host speaks for the job.
        pipes = None if host.index else stack.enter_context(open_pipes(lake, spec.name))
        result = _run(lake, spec, host, stop, pipes)
    if result.failed:
        named = "; ".join(f"checkpoint {n}: {why}" for n, why in result.failed.items())
        leave_message(options.message_file, f"{len(result.failed)} checkpoints failed: {named}")
    return result.exit_code


def _run(
    lake: Lake, spec: JobSpec, host: Host, stop: StopSignal, pipes: PipesContext | None = None
) -> JobResult:
    mine = spec.model_copy(update={"checkpoints": host.share(spec.checkpoints)})
    reporter = ProgressReporter(lake, mine, pipes, host.name)
    result = run_job(
        lake,
        mine,
        reporter,
        lambda: stop.received,
        os.environ.get("REVIEWSUM_INSTANCE_TYPE", "local"),
        seconds_before=time.monotonic() - _STARTED,
    )
    lake.put(result_key(spec.name, host.name), result.model_dump_json().encode())
    reporter.report(
        f"job {spec.name} ended with code {result.exit_code}: {len(result.landed)} landed, "
        f"{len(result.already_valid)} were valid, {len(result.failed)} failed, "
        f"{result.seconds:.1f} s"
    )
    return result


def _run_legacy(options: argparse.Namespace, stop: StopSignal) -> int:
    """Group, plan, summarize and merge; the output directory is the lake."""
    inputs: Path = options.input_dir
    found = sorted(inputs.rglob("product_grouped*.csv")) or sorted(inputs.rglob("*.csv"))
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise DumpError(
            f"expected one grouped CSV under {inputs} (product_grouped.csv), found: {listed}"
        )
    settings = load_settings(
        lake=str(options.output_dir),
        model=str(options.model_dir),
        dumps=(str(found[0]),),
        **({} if options.top_k is None else {"top_k": options.top_k}),
    )
    lake = Lake.open(settings.lake)
    grouped, _ = group_reviews(lake, settings)

    def run(spec: JobSpec) -> JobResult:
        return _run(lake, spec, Host(), stop)

    scanned = scan_grouped(lake, grouped)
    return summarize_grouped(lake, scanned, grouped.version, settings, run).exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run_processing.py", description=__doc__)
    parser.add_argument("--spec", type=Path, help="job spec, a JSON file")
    parser.add_argument(
        "--resource_config", type=Path, help="SageMaker's resourceconfig.json, for several hosts"
    )
    parser.add_argument(
        "--lease", action="store_true", help="hold the job's lease, for other hosts of the lake"
    )
    parser.add_argument("--message_file", type=Path, default=MESSAGE_FILE)
    parser.add_argument("--top_k", type=int, help="products to summarize (default 30700)")
    container = Path("/opt/ml/processing")
    parser.add_argument("--input_dir", type=Path, default=container / "input")
    parser.add_argument("--model_dir", type=Path, default=container / "pegasus_model")
    parser.add_argument("--output_dir", type=Path, default=container / "output")
    return parser


if __name__ == "__main__":
    sys.exit(main())
