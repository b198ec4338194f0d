"""A lake behind an endpoint of its own, with credentials that only a profile has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.pipeline import texts, write_dump
from tests.support.processing import ProcessingEmulator
from tests.support.ready_models import put_ready_model
from tests.support.sagemaker import lake_on


@pytest.fixture
def profile(
    processing: ProcessingEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Lake:
    """A lake in a private bucket, and a profile in place of the variables with its keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    credentials.write_text("[work]\naws_access_key_id = ofwork\naws_secret_access_key = secret\n")
    config.write_text("[profile work]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    processing.faults.private_bucket()
    return lake_on(processing)


def test_a_run_reads_and_writes_with_the_profiles_credentials(
    profile: Lake, tmp_path: Path, pegasus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_ready_model(profile, pegasus)
    dump = write_dump(tmp_path / "dump.csv", texts(3))
    for name, value in {"MAX_LENGTH": "16", "MIN_LENGTH": "4", "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"REVIEWSUM_{name}", value)
    command = [str(Path(sys.executable).with_name("reviewsum")), "run", "--lake", profile.uri]
    done = subprocess.run(
        [*command, "--dump", str(dump), "--model", str(pegasus)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (profile.get(places.MERGED_CSV) or b"").count(b"\n") == 4
