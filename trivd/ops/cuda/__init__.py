"""Kernels for CUDA, beside the C++ ones of `cpu`."""
