"""The emulator by hand: ``python -m tests.support.processing --port 5055 --work DIR``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import shlex
import signal
import sys
import threading
from pathlib import Path

from tests.support.processing.emulator import processing_emulator


def main() -> None:
    """Serve until interrupted; print the address, then the events of jobs."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.processing")
    parser.add_argument("--port", type=int, default=5055)
    parser.add_argument("--work", type=Path, required=True, help="directory for the jobs' files")
    parser.add_argument("--grace-seconds", type=float, default=5.0)
    arguments = parser.parse_args()

    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stdout)
    logging.getLogger("tests.support.processing").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        processing_emulator(
            arguments.work.resolve(), grace_seconds=arguments.grace_seconds, port=arguments.port
        ) as emulator,
    ):
        for name, value in emulator.environment().items():
            sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
        sys.stdout.write(f"# an empty bucket is at s3://{emulator.bucket}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
