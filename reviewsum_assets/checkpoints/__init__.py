"""Plans, checkpoints, and the merged table; no Dagster.

In: grouped reviews and settings (``planning``), CSVs and manifests of jobs (``manifest``). Out: the
current plan, verdicts on checkpoints (``validity``), the merged table (``merge``), and reports on
them (``quality``, ``explanation``).
"""
