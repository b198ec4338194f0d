"""The key of every object of the lake, relative to its root, in one place."""

from __future__ import annotations

import re

REVIEW_DUMPS = "review_dumps"
GROUPED_CSV = "grouping_dataset/product_grouped.csv"
GROUPED_REVIEWS = "grouped_reviews"
QUARANTINE = "quarantine"
PEGASUS_MODEL = "pegasus_model"
MODELS = "models"
PLANS = "checkpoint_plans"
CHECKPOINT_FILES = "checkpoint_files"
CHECKPOINT_MANIFESTS = "checkpoint_manifests"
CHECKPOINT_CHUNKS = "checkpoint_chunks"
SUMMARIZED_DATASET = "summarized_dataset"
MERGED_CSV = f"{SUMMARIZED_DATASET}/merged_summaries.csv"
MERGED_PARQUET = f"{SUMMARIZED_DATASET}/merged_summaries.parquet"
MERGED_SPREADSHEET = f"{SUMMARIZED_DATASET}/merged_summaries_spreadsheet.csv"
MERGED_MANIFEST = f"{SUMMARIZED_DATASET}/merged_summaries.json"
PRODUCT_FACTS = f"{SUMMARIZED_DATASET}/product_facts.parquet"
PRODUCT_FACTS_RECORD = f"{SUMMARIZED_DATASET}/product_facts.json"
SUMMARY_EVIDENCE = f"{SUMMARIZED_DATASET}/summary_evidence.parquet"
SUMMARY_EVIDENCE_RECORD = f"{SUMMARIZED_DATASET}/summary_evidence.json"
REPORT = f"{SUMMARIZED_DATASET}/report.html"
PROCESSING_JOBS = "processing_jobs"
LIVE_JOBS = "live_jobs"
JOB_STARTS = "job_starts"
JOB_LEASES = "job_leases"
JOB_CODE = "job_code"
CANARY_SUMMARIES = "canary_summaries"

_CHECKPOINT_KEY = re.compile(
    rf"(?:(?:{CHECKPOINT_FILES}|{CHECKPOINT_MANIFESTS})/checkpoint_file_(\d+)\.(?:csv|json)"
    rf"|{CHECKPOINT_CHUNKS}/checkpoint_file_(\d+)/\w+\.parquet)"
)


def checkpoint_csv(number: int) -> str:
    """Key of a checkpoint's summaries."""
    return f"{CHECKPOINT_FILES}/checkpoint_file_{number}.csv"


def checkpoint_manifest(number: int) -> str:
    """Key of the manifest that commits a checkpoint."""
    return f"{CHECKPOINT_MANIFESTS}/checkpoint_file_{number}.json"


def checkpoint_chunks(number: int, sha256: str) -> str:
    """Key of a computation's chunk summaries, by hash: the manifest of another keeps its own."""
    return f"{CHECKPOINT_CHUNKS}/checkpoint_file_{number}/{sha256}.parquet"


def checkpoint_number_of(key: str) -> int | None:
    """The checkpoint whose CSV, manifest or chunks have this key, if any."""
    match = _CHECKPOINT_KEY.fullmatch(key)
    return None if match is None else int(match[1] or match[2])


def checkpoint_input(plan_id: str, number: int) -> str:
    """Key of a checkpoint's grouped reviews; by plan, so that two planners never share one."""
    return f"{GROUPED_REVIEWS}/plans/{plan_id}/checkpoint_{number}.parquet"


def plan_document(sequence: int) -> str:
    """Key of the plan with this sequence number; the highest one is current."""
    return f"{PLANS}/plan_{sequence:06d}.json"


def plan_table(plan_id: str) -> str:
    """Key of a plan's table of products."""
    return f"{PLANS}/tables/{plan_id}.parquet"


def canary_reference(recipe_key: str) -> str:
    """Key of the canary summaries of a recipe's first worker."""
    return f"{CANARY_SUMMARIES}/{recipe_key}.json"


def model_directory(version: str) -> str:
    """Prefix of the files of one ready model."""
    return f"{MODELS}/{version}"


def converted_model_directory(version: str) -> str:
    """Prefix of a model's conversion for CTranslate2: a sibling of the model's own folder."""
    return f"{MODELS}/{version}.ctranslate2"


def spec_key(job: str) -> str:
    """Key of the job's spec."""
    return f"{PROCESSING_JOBS}/{job}/spec.json"


def taken_over_key(job: str) -> str:
    """Key of the mark of a host that found the job dead and took it over."""
    return f"{PROCESSING_JOBS}/{job}/taken_over"


def pipes_context_key(job: str) -> str:
    """Key of the Pipes context of the run that started the job."""
    return f"{PROCESSING_JOBS}/{job}/pipes_context.json"


def message_key(job: str, number: int) -> str:
    """Key of the job's Pipes message with this number; the first has number 1."""
    return f"{PROCESSING_JOBS}/{job}/messages/{number}.json"


def hosts_prefix(job: str) -> str:
    """Prefix of the results and progress of the job's hosts."""
    return f"{PROCESSING_JOBS}/{job}/hosts"


def result_key(job: str, host: str) -> str:
    """Key of a host's result, written at its end."""
    return f"{hosts_prefix(job)}/{host}/result.json"


def progress_key(job: str, host: str) -> str:
    """Key of a host's progress."""
    return f"{hosts_prefix(job)}/{host}/progress.json"


def waiting_prefix(job: str) -> str:
    """Prefix of the names of the runs that have waited for a job."""
    return f"{PROCESSING_JOBS}/{job}/waiting_runs"


def live_key(job: str) -> str:
    """Key of the note that a job may be live."""
    return f"{LIVE_JOBS}/{job}"
