"""A real webserver and a real daemon over a Dagster home, spoken to by GraphQL."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from reviewsum_assets.assets.dagster_home import workspace_file
from tests.support.ports import free_port

T = TypeVar("T")

_START_SECONDS = 240.0
_ANSWER_SECONDS = 300.0
_LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "reviewsum_assets"}


@dataclass
class DagsterServers:
    """Webserver and daemon; ``environment`` is what both and all runs see.

    ``definitions`` is a file that takes the place of the project's own definitions.
    """

    home: Path
    environment: Mapping[str, str]
    definitions: Path | None = None
    port: int = field(default_factory=free_port)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    # Of those that were killed too: what they had started lives on.
    _groups: set[int] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Of the UI."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, *names: str) -> None:
        """Start the named ones, ``webserver`` and ``daemon``, or both; waits for the webserver."""
        for name in names or ("daemon", "webserver"):
            with (self.home / f"{name}.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    self._command(name),
                    env={**self.environment, "DAGSTER_HOME": str(self.home)},
                    cwd=self.home,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # so that all it starts can be ended with it
                )
            self._groups.add(self._processes[name].pid)
        if not names or "webserver" in names:
            self.wait_for(self._answers, "the webserver to answer", _START_SECONDS)

    def stop(self) -> None:
        """End everything that was started here, runs included."""
        self._signal_all(signal.SIGTERM)
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        self.kill_all()

    def kill(self, name: str) -> None:
        """End one of them by SIGKILL, and nothing that it has started."""
        self._processes[name].kill()
        self._processes[name].wait()

    def kill_all(self) -> None:
        """End both, their code servers and all runs by SIGKILL, as a machine without power does."""
        self._signal_all(signal.SIGKILL)
        self._groups.clear()
        for process in self._processes.values():
            process.wait()

    def query(self, text: str, **variables: Any) -> Any:
        """The data of a GraphQL query or mutation.

        Raises:
            AssertionError: the server reported errors.
        """
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": text, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode(errors="replace")) from error
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def launch(
        self,
        job: str,
        *,
        tags: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> str:
        """Launch a run of a job; its id."""
        params = {
            "selector": {**_LOCATION, "jobName": job},
            "runConfigData": dict(config or {}),
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]
            },
        }
        return self._launched("launchRun(executionParams: $params)", "ExecutionParams", params)

    def reexecute(self, run_id: str, strategy: str) -> str:
        """Re-execute a run as its page does, by ``ALL_STEPS`` or ``FROM_FAILURE``; the new id."""
        call = "launchRunReexecution(reexecutionParams: $params)"
        params = {"parentRunId": run_id, "strategy": strategy}
        return self._launched(call, "ReexecutionParams", params)

    def _launched(self, call: str, kind: str, params: Mapping[str, Any]) -> str:
        text = f"mutation($params: {kind}!) {{ {call} {{ __typename"
        data = self._mutate(
            text + " ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
            "LaunchRunSuccess",
            params=params,
        )
        run_id: str = data["run"]["runId"]
        return run_id

    def backfill(self, partitions: Sequence[str]) -> str:
        """Backfill partitions of chunk_summaries, as the UI does; the backfill's id."""
        data = self._mutate(
            "mutation($params: LaunchBackfillParams!) { launchPartitionBackfill("
            "backfillParams: $params) { __typename"
            " ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }",
            "LaunchBackfillSuccess",
            params={
                "assetSelection": [{"path": ["chunk_summaries"]}],
                "partitionNames": list(partitions),
            },
        )
        backfill_id: str = data["backfillId"]
        return backfill_id

    def _mutate(self, text: str, success: str, **variables: Any) -> Any:
        """The result of a mutation with one field."""
        (result,) = self.query(text, **variables).values()
        assert result["__typename"] == success, result
        return result

    def tick(self, sensor: str, cursor: str | None = None) -> dict[str, Any]:
        """Evaluate a sensor as the daemon does, and launch nothing.

        Returns:
            ``cursor``, ``skipReason`` and ``runRequests``.

        Raises:
            AssertionError: the sensor failed.
        """
        data = self._mutate(
            "mutation($sensor: SensorSelector!, $cursor: String) {"
            " sensorDryRun(selectorData: $sensor, cursor: $cursor) { __typename"
            " ... on DryRunInstigationTick { evaluationResult {"
            " cursor skipReason runRequests { jobName } error { message } } }"
            " ... on PythonError { message } } }",
            "DryRunInstigationTick",
            sensor={**_LOCATION, "sensorName": sensor},
            cursor=cursor,
        )
        result: dict[str, Any] = data["evaluationResult"]
        assert result["error"] is None, result["error"]
        return result

    def run_spans(self, job: str) -> list[tuple[str, float, float]]:
        """Id, start and end of the runs of a job, as seconds since 1970, the last one first."""
        data = self.query(
            "query($filter: RunsFilter!) { runsOrError(filter: $filter) { ... on Runs {"
            " results { runId startTime endTime } } } }",
            filter={"pipelineName": job},
        )
        return [
            (run["runId"], run["startTime"], run["endTime"])
            for run in data["runsOrError"]["results"]
        ]

    def run_status(self, run_id: str) -> str:
        """Such as ``STARTED`` or ``SUCCESS``."""
        data = self.query(
            "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id
        )
        status: str = data["runOrError"]["status"]
        return status

    def run_worker(self, run_id: str) -> int | None:
        """The process id of the worker that a run was given; None before that."""
        data = self.query(
            "query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {"
            " ... on MessageEvent { message } } } } }",
            id=run_id,
        )
        told = "\n".join(event["message"] for event in data["logsForRun"]["events"])
        found = re.search(r"Started process for run \(pid: (\d+)\)", told)
        return None if found is None else int(found[1])

    def runs(self) -> list[dict[str, str]]:
        """``id``, ``job`` and ``status`` of all runs, newest first."""
        data = self.query(
            "query { runsOrError { ... on Runs { results { id job: jobName status } } } }"
        )
        found: list[dict[str, str]] = data["runsOrError"]["results"]
        return found

    def backfill_status(self, backfill_id: str) -> str:
        """Such as ``REQUESTED`` or ``COMPLETED_SUCCESS``."""
        data = self.query(
            "query($id: String!) { partitionBackfillOrError(backfillId: $id) {"
            " ... on PartitionBackfill { status } ... on PythonError { message } } }",
            id=backfill_id,
        )
        status: str = data["partitionBackfillOrError"]["status"]
        return status

    def partition_counts(self) -> dict[str, int]:
        """How many partitions of chunk_summaries are in which state."""
        data = self.query(
            'query { assetNodeOrError(assetKey: {path: ["chunk_summaries"]}) { ... on AssetNode {'
            " partitionStats { numMaterialized numFailed numPartitions numMaterializing } } } }"
        )
        stats: dict[str, int] = data["assetNodeOrError"]["partitionStats"]
        return stats

    def wait_for(self, condition: Callable[[], T], what: str, seconds: float) -> T:
        """Wait until a condition gives something true.

        Raises:
            AssertionError: it did not in time; the logs' ends are part of the message.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.5)
        logs = "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self.home.glob("*.log"))
        )
        raise AssertionError(f"waited {seconds:.0f} s for {what}\n{logs}")

    def _signal_all(self, number: signal.Signals) -> None:
        for group in self._groups:
            with suppress(ProcessLookupError):
                os.killpg(group, number)

    def _command(self, name: str) -> list[str]:
        workspace = ["-w", str(self._workspace())]
        program = str(Path(sys.executable).with_name(f"dagster-{name}"))
        if name == "daemon":
            return [program, "run", *workspace]
        return [program, *workspace, "--host", "127.0.0.1", "--port", str(self.port)]

    def _workspace(self) -> Path:
        if self.definitions is None:
            return workspace_file(self.home)
        path = self.home / "other_workspace.yaml"
        location = {"relative_path": str(self.definitions), "location_name": "reviewsum_assets"}
        path.write_text(json.dumps({"load_from": [{"python_file": location}]}))
        return path

    def _answers(self) -> bool:
        try:
            self.query("query { version }")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True


@contextmanager
def dagster_servers(
    home: Path, environment: Mapping[str, str], definitions: Path | None = None
) -> Iterator[DagsterServers]:
    """Servers that end with the context; ``home`` holds a dagster.yaml already."""
    # It makes its tables at the first opening, which two processes must not do at once.
    with dg.DagsterInstance.from_config(str(home)):
        pass
    servers = DagsterServers(home, environment, definitions)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
