from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from reviewsum_assets.errors import JobError
from reviewsum_assets.job.models.files import PublishedFile
from reviewsum_assets.job.progress import JobResult, open_pipes, read_progress, read_result
from reviewsum_assets.job.run_processing import EXIT_USAGE, main
from reviewsum_assets.job.spec import Host
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import pipes_context_key, progress_key, result_key

DAMAGED = [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b'{"method": "log"}', b"[" * 100_000]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../passwd", "a/../../b", "", ".", "//etc/passwd", "a\0b"]
)
def test_a_published_file_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(ValidationError, match="String should match pattern"):
        PublishedFile(name=name, size=1, sha256="")


@pytest.mark.parametrize("content", [None, b'{"name": "../../x"}', *DAMAGED], ids=range(9))
def test_a_missing_or_damaged_job_spec_is_named(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    spec, message = tmp_path / "spec.json", tmp_path / "message"
    if content is not None:
        spec.write_bytes(content)
    assert main(["--spec", str(spec), "--message_file", str(message)]) == EXIT_USAGE
    assert message.read_text().startswith(f"job spec {spec} cannot be read: ")
    assert message.read_text().isprintable()
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "content",
    [*DAMAGED, b'{"current_host": "a", "hosts": ["b"]}', b'{"current_host": "a", "hosts": 5}'],
    ids=range(len(DAMAGED) + 2),
)
def test_damaged_hosts_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "resourceconfig.json"
    path.write_bytes(content)
    with pytest.raises(JobError, match="does not say which host this is"):
        Host.read(path)


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_result_or_progress_of_a_host_is_ignored(
    lake: Lake, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    good = JobResult(landed=(1,), already_valid=(), failed={}, stopped=False, seconds=1.0)
    lake.put(result_key("job", "a"), content)
    lake.put(progress_key("job", "a"), content)
    assert read_result(lake, "job") is None
    assert read_progress(lake, "job") is None
    lake.put(result_key("job", "b"), good.model_dump_json().encode())
    assert read_result(lake, "job") == good
    assert "a/result.json cannot be read" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_job_whose_context_is_damaged_works_without_it(lake: Lake, content: bytes) -> None:
    lake.put(pipes_context_key("job"), content)
    with open_pipes(lake, "job") as pipes:
        assert pipes is None
