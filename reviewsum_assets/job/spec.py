"""Specification of a job, and its share for one of several hosts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from reviewsum_assets import __version__
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint, Recipe, require_recipes
from reviewsum_assets.errors import JobError, first_problem
from reviewsum_assets.settings import EngineSettings
from reviewsum_assets.storage.records import PlaceName

LOCAL_HOST = "local"
Item = TypeVar("Item")


class _ResourceConfig(BaseModel):
    current_host: str
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Host:
    """One of ``count`` hosts, counted from 0; the first speaks for the job."""

    name: str = LOCAL_HOST
    index: int = 0
    count: int = 1

    @classmethod
    def read(cls, resource_config: Path | None) -> Host:
        """Read this host from SageMaker's ``/opt/ml/config/resourceconfig.json``.

        https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html

        Raises:
            JobError: The file does not name this host.
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

    def share(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Return this host's items, dealt one by one, since the first checkpoints are largest."""
        return tuple(items[self.index :: self.count])


class ProvidedInputs(BaseModel):
    """Directories with copies of lake objects, placed beside the job before it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grouped_reviews: str  # holds checkpoint inputs at their keys
    model: str  # one ready model


class Budget(BaseModel):
    """Limit of a job, which ends at a checkpoint boundary before it exceeds the limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_seconds: float  # wall-clock, from the job's first line of code
    reason: str  # the limit behind it, for people


class JobSpec(BaseModel):
    """Checkpoints to compute, their inputs and settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PlaceName
    lake: str
    plan_id: PlaceName
    checkpoints: tuple[PlannedCheckpoint, ...]
    recipes: dict[str, Recipe]
    engine: EngineSettings
    recompute: bool = False
    package_version: str = __version__
    provided: ProvidedInputs | None = None
    budget: Budget | None = None
    seconds_per_chunk: float | None = None  # expected of one worker
    chunks_per_product: float | None = None  # at most about so many; None: not counted

    @model_validator(mode="after")
    def _is_whole(self) -> JobSpec:
        require_recipes(self.recipes, self.checkpoints)
        return self

    @property
    def work_hash(self) -> str:
        """Hash of the work: independent of name, budget and prediction."""
        content = self.model_dump_json(
            exclude={"name", "budget", "seconds_per_chunk", "chunks_per_product"}
        )
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def products(self) -> int:
        """Products of all checkpoints."""
        return sum(planned.products for planned in self.checkpoints)

    def overlaps(self, other: JobSpec) -> bool:
        """Return whether both compute some checkpoint."""
        mine = {planned.number for planned in self.checkpoints}
        return not mine.isdisjoint(planned.number for planned in other.checkpoints)


def read_spec(path: Path) -> JobSpec:
    """Read a spec from a file.

    Raises:
        JobError: The file is missing or holds no spec.
    """
    try:
        return JobSpec.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise JobError(f"job spec {path} cannot be read: {reason}") from error


def job_spec(
    plan: Plan,
    checkpoints: tuple[PlannedCheckpoint, ...],
    *,
    lake: str,
    engine: EngineSettings,
    recompute: bool = False,
    budget: Budget | None = None,
    seconds_per_chunk: float | None = None,
    chunks_per_product: float | None = None,
) -> JobSpec:
    """Make a spec whose name identifies its work: equal work has an equal name."""
    spec = JobSpec(
        name="",
        lake=lake,
        plan_id=plan.plan_id,
        checkpoints=checkpoints,
        recipes={c.recipe: plan.recipes[c.recipe] for c in checkpoints},
        engine=engine,
        recompute=recompute,
        budget=budget,
        seconds_per_chunk=seconds_per_chunk,
        chunks_per_product=chunks_per_product,
    )
    # Letters, digits and hyphens, so that every compute service accepts it.
    name = f"reviewsum-{plan.plan_id}-{spec.work_hash[:8]}"
    return spec.model_copy(update={"name": name})
