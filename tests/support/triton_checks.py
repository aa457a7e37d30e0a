"""Triton kernels without a GPU: run by Triton's interpreter on the CPU, or compiled for a GPU that is not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trivd.ops.cuda import library
from trivd.ops.operator import Operator

HAS_GPU = torch.cuda.is_available()
INTERPRETED = pytest.param(
    torch.device("cpu"), id="interpreted", marks=pytest.mark.skipif(HAS_GPU, reason="kernels are compiled here")
)
COMPILED = pytest.param(
    torch.device("cuda"),
    id="compiled",
    marks=[pytest.mark.cuda, pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")],
)
DEVICES = [INTERPRETED, COMPILED]  # of tests that are to run on both


class _TritonForAll(TorchDispatchMode):
    """Dispatch our operators to their Triton kernels, whatever the device of their tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operator = Operator.instances.get(func.name())
        return (func if operator is None else operator.compiled)(*args, **(kwargs or {}))


@contextmanager
def triton_on_the_cpu(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within, all operations run by the interpreter, those that only a GPU fuses too."""
    patch.setattr(library, "fused", lambda x, module=None: x.dtype in library.TYPES)
    with _TritonForAll():
        yield


@contextmanager
def triton_on(device: torch.device) -> Iterator[None]:
    """Within, all operations on the device run as on a GPU with Triton: a CPU has its interpreter."""
    if device.type == "cuda":
        yield
        return
    with pytest.MonkeyPatch.context() as patch, triton_on_the_cpu(patch):
        yield


def close(ours: Tensor, plain: Tensor, dtype: torch.dtype) -> None:
    """Assert that values of a kernel are those of the plain form, up to the rounding of the type."""
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(ours.double(), plain.double(), rtol=tolerance, atol=tolerance)
