"""Metrics, one a file: features or frames in, numbers out."""
