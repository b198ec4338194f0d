from __future__ import annotations

import json
import subprocess
import sys

from reviewsum_assets.definitions import defs


def test_loading_definitions_loads_no_heavy_library() -> None:
    heavy = ["torch", "transformers", "accelerate", "sagemaker", "boto3"]
    code = (
        "import sys, json, reviewsum_assets.definitions; "
        f"print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(loaded.stdout) == []


def test_the_graph_is_that_of_the_pipeline_and_all_of_it_is_described() -> None:
    specs = list(defs.resolve_all_asset_specs())
    graph = {
        spec.key.to_user_string(): sorted(dep.asset_key.to_user_string() for dep in spec.deps)
        for spec in specs
    }
    assert graph == {
        "review_dumps": [],
        "grouped_reviews": ["review_dumps"],
        "product_facts": ["grouped_reviews"],
        "summarizer_model": [],
        "checkpoint_plan": ["grouped_reviews", "summarizer_model"],
        "chunk_summaries": ["checkpoint_plan", "summarizer_model"],
        "checkpoint_files": ["chunk_summaries"],
        "merged_summaries": ["checkpoint_files", "checkpoint_plan"],
        "summary_evidence": ["merged_summaries", "product_facts"],
        "summary_report": ["merged_summaries", "product_facts", "summary_evidence"],
    }
    checks = [spec for check in defs.asset_checks or () for spec in check.check_specs]
    assert len(checks) == 18
    assert all(spec.description for spec in specs)
    assert all(check.description for check in checks)
