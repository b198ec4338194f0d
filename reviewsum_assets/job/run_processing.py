"""Entry point of a Processing job, in a container or as a local process.

With ``--spec`` it computes the checkpoints a job spec names. Without, it follows the calling
convention of the script this project replaces: ``--top_k N``, grouped reviews as CSV under the
input directory, a model under the model directory, results under the output directory.

Exit codes: 0 everything landed; 2 the call itself is wrong; 3 something did not land, the log and
``result.json`` say what and why; 75 stopped by SIGTERM or SIGINT, run again to finish.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

if __package__ in (None, ""):
    # Started by path, as ScriptProcessor does: the package lies around this file, or beside it as
    # an archive.
    _here = Path(__file__).resolve()
    _archives = sorted(Path("/opt/ml/processing/input").glob("**/reviewsum_assets*.whl"))
    # This folder itself must not be searched: its module names would shadow others.
    _others = [path for path in sys.path if path != str(_here.parent)]
    sys.path[:] = [str(_here.parents[2]), *map(str, _archives), *_others]

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, PipesContext, open_dagster_pipes

from reviewsum_assets.errors import ReviewsumError
from reviewsum_assets.job.legacy import ContainerPaths, run_legacy
from reviewsum_assets.job.processing import JobResult, result_key, run_job
from reviewsum_assets.job.progress import ProgressReporter
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import load_settings

EXIT_USAGE = 2

_log = logging.getLogger("reviewsum.job")


class StopSignal:
    """Remembers SIGTERM and SIGINT, which Processing sends to end a job."""

    def __init__(self) -> None:
        self.received: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def __call__(self) -> bool:
        """Whether one of them has come."""
        return self.received is not None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        _log.warning("received %s: ending", signal.Signals(number).name)


def main(arguments: list[str] | None = None) -> int:
    """Run a job; returns the process's exit code."""
    logging.basicConfig(
        stream=sys.stderr,
        level=os.environ.get("REVIEWSUM_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(message)s",
    )
    options = _parser().parse_args(arguments)
    stop = StopSignal()
    try:
        if options.spec is None:
            return _run_legacy(options, stop)
        return _run_spec(options.spec, stop)
    except ReviewsumError as error:
        _log.error("%s", error)
        return EXIT_USAGE


def _run_spec(path: Path, stop: StopSignal) -> int:
    spec = JobSpec.model_validate_json(path.read_bytes())
    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ:
        return _run(spec, stop, None).exit_code
    with open_dagster_pipes() as pipes:
        return _run(spec, stop, pipes).exit_code


def _run(spec: JobSpec, stop: StopSignal, pipes: PipesContext | None) -> JobResult:
    lake = Lake.open(spec.lake)
    reporter = ProgressReporter(lake, spec, pipes)
    instance_type = os.environ.get("REVIEWSUM_INSTANCE_TYPE", "local")
    result = run_job(lake, spec, reporter, stop, instance_type)
    lake.put(result_key(spec.name), result.model_dump_json().encode())
    reporter.info(
        f"job {spec.name} ended with code {result.exit_code}: {len(result.landed)} landed, "
        f"{len(result.already_valid)} were valid, {len(result.failed)} failed, "
        f"{result.seconds:.1f} s"
    )
    return result


def _run_legacy(options: argparse.Namespace, stop: StopSignal) -> int:
    overrides = {"top_k": options.top_k} if options.top_k is not None else {}
    paths = ContainerPaths(options.input_dir, options.model_dir, options.output_dir)

    def run(spec: JobSpec) -> JobResult:
        return _run(spec, stop, None)

    return run_legacy(paths, load_settings(**paths.settings(), **overrides), run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run_processing.py", description=__doc__)
    parser.add_argument("--spec", type=Path, help="job spec, a JSON file")
    parser.add_argument("--top_k", type=int, help="products to summarize (default 30700)")
    container = ContainerPaths()
    parser.add_argument("--input_dir", type=Path, default=container.input_dir)
    parser.add_argument("--model_dir", type=Path, default=container.model_dir)
    parser.add_argument("--output_dir", type=Path, default=container.output_dir)
    return parser


if __name__ == "__main__":
    sys.exit(main())
