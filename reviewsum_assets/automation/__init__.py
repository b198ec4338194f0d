"""Automatic work: jobs, their schedule, sensors, and alerts of failed runs.

In: the assets, the lake, Dagster's record of runs. Out: requested runs, stopped jobs, messages.
"""
