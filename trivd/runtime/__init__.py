"""The foundation of all layers: errors, files, the console, the machine, processes, pixels."""
