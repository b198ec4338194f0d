"""Quality of summaries: scores beside human summaries and baselines, and drift between workers.

In: merged tables, reviews and human summaries, or canary summaries in checkpoint manifests.
Out: one ``EvaluationResult`` per call, or one ``Drift`` per group of differing workers.
"""
