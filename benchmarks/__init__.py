"""Benchmarks: suites that measure ratios, and their dated results. They are not part of the package."""
