"""What every layer stands on: errors, files, the console, the machine, processes, pixels."""
