"""Data sets: the layouts in which they lie in folders, and the embedded one."""
