"""I3D's weights from whatever file people have, identified by content; nothing in such a file is ever run."""
