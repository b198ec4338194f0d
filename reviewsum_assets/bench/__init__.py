"""Benchmarks of the package itself, by stage: how fast, in how much memory, against what."""
