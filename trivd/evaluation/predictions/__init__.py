"""Predictions in files, as the subject of an evaluation."""
