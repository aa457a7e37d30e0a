"""Predictions that lie in files, as subject of an evaluation."""
