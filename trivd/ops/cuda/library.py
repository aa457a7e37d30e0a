"""Where the Triton kernels are used, and how they are launched.

Where Triton is missing, the plain PyTorch form of every operation takes their place.
"""

import contextlib
import functools
import importlib
import os
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INDICES = (torch.int32, torch.int64)

_TWICE: ContextVar[bool] = ContextVar("differentiable twice", default=False)


@functools.cache
def kernels(module: str) -> ModuleType | None:
    """The module of this package with the kernels of `trivd.ops.<module>`; None where the plain form is to be used.

    That is everywhere if the environment variable TRIVD_PLAIN is set and not empty when it is first asked for.
    """
    if os.environ.get("TRIVD_PLAIN") or not _has_triton():
        return None
    return importlib.import_module(f"trivd.ops.cuda.{module}")


@functools.cache
def _has_triton() -> bool:
    """Whether Triton can be imported; says once, by a warning, if it cannot."""
    try:
        importlib.import_module("triton")
    except ImportError as error:
        warnings.warn(
            f"Triton cannot be imported ({error}); the slower plain PyTorch form gives the same results. It comes with "
            "PyTorch's CUDA builds for Linux: pip install triton.",
            stacklevel=2,
        )
        return False
    return True


def fused(x: Tensor, module: str | None = None) -> bool:
    """Whether several operations on x are to run as one kernel of `module`: on a GPU with Triton.

    There, each launch costs as long as a small operation. On a CPU they run one after the other. Without a module,
    whether one function of PyTorch over a list of tensors is to replace many calls.
    """
    wanted = x.is_cuda and not differentiable_twice()
    return wanted and (module is None or (x.dtype in TYPES and kernels(module) is not None))


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """In the context nothing is `fused`: PyTorch's own operations have second derivatives, kernels of ours have none.

    That is enough for discriminators, in which all kernels are fused ones.
    """
    token = _TWICE.set(True)
    try:
        yield
    finally:
        _TWICE.reset(token)


def differentiable_twice() -> bool:
    """Whether this is in the context of `twice_differentiable`."""
    return _TWICE.get()


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a Triton kernel on the device of its tensors.

    Args:
        kernel: decorated by `triton.jit`.
        grid: number of programs along up to three axes; with none of them, nothing is done.
        arguments: in the kernel's order: tensors, tuples of tensors, numbers.
        constants: of its `tl.constexpr` parameters, and Triton's own (num_warps, num_stages).
    """
    if 0 in grid:
        return
    device = next(a.device for a in arguments if isinstance(a, Tensor))
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):  # Triton launches on the current one
            kernel[grid](*arguments, **constants)
    else:
        kernel[grid](*arguments, **constants)
