"""The networks in whose features videos are compared, and where their weights come from."""
