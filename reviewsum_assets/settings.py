"""Every setting, with default, description, and limits; the one reading of the environment.

A setting that is mistyped must stop a run before it costs anything: unknown names and variables
are refused. The docstring below a field is its description in docs/settings.md and in Dagster.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from reviewsum_assets.environment import ENVIRONMENT_PREFIX, Names, Pairs, Paths, load, split_pairs

# Fields of a review, by the names that the setting ``columns`` takes.
ReviewField = Literal[
    "product_id", "review_text", "reviewer_id", "review_title", "rating",
    "helpful_votes", "style", "review_date", "verified_purchase",
]  # fmt: skip
_Natural = Annotated[int, Field(ge=0)]
_Positive = Annotated[int, Field(ge=1)]
_Amount = Annotated[float, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for field in cls.model_fields.values():
            field.description = " ".join((field.description or "").split())


_Kind = TypeVar("_Kind", bound=BaseModel)


class AutomationSettings(_Group):
    """When runs start automatically, and the receivers of alerts."""

    refresh_cron: str = ""
    """Times of the schedule that launches refresh, as five cron fields in UTC. Empty: the schedule
    is stopped, and runs daily at 5:00 once it is started in the UI."""
    webserver_url: str = ""
    """Address of the Dagster UI for links in alerts (https://...)."""
    slack_channel: str = ""
    """Slack channel that receives alerts about failed runs; needs SLACK_BOT_TOKEN in the
    environment."""
    slack_api_url: str = "https://slack.com/api/"
    """Address of the Slack API; GovSlack has a different one."""
    alert_email_to: Names = ()
    """Recipients of e-mail about failed runs (separated by commas); needs SMTP_PASSWORD in the
    environment."""
    alert_email_from: str = ""
    """Sender address of alert e-mails."""
    smtp_host: str = ""
    """Mail server that sends alert e-mails."""
    smtp_security: Literal["SSL", "STARTTLS"] = "SSL"
    """Encryption of the connection to the mail server."""
    smtp_port: _Natural = 0
    """Port of the mail server; 0: 465 for SSL, 587 for STARTTLS."""
    smtp_user: str = ""
    """User name on the mail server. Empty: alert_email_from."""

    @model_validator(mode="after")
    def _email_is_whole(self) -> AutomationSettings:
        if self.alert_email_to and not (self.alert_email_from and self.smtp_host):
            raise ValueError("alert_email_to needs alert_email_from and smtp_host")
        return self


class SummarySettings(_Group):
    """The settings that change what a summary says: part of every product's input hash.

    Lengths are in tokens of the model's tokenizer, characters are Unicode code points.
    """

    strategy: Literal["join", "hierarchical", "two_sided"] = "join"
    """Combination of a product's chunk summaries. join: side by side. hierarchical: summarized
    again, level by level, until one summary is left. two_sided: the same for the reviews of 4 stars
    and more and for those with fewer, so that praise and complaints are summarized apart; needs
    dumps with stars."""
    max_chars: _Positive = 3500
    """Characters of a product's reviews that the model reads, with join."""
    hierarchical_chars: _Positive = 200_000
    """Characters of a product's reviews that the model reads, with hierarchical and two_sided:
    about 45,000 tokens in 160 chunks."""
    review_order: Literal["helpful", "representative", "consensus"] = "helpful"
    """Choice of reviews. helpful: the most helpful, then the most recent. representative: the same
    within critical, mixed and favourable reviews, each group in proportion to its share and with at
    least one review. consensus: first the reviews that hold the product's highlights, then the
    most helpful."""
    chunk_tokens: int = Field(300, ge=8)
    """Exclusive upper limit of tokens per chunk, end token included; at most the positions of the
    model, if it has a limit."""
    encoder_tokens: int = Field(512, ge=8)
    """Maximum number of tokens of the encoder's input, or the positions of the model if it has
    fewer; the rest is truncated."""
    num_beams: _Positive = 3
    """Number of beams of the beam search."""
    max_length: int = Field(128, ge=4)
    """Maximum length of a chunk summary in tokens."""
    min_length: _Natural = 32
    """Minimum length of a chunk summary in tokens."""
    length_penalty: float = 0.8
    """Exponent of the length in the score of a beam."""
    early_stopping: bool = True
    """End a beam search as soon as num_beams summaries are finished."""
    renormalize_logits: bool = True
    """Renormalize probabilities under min_length, so that every engine gives the same summaries;
    false scores as the replaced script did."""

    @property
    def is_two_sided(self) -> bool:
        """Whether liked and disliked reviews are summarized apart."""
        return self.strategy == "two_sided"

    @property
    def joins_summaries(self) -> bool:
        """Whether chunk summaries are summarized again until one is left."""
        return self.strategy != "join"

    @property
    def window_chars(self) -> int:
        """Characters of a product's reviews that the strategy reads."""
        return self.hierarchical_chars if self.joins_summaries else self.max_chars

    def deciding(self) -> dict[str, Any]:
        """Settings that decide a summary, for hashing, without those that the strategy ignores.

        The default of ``review_order`` is left out, so that hashes from before this setting hold.
        """
        idle = {"max_chars"} if self.joins_summaries else {"strategy", "hierarchical_chars"}
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
        if self.joins_summaries and 2 * self.max_length > self.encoder_tokens:
            raise ValueError(
                f"strategy {self.strategy} joins two summaries at least, so that max_length "
                f"{self.max_length} must be at most half of encoder_tokens {self.encoder_tokens}"
            )
        return self


class EngineSettings(_Group):
    """The settings that change how fast summaries come, not what they say."""

    engine: Literal["auto", "ctranslate2", "transformers"] = "auto"
    """Library that generates summaries. auto: ctranslate2 where the model converts and gives the
    same summaries as with transformers, otherwise transformers, which is several times slower."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the workers. auto: every GPU that the engine can use, otherwise the CPU; on
    SageMaker instance types with GPUs the same as cuda."""
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    """Precision of the computation. auto: float32 on a CPU, bfloat16 on a GPU that supports it.
    int8 (ctranslate2 only) is faster and changes some summaries."""
    workers: _Natural = 0
    """Number of worker processes; 0: one per GPU, or as many as cores and memory allow."""
    batch_size: _Positive = 40
    """Products per pool of a CPU worker; their chunks are batched together. Ten times as many on a
    GPU of 24 GB, on others in proportion to their memory."""
    chunk_batch_size: _Positive = 12
    """Full chunks per batch on a CPU. Ten times as many on a GPU of 24 GB, on others in proportion
    to their memory."""
    batch_tokens: _Natural = 0
    """Initial number of source tokens per batch, padding included; reduced when memory runs out. 0:
    as many as chunk_batch_size full chunks."""

    canary: bool = True
    """Record and compare every worker's summaries of four fixed texts, which shows differences
    between GPUs, engines and libraries."""


class SageMakerSettings(_Group):
    """Where and how a SageMaker Processing job runs; used with ``compute`` = sagemaker only."""

    role_arn: str = ""
    """ARN of the IAM role of the job; required with compute = sagemaker."""
    instance_type: str = "ml.g5.12xlarge"
    """Instance type of the job."""
    instance_count: int = Field(1, ge=1, le=100)
    """Number of instances of a job; checkpoints are distributed among them."""
    fallback_instance_types: Names = ()
    """Instance types to use, in this order, where the first has no capacity (separated by
    commas)."""
    volume_gb: _Positive = 100
    """Size of each instance's disk in GB."""
    volume_kms_key: str = ""
    """KMS key that encrypts the disk of each instance."""
    image_uri: str = ""
    """Container image. Empty: AWS's image with PyTorch and transformers for GPUs."""
    image_cuda: Literal["12", "13"] = "12"
    """CUDA version of AWS's image. 13 has newer libraries and needs driver 580 on the instances."""
    image_python: str = Field("", pattern=r"^(3\.\d+)?$")
    """Python version of the image, such as 3.12, for which packages are downloaded. Empty: the
    version in image_uri (py312)."""
    package_source: Literal["lake", "index", "image"] = "lake"
    """Source of the packages that a job installs. lake: wheels that are downloaded once and stored
    on the lake, so that the job needs no package index. index: a package index. image: nothing is
    installed, the image contains all packages."""
    subnets: Names = ()
    """Subnets of the job (separated by commas)."""
    security_groups: Names = ()
    """Security groups of the job (separated by commas)."""
    encrypt_traffic: bool = False
    """Encrypt traffic between instances, where a policy requires it; the instances of a job
    exchange no data."""
    job_tags: Pairs = {}
    """Additional tags of the job (NAME=VALUE,NAME=VALUE)."""
    job_environment: Pairs = {}
    """Additional environment variables of the job (NAME=VALUE,NAME=VALUE). AWS shows them to every
    user who may describe the job: no secrets."""
    launch_attempts: _Positive = 3
    """Maximum number of launches of a job while AWS has no capacity for it."""
    retry_seconds: _Amount = 120.0
    """Pause in seconds before the second launch; doubled before each further one."""
    poll_seconds: float = Field(15.0, gt=0)
    """Seconds between two status requests for a job."""

    @property
    def instance_types(self) -> tuple[str, ...]:
        """Instance types that a job may get, in order of preference."""
        return tuple(dict.fromkeys((self.instance_type, *self.fallback_instance_types)))


class QualitySettings(_Group):
    """Where the asset checks warn; nothing that is computed depends on them."""

    max_quarantined_share: _Share = 0.01
    """Tolerated share of rows, or products, in quarantine; a check warns above it."""
    max_defective_share: _Share = 0.05
    """Tolerated share of summaries with the same defect; a check warns above it."""
    min_summary_words: _Natural = 5
    """Minimum number of words of a summary; fewer are a defect."""
    max_summary_words: _Positive = 400
    """Maximum number of words of a summary; more are a defect."""
    max_unsupported_share: _Share = 0.75
    """Tolerated share of sentences of summaries that no review supports; a check warns above it.
    Words are compared, so that a model that paraphrases has more of them than one that copies."""
    min_canary_rouge_l: _Share = 0.6
    """Minimum ROUGE-L F1 between a worker's canary summaries and those of the first worker; nothing
    is merged below it."""
    english_summaries: bool = True
    """Count summaries in other languages than English as defective."""


class MergeSettings(_Group):
    """How checkpoints become the merged table; no summary is computed again for them."""

    repeated_sentences: Literal["drop", "keep"] = "drop"
    """Sentences of a merged summary that say what an earlier one said, as those of two chunks may:
    dropped or kept. The checkpoint files keep them."""
    summary_words: _Natural = 0
    """Maximum number of words of a merged summary: a longer one keeps the sentences that most of
    the reviews support that the model read, in their order. 0: no limit."""
    spreadsheet_csv: bool = False
    """Write a second merged table, merged_summaries_spreadsheet.csv, in which texts that begin like
    a formula are preceded by an apostrophe."""


_FROM_ENVIRONMENT = SettingsConfigDict(
    env_prefix=ENVIRONMENT_PREFIX,
    env_ignore_empty=True,  # a shell makes an unknown variable of its own an empty one
)


class Settings(
    BaseSettings,
    AutomationSettings,
    QualitySettings,
    MergeSettings,
    SummarySettings,
    EngineSettings,
    SageMakerSettings,
):
    """All settings, validated where they are read."""

    model_config = SettingsConfigDict(**_FROM_ENVIRONMENT, extra="forbid", populate_by_name=True)

    lake: str = Field("reviewsum_lake", min_length=1)
    """Root of all data: a directory or s3://bucket/prefix."""
    dumps: Paths = ()
    """Dump files to read in place of the lake's review_dumps/ (separated like PATH)."""

    columns: Annotated[dict[ReviewField, str], NoDecode, BeforeValidator(split_pairs)] = Field({})
    """Columns of dumps in a layout of one's own, as FIELD=COLUMN,FIELD=COLUMN; they replace the
    known names of the field."""
    verified_only: bool = False
    """Read only reviews of verified purchases."""
    reviews_since: date | None = None
    """Read only reviews of this day (YYYY-MM-DD) or later; reviews without a date are left out."""
    min_review_chars: _Natural = 20
    """Length in characters up to which reviews are dropped."""
    min_reviews: _Positive = 5
    """Minimum number of reviews of a product in raw dumps; products with fewer are dropped."""

    top_k: int = Field(
        30700, ge=1, validation_alias=AliasChoices("REVIEWSUM_TOP_K", "REVIEWSUM_END_PRODUCT")
    )
    """Number of products to summarize: those with the most reviews."""
    checkpoint_size: _Positive = 100
    """Products per checkpoint."""
    max_vanished_share: _Share = 0.05
    """Maximum share of the selected products that a new plan may lose. Beyond it the plan is not
    made current and the merged table stays, until a run with a higher value confirms the loss; 1
    allows any loss."""
    report_products: _Positive = 100_000
    """Maximum number of products in the report: those with the most reviews."""

    model: str = ""
    """Model directory, lake path, or NAME@REVISION on the Hugging Face hub. Empty: the lake's
    pegasus_model/, otherwise the model of the last plan, otherwise the demo model."""

    compute: Literal["local", "sagemaker"] = "local"
    """Place where Processing jobs run. local: a process of this machine. sagemaker: SageMaker
    Processing."""
    max_cost_usd: _Amount = 0
    """Maximum cost of a job in USD, kept at checkpoint boundaries; 0: no limit."""
    max_runtime: _Natural = 0
    """Maximum runtime of a job in seconds, kept at checkpoint boundaries; 0: no limit."""
    usd_per_hour: float | None = Field(None, ge=0)
    """Price per instance and hour in USD. None: the known price of the instance type."""

    def summary_settings(self) -> SummarySettings:
        """The part that decides the content of a summary."""
        return self._part(SummarySettings)

    def engine_settings(self) -> EngineSettings:
        """The part that decides the speed of a job."""
        return self._part(EngineSettings)

    def merge_settings(self) -> MergeSettings:
        """The part that decides how checkpoints are merged."""
        return self._part(MergeSettings)

    def _part(self, part: type[_Kind]) -> _Kind:
        return part(**{name: getattr(self, name) for name in part.model_fields})


class _AutomationEnvironment(BaseSettings, AutomationSettings):
    model_config = SettingsConfigDict(**_FROM_ENVIRONMENT, extra="ignore")


def load_settings(**overrides: Any) -> Settings:
    """Read settings from the environment; ``overrides`` win.

    Raises:
        SettingsError: a name is unknown or a value cannot work; names each of them.
    """
    return load(Settings, _known(), **overrides)


def load_automation_settings() -> AutomationSettings:
    """Read the settings of automation and alerts only.

    They are needed to load the definitions, and to report runs that failed on other settings.

    Raises:
        SettingsError: a value cannot work, or a variable is not a setting.
    """
    return load(_AutomationEnvironment, _known())


def _known() -> tuple[str, ...]:
    return (*Settings.model_fields, "end_product")
