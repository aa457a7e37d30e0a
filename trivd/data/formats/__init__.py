"""Readers of video formats: video files, numbered images, arrays, and TensorFlow's records."""
