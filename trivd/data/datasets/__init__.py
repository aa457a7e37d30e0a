"""How data sets lie in folders, which videos they hold, and the embedded one."""
