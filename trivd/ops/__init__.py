"""Numerical operations, one a file: the plain PyTorch form, kernels by device, and the derivative."""
