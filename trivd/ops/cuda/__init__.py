"""Kernels for CUDA in Triton, beside the C++ ones of `cpu`: a module for each of `trivd.ops` that has some.

Triton comes with PyTorch's CUDA builds. Nothing of this package is imported before an operation meets a tensor on a
GPU; only `library` needs no Triton.
"""
