"""Readers of videos: files, numbered images, arrays, and TensorFlow's records."""
