"""The process behind ``WarmCommand``: imports what takes seconds, then forks a call a line."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback
from typing import Any

# Not polars, nor what imports it: it starts threads, which do not survive a fork.
_IMPORTED_ONCE = (
    "ctranslate2",
    "dagster",
    "dagster._core.execution.api",
    "dagster._core.storage.sqlite_storage",
    "pydantic_settings",
    "rich.progress",
    "transformers.models.pegasus.modeling_pegasus",
    "typer",
)


def serve() -> None:
    """Run a call a line of standard input; answer with its exit code, negative for a signal."""
    for name in _IMPORTED_ONCE:
        importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _become(json.loads(line))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(call: dict[str, Any]) -> None:
    """Be the console script from here on."""
    os.setsid()
    os.chdir(call["folder"])
    os.environ.update(call["environment"])
    tempfile.tempdir = None  # found by an import, before this call could name another
    importlib.import_module("sitecustomize").join_drill()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(call[name], os.O_WRONLY | os.O_CREAT, 0o644), number)
    code: object = 1
    try:
        from reviewsum_assets.cli.app import main

        sys.argv = ["reviewsum", *call["arguments"]]
        main()
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve()
