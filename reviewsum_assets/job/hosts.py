"""The hosts of a job: which of them this is, and which checkpoints are its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")

LOCAL_HOST = "local"


@dataclass(frozen=True)
class Host:
    """One of ``count`` hosts, counted from 0."""

    name: str = LOCAL_HOST
    index: int = 0
    count: int = 1

    @classmethod
    def read(cls, resource_config: Path | None) -> Host:
        """This host, as SageMaker describes it in ``/opt/ml/config/resourceconfig.json``.

        The file holds ``current_host`` and ``hosts``:
        https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
        """
        if resource_config is None:
            return cls()
        config = json.loads(resource_config.read_bytes())
        hosts = sorted(config["hosts"], key=lambda name: (len(name), name))
        return cls(config["current_host"], hosts.index(config["current_host"]), len(hosts))

    @property
    def is_first(self) -> bool:
        """Whether this host speaks for the job where one has to."""
        return self.index == 0

    def share(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """This host's items: dealt in turn, since the first checkpoints are the largest."""
        return tuple(items[self.index :: self.count])
