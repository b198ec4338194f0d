"""Dagster's view of the pipeline: assets, partitions, checks, and the state of the instance.

In: the lake, the settings, jobs of ``compute``. Out: materializations, check results, failures.
"""
