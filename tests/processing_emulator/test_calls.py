"""The emulator remembers who asked for what."""

from __future__ import annotations

from tests.processing_emulator.workbench import Workbench, code_input, request, s3_input
from tests.support.processing import ApiCall

READ = """
    import boto3
    boto3.client("s3").get_object(Bucket="reviews", Key="in/a.txt")
"""


def test_calls_have_service_action_and_status(bench: Workbench) -> None:
    bench.start("")
    bench.refusal(bench.sagemaker.create_processing_job, **request())
    bench.printed()
    assert [(call.service, call.action, call.status) for call in bench.emulator.calls][:3] == [
        ("s3", "PUT", 200),
        ("sagemaker", "CreateProcessingJob", 200),
        ("sagemaker", "CreateProcessingJob", 400),
    ]
    assert ("logs", "DescribeLogStreams") in {
        (call.service, call.action) for call in bench.emulator.calls
    }


def test_calls_to_s3_have_method_bucket_and_key(bench: Workbench) -> None:
    bench.put("in/a.txt")
    assert bench.emulator.calls == [
        ApiCall("s3", "PUT", 200, "client", "PUT", bucket="reviews", key="in/a.txt")
    ]


def test_calls_tell_containers_from_clients(bench: Workbench) -> None:
    bench.put("in/a.txt")
    bench.run(READ)
    assert [(call.caller, call.method) for call in bench.emulator.calls if "in/" in call.key] == [
        ("client", "PUT"),
        ("container", "GET"),
    ]


def test_calls_leave_out_what_the_service_itself_does(bench: Workbench) -> None:
    bench.put("in/a.txt")
    bench.run("", ProcessingInputs=[code_input(), s3_input("data", "s3://reviews/in/")])
    assert [call.action for call in bench.emulator.calls] == [
        "PUT",
        "PUT",
        "CreateProcessingJob",
    ]


def test_a_refused_call_is_recorded(bench: Workbench) -> None:
    bench.emulator.faults.throttle("DescribeProcessingJob")
    bench.refusal(bench.describe)
    assert [(call.action, call.status) for call in bench.emulator.calls] == [
        ("DescribeProcessingJob", 400)
    ]


def test_calls_to_other_services_are_recorded(bench: Workbench) -> None:
    import boto3

    assert boto3.client("sts").get_caller_identity()["Account"] == "123456789012"
    assert [(call.service, call.action) for call in bench.emulator.calls] == [
        ("sts", "GetCallerIdentity")
    ]
