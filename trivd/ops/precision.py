"""The types in which operations compute, and sums that keep float32's digits."""

import contextlib

import torch
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type in which convolutions of `x` run: autocast's where it is on, else that of `x`."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def exact_dtype(x: Tensor) -> torch.dtype:
    """The type of sums over `x`: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Keep autocast away from sums that bfloat16 would spoil; shape-only devices have none."""
    if torch.amp.is_autocast_available(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return contextlib.nullcontext()


def without_autocast(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """`full_precision` where autocast would change the type of `x`; entering a context costs, so only then."""
    return contextlib.nullcontext() if compute_dtype(x) == x.dtype else full_precision(x)
