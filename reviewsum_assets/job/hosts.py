"""The hosts of a job: which of them this is, and which checkpoints are its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from reviewsum_assets.errors import JobError, first_problem

Item = TypeVar("Item")

LOCAL_HOST = "local"


class _ResourceConfig(BaseModel):
    current_host: str
    hosts: tuple[str, ...]


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

        Raises:
            JobError: it holds something else.
        """
        if resource_config is None:
            return cls()
        try:
            found = _ResourceConfig.model_validate_json(resource_config.read_bytes())
            hosts = sorted(found.hosts, key=lambda name: (len(name), name))
            return cls(found.current_host, hosts.index(found.current_host), len(hosts))
        except (OSError, ValueError) as error:
            reason = first_problem(error) if isinstance(error, ValidationError) else error
            raise JobError(
                f"{resource_config} does not say which host this is: {reason}"
            ) from error

    @property
    def is_first(self) -> bool:
        """Whether this host speaks for the job where one has to."""
        return self.index == 0

    def share(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """This host's items: dealt in turn, since the first checkpoints are the largest."""
        return tuple(items[self.index :: self.count])
