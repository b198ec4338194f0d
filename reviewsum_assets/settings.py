"""The environment of a process: variables that look like settings, and encodings of terminals."""

from __future__ import annotations

import difflib
import io
import os
import re
import sys
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from reviewsum_assets.errors import SettingsError, first_names

ENVIRONMENT_PREFIX = "REVIEWSUM_"

# What else the project gives such names: its job's log and identity, and what its tests go by.
_OWN = re.compile(rf"{ENVIRONMENT_PREFIX}(LOG_LEVEL|SPEC_HASH|TEST_\w+)=")
# Kubernetes and Docker tell every container of a service that is called "reviewsum...".
_OF_SERVICES = re.compile(r"\w+(_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)|_PORT=(tcp|udp)://)")


def refuse_unknown(settings: Collection[str]) -> None:
    """Refuse an environment that has a variable with our prefix which nothing reads.

    Empty ones count as not set.

    Args:
        settings: the names of all there are.

    Raises:
        SettingsError: names each such variable, and the setting that it may have meant.
    """
    unknown = [
        name
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(ENVIRONMENT_PREFIX)
        and value
        and _setting(name) not in settings
        and not any(pattern.match(f"{name}={value}") for pattern in (_OWN, _OF_SERVICES))
    ]
    if unknown:
        hints = [_hint(name, settings) for name in unknown]
        raise SettingsError(f"{first_names(hints, '; ')}: correct or unset what is none")


def escape_what_terminals_lack() -> None:
    """Print characters that the encoding of standard output or error lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _setting(variable: str) -> str:
    return variable[len(ENVIRONMENT_PREFIX) :].lower()


def _hint(variable: str, settings: Collection[str]) -> str:
    nearest = difflib.get_close_matches(_setting(variable), settings, 1)
    meant = f"did you mean {ENVIRONMENT_PREFIX}{nearest[0].upper()}?" if nearest else ""
    return f"{variable} is not a setting ({meant or 'docs/settings.md lists all settings'})"


def _split_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _split_pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(separator for _, separator, _ in pairs):
        # Not shown: it may hold what nobody is to read.
        raise ValueError("expected NAME=VALUE,NAME=VALUE")
    return {name.strip(): text.strip() for name, _, text in pairs}


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_split_pairs)]


SLACK_TOKEN_VARIABLE = "SLACK_BOT_TOKEN"
SMTP_PASSWORD_VARIABLE = "SMTP_PASSWORD"


class AutomationSettings(BaseModel):
    """When runs start automatically, and the receivers of alerts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refresh_cron: str = Field(
        "",
        description="Times of the schedule that launches refresh, as five cron fields in UTC. "
        "Empty: the schedule is stopped, and runs daily at 5:00 once it is started "
        "in the UI.",
    )
    webserver_url: str = Field(
        "", description="Address of the Dagster UI for links in alerts (https://...)."
    )
    slack_channel: str = Field(
        "",
        description="Slack channel that receives alerts about failed runs; needs "
        f"{SLACK_TOKEN_VARIABLE} in the environment.",
    )
    slack_api_url: str = Field(
        "https://slack.com/api/",
        description="Address of the Slack API; GovSlack has a different one.",
    )
    alert_email_to: Names = Field(
        (),
        description="Recipients of e-mail about failed runs (separated by commas); needs "
        f"{SMTP_PASSWORD_VARIABLE} in the environment.",
    )
    alert_email_from: str = Field("", description="Sender address of alert e-mails.")
    smtp_host: str = Field("", description="Mail server that sends alert e-mails.")
    smtp_security: Literal["SSL", "STARTTLS"] = Field(
        "SSL", description="Encryption of the connection to the mail server."
    )
    smtp_port: int = Field(
        0, ge=0, description="Port of the mail server; 0: 465 for SSL, 587 for STARTTLS."
    )
    smtp_user: str = Field("", description="User name on the mail server. Empty: alert_email_from.")

    @property
    def sends_alerts(self) -> bool:
        """Whether anybody is told of failed runs."""
        return bool(self.slack_channel or self.alert_email_to)

    @model_validator(mode="after")
    def _email_is_whole(self) -> AutomationSettings:
        if self.alert_email_to and not (self.alert_email_from and self.smtp_host):
            raise ValueError("alert_email_to needs alert_email_from and smtp_host")
        return self


# Empty is what a shell makes of a variable of its own that it does not know.
_FROM_ENVIRONMENT = SettingsConfigDict(
    env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, frozen=True
)

# A batch of 36,000 source tokens, ten times that of the replaced script, takes 8 to 20 GiB of a
# GPU, by engine and length of the chunks; weights and libraries take another 4. Modelled from the
# sizes of weights, activations and caches in bfloat16, not measured.
_GPU_FACTOR = 10
_GPU_GIB = 22.5  # of an A10G or L4, which is sold as 24 GB
_GPU_GIB_OF_MODEL = 4.0


class SummarySettings(BaseModel):
    """The settings that change what a summary says: part of every product's input hash.

    Lengths are in tokens of the model's tokenizer, characters are Unicode code points.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Literal["join", "hierarchical"] = Field(
        "join",
        description="Combination of a product's chunk summaries. join: side by side. "
        "hierarchical: summarized again, level by level, until one summary is left.",
    )
    max_chars: int = Field(
        3500, ge=1, description="Characters of a product's reviews that the model reads, with join."
    )
    hierarchical_chars: int = Field(
        200_000,
        ge=1,
        description="Characters of a product's reviews that the model reads, with hierarchical: "
        "about 45,000 tokens in 160 chunks.",
    )
    review_order: Literal["helpful", "representative"] = Field(
        "helpful",
        description="Choice of reviews. helpful: the most helpful, then the most recent. "
        "representative: the same within critical, mixed and favourable reviews, "
        "each group in proportion to its share and with at least one review.",
    )
    chunk_tokens: int = Field(
        300, ge=8, description="Exclusive upper limit of tokens per chunk, end token included."
    )
    encoder_tokens: int = Field(
        512,
        ge=8,
        description="Maximum number of tokens of the encoder's input; the rest is truncated.",
    )
    num_beams: int = Field(3, ge=1, description="Number of beams of the beam search.")
    max_length: int = Field(128, ge=4, description="Maximum length of a chunk summary in tokens.")
    min_length: int = Field(32, ge=0, description="Minimum length of a chunk summary in tokens.")
    length_penalty: float = Field(0.8, description="Exponent of the length in the score of a beam.")
    early_stopping: bool = Field(
        True, description="End a beam search as soon as num_beams summaries are finished."
    )
    renormalize_logits: bool = Field(
        True,
        description="Renormalize probabilities under min_length, so that every engine gives the "
        "same summaries; false scores as the replaced script did.",
    )

    @property
    def window_chars(self) -> int:
        """Characters of a product's reviews that the strategy reads."""
        return self.hierarchical_chars if self.strategy == "hierarchical" else self.max_chars

    def deciding(self) -> dict[str, Any]:
        """What decides a summary, by name, for hashing.

        Without what the strategy does not look at; and settings that were added later are part of
        it only where they differ from what was done before, so that old hashes still hold.
        """
        idle = {"strategy", "hierarchical_chars"} if self.strategy == "join" else {"max_chars"}
        if self.review_order == "helpful":
            idle.add("review_order")
        return self.model_dump(exclude=idle)

    @model_validator(mode="after")
    def _lengths_fit(self) -> SummarySettings:
        if self.min_length >= self.max_length:
            raise ValueError(
                f"min_length {self.min_length} must be below max_length {self.max_length}"
            )
        if self.chunk_tokens > self.encoder_tokens:
            raise ValueError(
                f"chunk_tokens {self.chunk_tokens} must not exceed encoder_tokens "
                f"{self.encoder_tokens}: the end of every chunk would be cut off"
            )
        if self.strategy == "hierarchical" and 2 * self.max_length > self.encoder_tokens:
            raise ValueError(
                f"strategy hierarchical joins two summaries at least, so that max_length "
                f"{self.max_length} must be at most half of encoder_tokens {self.encoder_tokens}"
            )
        return self


class EngineSettings(BaseModel):
    """The settings that change how fast summaries come, not what they say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["auto", "ctranslate2", "transformers"] = Field(
        "auto",
        description="Library that generates summaries. auto: ctranslate2 where the model "
        "converts and gives the same summaries as with transformers, otherwise "
        "transformers, which is several times slower.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Device of the workers. auto: every GPU that the engine can use, otherwise "
        "the CPU; on SageMaker instance types with GPUs the same as cuda.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="Precision of the computation. auto: float32 on a CPU, bfloat16 on a GPU "
        "that supports it. int8 (ctranslate2 only) is faster and changes some "
        "summaries.",
    )
    workers: int = Field(
        0,
        ge=0,
        description="Number of worker processes; 0: one per GPU, or as many as cores and memory "
        "allow.",
    )
    batch_size: int = Field(
        40,
        ge=1,
        description="Products per pool of a CPU worker; their chunks are batched together. Ten "
        "times as many on a GPU of 24 GB, on others in proportion to their memory.",
    )
    chunk_batch_size: int = Field(
        12,
        ge=1,
        description="Full chunks per batch on a CPU. Ten times as many on a GPU of 24 GB, on "
        "others in proportion to their memory.",
    )
    batch_tokens: int = Field(
        0,
        ge=0,
        description="Initial number of source tokens per batch, padding included; reduced when "
        "memory runs out. 0: as many as chunk_batch_size full chunks.",
    )

    canary: bool = Field(
        True,
        description="Record and compare every worker's summaries of four fixed texts, which "
        "shows differences between GPUs, engines and libraries.",
    )

    def pool_products(self, gpu_gib: float | None) -> int:
        """Products whose chunks a worker pools: some ten batches, so that the last is no loss.

        Args:
            gpu_gib: memory of the worker's GPU in GiB, 0 if unknown; None on a CPU.
        """
        return round(self.batch_size * _batch_factor(gpu_gib))

    def tokens_per_batch(self, chunk_tokens: int, gpu_gib: float | None) -> int:
        """Source tokens per batch, padding included: ``chunk_batch_size`` full chunks on a CPU.

        Args:
            chunk_tokens: tokens of a full chunk.
            gpu_gib: memory of the worker's GPU in GiB, 0 if unknown; None on a CPU.
        """
        full_chunks = round(self.chunk_batch_size * _batch_factor(gpu_gib))
        return self.batch_tokens or full_chunks * chunk_tokens


def _batch_factor(gpu_gib: float | None) -> float:
    """How much more a device takes at a time than the replaced script gave it."""
    if gpu_gib is None:
        return 1.0
    if not gpu_gib:
        return float(_GPU_FACTOR)
    share = (gpu_gib - _GPU_GIB_OF_MODEL) / (_GPU_GIB - _GPU_GIB_OF_MODEL)
    return max(1.0, _GPU_FACTOR * share)


class SageMakerSettings(BaseModel):
    """Where and how a SageMaker Processing job runs; used with ``compute`` = sagemaker only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role_arn: str = Field(
        "", description="ARN of the IAM role of the job; required with compute = sagemaker."
    )
    instance_type: str = Field("ml.g5.12xlarge", description="Instance type of the job.")
    instance_count: int = Field(
        1,
        ge=1,
        le=100,
        description="Number of instances of a job; checkpoints are distributed among them.",
    )
    fallback_instance_types: Names = Field(
        (),
        description="Instance types to use, in this order, where the first has no capacity "
        "(separated by commas).",
    )
    volume_gb: int = Field(100, ge=1, description="Size of each instance's disk in GB.")
    volume_kms_key: str = Field("", description="KMS key that encrypts the disk of each instance.")
    image_uri: str = Field(
        "",
        description="Container image. Empty: AWS's image with PyTorch and transformers for GPUs.",
    )
    image_cuda: Literal["12", "13"] = Field(
        "12",
        description="CUDA version of AWS's image. 13 has newer libraries and needs driver 580 "
        "on the instances.",
    )
    image_python: str = Field(
        "",
        pattern=r"^(3\.\d+)?$",
        description="Python version of the image, such as 3.12, for which packages are "
        "downloaded. Empty: the version in image_uri (py312).",
    )
    package_source: Literal["lake", "index", "image"] = Field(
        "lake",
        description="Source of the packages that a job installs. lake: wheels that are "
        "downloaded once and stored on the lake, so that the job needs no package "
        "index. index: a package index. image: nothing is installed, the image "
        "contains all packages.",
    )
    subnets: Names = Field((), description="Subnets of the job (separated by commas).")
    security_groups: Names = Field(
        (), description="Security groups of the job (separated by commas)."
    )
    encrypt_traffic: bool = Field(
        False,
        description="Encrypt traffic between instances, where a policy requires it; the "
        "instances of a job exchange no data.",
    )
    job_tags: Pairs = Field({}, description="Additional tags of the job (NAME=VALUE,NAME=VALUE).")
    job_environment: Pairs = Field(
        {},
        description="Additional environment variables of the job (NAME=VALUE,NAME=VALUE). AWS "
        "shows them to every user who may describe the job: no secrets.",
    )
    launch_attempts: int = Field(
        3, ge=1, description="Maximum number of launches of a job while AWS has no capacity for it."
    )
    retry_seconds: float = Field(
        120.0,
        ge=0,
        description="Pause in seconds before the second launch; doubled before each further one.",
    )
    poll_seconds: float = Field(
        15.0, gt=0, description="Seconds between two status requests for a job."
    )

    @property
    def instance_types(self) -> tuple[str, ...]:
        """Those a job may get, in order of preference."""
        return tuple(dict.fromkeys((self.instance_type, *self.fallback_instance_types)))


class QualitySettings(BaseModel):
    """Where the asset checks warn; nothing that is computed depends on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_quarantined_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Tolerated share of rows, or products, in quarantine; a check warns above it.",
    )
    max_defective_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Tolerated share of summaries with the same defect; a check warns above it.",
    )
    min_summary_words: int = Field(
        5, ge=0, description="Minimum number of words of a summary; fewer are a defect."
    )
    max_summary_words: int = Field(
        400, ge=1, description="Maximum number of words of a summary; more are a defect."
    )
    min_canary_rouge_l: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Minimum ROUGE-L F1 between a worker's canary summaries and those of the "
        "first worker; nothing is merged below it.",
    )
    english_summaries: bool = Field(
        True, description="Count summaries in other languages than English as defective."
    )


class Settings(
    BaseSettings,
    AutomationSettings,
    QualitySettings,
    SummarySettings,
    EngineSettings,
    SageMakerSettings,
):
    """All settings, validated once, where they are read."""

    model_config = SettingsConfigDict(**_FROM_ENVIRONMENT, extra="forbid", populate_by_name=True)

    lake: str = Field(
        "reviewsum_lake",
        min_length=1,
        description="Root of all data: a directory or s3://bucket/prefix.",
    )
    dumps: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Dump files to read in place of the lake's review_dumps/ (separated like "
        "PATH).",
    )

    min_review_chars: int = Field(
        20,
        ge=0,
        description="Length in characters up to which reviews are dropped.",
    )
    min_reviews: int = Field(
        5,
        ge=1,
        description="Minimum number of reviews of a product in raw dumps; products with fewer "
        "are dropped.",
    )

    top_k: int = Field(
        30700,
        ge=1,
        description="Number of products to summarize: those with the most reviews.",
        validation_alias=AliasChoices("REVIEWSUM_TOP_K", "REVIEWSUM_END_PRODUCT"),
    )
    checkpoint_size: int = Field(100, ge=1, description="Products per checkpoint.")
    max_vanished_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Maximum share of the selected products that a new plan may lose. Beyond it "
        "the plan is not made current and the merged table stays, until a run with "
        "a higher value confirms the loss; 1 allows any loss.",
    )
    spreadsheet_csv: bool = Field(
        False,
        description="Write a second merged table, merged_summaries_spreadsheet.csv, in which "
        "texts that begin like a formula are preceded by an apostrophe.",
    )

    model: str = Field(
        "",
        description="Model directory, lake path, or NAME@REVISION on the Hugging Face hub. "
        "Empty: the lake's pegasus_model/, otherwise the model of the last plan, "
        "otherwise the demo model.",
    )

    compute: Literal["local", "sagemaker"] = Field(
        "local",
        description="Place where Processing jobs run. local: a process of this machine. "
        "sagemaker: SageMaker Processing.",
    )
    max_cost_usd: float = Field(
        0,
        ge=0,
        description="Maximum cost of a job in USD, kept at checkpoint boundaries; 0: no limit.",
    )
    max_runtime: int = Field(
        0,
        ge=0,
        description="Maximum runtime of a job in seconds, kept at checkpoint boundaries; 0: no "
        "limit.",
    )
    usd_per_hour: float | None = Field(
        None,
        ge=0,
        description="Price per instance and hour in USD. None: the known price of the instance "
        "type.",
    )

    @model_validator(mode="before")
    @classmethod
    def _split_dumps(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("dumps"), str):
            return {**values, "dumps": tuple(p for p in values["dumps"].split(os.pathsep) if p)}
        return values

    def summary_settings(self) -> SummarySettings:
        """The part that decides what a summary says."""
        return SummarySettings(**_fields_of(SummarySettings, self))

    def engine_settings(self) -> EngineSettings:
        """The part that decides how fast summaries come."""
        return EngineSettings(**_fields_of(EngineSettings, self))

    def sagemaker_settings(self) -> SageMakerSettings:
        """The part that decides how a job runs on SageMaker."""
        return SageMakerSettings(**_fields_of(SageMakerSettings, self))


def _fields_of(part: type[BaseModel], settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in part.model_fields}


def load_settings(**overrides: Any) -> Settings:
    """Read settings from the environment; ``overrides`` win.

    Raises:
        SettingsError: a name is unknown or a value cannot work; names each of them.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise _invalid(error) from error


class _AutomationEnvironment(BaseSettings, AutomationSettings):
    model_config = SettingsConfigDict(**_FROM_ENVIRONMENT, extra="ignore")


def load_automation_settings() -> AutomationSettings:
    """Read the settings of automation and alerts alone.

    They are needed to load the definitions, and to tell of runs that other settings have failed.

    Raises:
        SettingsError: one of them cannot work, or a variable means none.
    """
    _refuse_unknown_variables()
    try:
        return _AutomationEnvironment()
    except ValidationError as error:
        raise _invalid(error) from error


def _refuse_unknown_variables() -> None:
    refuse_unknown((*Settings.model_fields, "end_product"))


def _invalid(error: ValidationError) -> SettingsError:
    # What we ourselves have found wrong is a sentence that names the settings.
    problems = "; ".join(
        ": ".join([*map(str, problem["loc"]), problem["msg"].removeprefix("Value error, ")])
        for problem in error.errors()
    )
    return SettingsError(
        f"{problems} (settings come from {ENVIRONMENT_PREFIX}<NAME>, options of `reviewsum run`, "
        "or the run's resource configuration)"
    )
