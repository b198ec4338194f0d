"""The code on the GPU: a job spec comes in, checkpoint files and manifests go out; no Dagster.

``run_processing`` is the entry point, ``parent`` the parent process, ``worker`` one process per
device, ``summarizer`` the way from products to summaries; engines/ generate, models/ prepare files.
"""
