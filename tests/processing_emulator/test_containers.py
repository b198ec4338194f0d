"""What a container finds, and what becomes of what it leaves."""

from __future__ import annotations

import json

import pytest

from tests.processing_emulator.workbench import (
    ML,
    Workbench,
    code_input,
    s3_input,
    s3_output,
)
from tests.support.processing.isolation import machine_isolates
from tests.support.waiting import wait_until

LIST_DATA = """
    root = ML / "processing/data"
    print(sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()))
"""


def test_a_job_reads_inputs_and_its_outputs_arrive(bench: Workbench) -> None:
    bench.put("in/a.txt", "hello")
    record = bench.run(
        """
        text = (ML / "processing/data/a.txt").read_text()
        (ML / "processing/out/deep").mkdir()
        (ML / "processing/out/deep/b.txt").write_text(text.upper())
        """,
        ProcessingInputs=[code_input(), s3_input("data", "s3://reviews/in/")],
        ProcessingOutputConfig={"Outputs": [s3_output("out")]},
    )
    assert (record.status, record.exit_codes) == ("Completed", [0])
    assert bench.read("out/deep/b.txt") == "HELLO"


def test_what_a_container_prints_is_in_its_log_stream(bench: Workbench) -> None:
    bench.run("import sys; print('to stdout', flush=True); print('to stderr', file=sys.stderr)")
    assert bench.printed() == ["to stdout", "to stderr"]


def test_a_line_is_in_the_log_while_the_job_runs(bench: Workbench) -> None:
    record = bench.start("import time; print('ready', flush=True); time.sleep(60)")
    bench.wait_until_printed("ready")
    assert record.status == "InProgress"


def test_a_container_has_the_requests_environment_and_nothing_of_the_tests(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWSUM_LEAKED", "1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    bench.run(
        "import json; print(json.dumps(dict(os.environ)))",
        Environment={"REVIEWSUM_GIVEN": "2", **ML},
    )
    found = json.loads(bench.printed()[0])
    assert found["REVIEWSUM_GIVEN"] == "2"
    assert found["AWS_ENDPOINT_URL"] == bench.emulator.url
    assert "jobs/job-1/algo-1" in found["HOME"]
    own = {name for name in found if name not in {"LC_CTYPE", "PWD", "SHLVL", "_", "OLDPWD"}}
    assert own == {*bench.emulator.environment(), "REVIEWSUM_GIVEN", *ML, "PATH", "HOME"}


def test_arguments_follow_the_entry_point(bench: Workbench) -> None:
    app = {
        "ImageUri": "image",
        "ContainerEntrypoint": ["python3", "/opt/ml/processing/code/main.py"],
        "ContainerArguments": ["--x", "a b"],
    }
    bench.run("import sys; print(sys.argv[1:])", AppSpecification=app)
    assert bench.printed() == ["['--x', 'a b']"]


def test_the_entry_point_is_process_one_where_the_machine_allows_it(bench: Workbench) -> None:
    bench.run("print(os.getpid())")
    assert (bench.printed() == ["1"]) is machine_isolates()


def test_a_manifest_names_the_objects(bench: Workbench) -> None:
    bench.put("in/a/1.txt")
    bench.put("in/a/2.txt")
    bench.put("in/b/3.txt")
    bench.put("manifest.json", json.dumps([{"prefix": "s3://reviews/in/"}, "a/1.txt", "b/3.txt"]))
    source = s3_input("data", "s3://reviews/manifest.json", S3DataType="ManifestFile")
    bench.run(LIST_DATA, ProcessingInputs=[code_input(), source])
    assert bench.printed() == ["['a/1.txt', 'b/3.txt']"]


def test_a_manifest_that_names_a_missing_object_fails_the_job(bench: Workbench) -> None:
    bench.put("manifest.json", json.dumps([{"prefix": "s3://reviews/in/"}, "gone.txt"]))
    source = s3_input("data", "s3://reviews/manifest.json", S3DataType="ManifestFile")
    record = bench.run(LIST_DATA, ProcessingInputs=[code_input(), source])
    assert record.status == "Failed"
    assert "No S3 objects found under S3 URL 's3://reviews/in/gone.txt'" in str(
        record.failure_reason
    )
    assert record.started is None


def test_an_input_without_objects_fails_the_job(bench: Workbench) -> None:
    source = s3_input("data", "s3://reviews/nothing/")
    record = bench.run(LIST_DATA, ProcessingInputs=[code_input(), source])
    assert record.status == "Failed"
    assert str(record.failure_reason).startswith("ClientError: Data download failed")


def test_a_sharded_input_is_divided_among_hosts(bench: Workbench) -> None:
    for name in ("1", "2", "3"):
        bench.put(f"in/{name}.txt")
    source = s3_input("data", "s3://reviews/in", S3DataDistributionType="ShardedByS3Key")
    bench.run(LIST_DATA, hosts=2, ProcessingInputs=[code_input(), source])
    assert bench.printed(host="algo-1") == ["['1.txt', '3.txt']"]
    assert bench.printed(host="algo-2") == ["['2.txt']"]


def test_every_host_knows_itself_and_the_others(bench: Workbench) -> None:
    bench.run("print((ML / 'config/resourceconfig.json').read_text())", hosts=2)
    resources = json.loads(bench.printed(host="algo-2")[0])
    assert resources == {
        "current_host": "algo-2",
        "hosts": ["algo-1", "algo-2"],
        "network_interface_name": "eth0",
    }


def test_a_container_can_read_its_request(bench: Workbench) -> None:
    record = bench.run("print((ML / 'config/processingjobconfig.json').read_text())")
    config = json.loads(bench.printed()[0])
    assert config.pop("ProcessingJobArn") == record.arn
    assert config == record.request


def test_a_continuous_output_arrives_while_the_job_runs(bench: Workbench) -> None:
    record = bench.start(
        """
        import time
        (ML / "processing/live/first.txt").touch()
        time.sleep(60)
        """,
        ProcessingOutputConfig={"Outputs": [s3_output("live", "Continuous")]},
    )
    wait_until(lambda: bench.keys("live/") == ["live/first.txt"], "the file to arrive")
    assert record.status == "InProgress"


def test_the_exit_message_is_the_first_kilobyte_of_all_hosts(bench: Workbench) -> None:
    record = bench.run("(ML / 'output/message').write_text('é' * 300)", hosts=2)
    assert record.exit_message == "é" * 512
    assert bench.describe()["ExitMessage"] == "é" * 512


def test_an_exit_message_that_is_not_utf8_fails_the_job(bench: Workbench) -> None:
    record = bench.run("(ML / 'output/message').write_bytes(bytes([255]))")
    assert (record.status, record.exit_codes) == ("Failed", [0])
    assert str(record.failure_reason).startswith("ClientError: The exit message is not UTF-8")


def test_an_exit_code_fails_the_job(bench: Workbench) -> None:
    record = bench.run("raise SystemExit(3)")
    assert (record.status, record.exit_codes) == ("Failed", [3])
    assert bench.describe()["FailureReason"] == (
        "AlgorithmError: See job logs for more information, exit code: 3"
    )


def test_a_missing_program_fails_the_job(bench: Workbench) -> None:
    app = {"ImageUri": "image", "ContainerEntrypoint": ["no-such-program"]}
    record = bench.run("", AppSpecification=app)
    assert (record.status, record.exit_codes) == ("Failed", [127])
    assert "no-such-program" in bench.printed()[0]
