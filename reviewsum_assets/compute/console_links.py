"""Where the AWS console shows a Processing job and its log."""

from __future__ import annotations

from urllib.parse import quote

from reviewsum_assets.compute.processing_api import LOG_GROUP


def console_links(region: str, name: str) -> dict[str, str]:
    """URLs of the job's page and of its log, by what they show."""
    console = f"https://{region}.console.aws.amazon.com"
    # The console wants names quoted twice, with dollars for the outer quotes.
    group, stream = (
        quote(quote(text, safe="")).replace("%", "$") for text in (LOG_GROUP, f"{name}/")
    )
    return {
        "job_page": f"{console}/sagemaker/home?region={region}#/processing-jobs/{name}",
        "job_log": (
            f"{console}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/"
            f"{group}$3FlogStreamNameFilter$3D{stream}"
        ),
    }
