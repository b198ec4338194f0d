"""The emulator's own way to its services: calls that the service would make behind the scenes."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from tests.support.processing.records import REGION

# Requests signed with it are neither recorded nor subject to faults.
PLATFORM_KEY = "platform"


def platform_client(service: str, url: str) -> Any:
    """A client of S3 or CloudWatch Logs on the emulator, whatever the environment says."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=PLATFORM_KEY,
        aws_secret_access_key="testing",
        config=Config(retries={"max_attempts": 2}, max_pool_connections=20),
    )
