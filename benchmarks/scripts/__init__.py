"""Measurements outside the suites, each run as `python -m benchmarks.scripts.NAME`."""
