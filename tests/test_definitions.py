from __future__ import annotations

import json
import subprocess
import sys

from reviewsum_assets.assets.checks import grouped_reviews_checks, merged_summaries_checks
from reviewsum_assets.assets.quality_checks import canary_check, summary_quality_checks
from reviewsum_assets.definitions import defs

CHECKS = (
    grouped_reviews_checks,
    canary_check,
    merged_summaries_checks,
    summary_quality_checks,
)


def test_loading_definitions_loads_no_heavy_library() -> None:
    heavy = ["torch", "transformers", "accelerate", "sagemaker", "boto3"]
    code = (
        "import sys, json, reviewsum_assets.definitions; "
        f"print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(loaded.stdout) == []


def test_every_asset_is_described_owned_and_grouped() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.group_name == "summaries", spec.key


def test_every_check_is_described() -> None:
    specs = [spec for check in CHECKS for spec in check.check_specs]
    assert len(specs) == 16
    assert all(spec.description for spec in specs)


def test_the_graph_is_that_of_the_pipeline() -> None:
    graph = {
        spec.key.to_user_string(): sorted(dep.asset_key.to_user_string() for dep in spec.deps)
        for spec in defs.resolve_all_asset_specs()
    }
    assert graph == {
        "review_dumps": [],
        "grouped_reviews": ["review_dumps"],
        "summarizer_model": [],
        "checkpoint_plan": ["grouped_reviews", "summarizer_model"],
        "chunk_summaries": ["checkpoint_plan", "summarizer_model"],
        "checkpoint_files": ["chunk_summaries"],
        "merged_summaries": ["checkpoint_files", "checkpoint_plan"],
    }
