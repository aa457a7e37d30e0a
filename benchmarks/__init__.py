"""Suites that measure speed as ratios, single scripts, and dated results; not part of the installed package."""
