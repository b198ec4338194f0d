"""Quality of summaries: scores beside human ones, reviews and baselines; drift between workers.

In: merged tables, reviews and human summaries, or canary summaries in checkpoint manifests.
Out: one ``EvaluationResult`` per call, or one ``Drift`` per group of differing workers.
"""
