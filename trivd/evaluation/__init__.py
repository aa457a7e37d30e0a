"""Scores of a model, or of predictions in files, on held-out clips."""
