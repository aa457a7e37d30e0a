"""I3D's weights from any kind of file, identified by their content; nothing in such a file is ever run."""
