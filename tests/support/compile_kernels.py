"""Compile the Triton kernels of the operators named on the command line, in bfloat16, for a GPU that is not there.

Prints the name of each operator whose kernels have been compiled.
"""

import sys
from typing import Any

import torch
from operator_cases import CASES, as_in_networks
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction


class AbsentGPU:
    """As much of Triton's driver as its compiler asks for."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)  # an H100

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def in_bfloat16(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [in_bfloat16(item) for item in value]
    if isinstance(value, Tensor) and value.is_floating_point():
        value = as_in_networks(value).detach()
        return value.to(torch.bfloat16) if value.dim() > 3 else value.to(torch.float32)
    return value


def main(names: list[str]) -> None:
    driver.set_active(AbsentGPU())
    # A launch only compiles.
    JITFunction.__getitem__ = lambda kernel, grid: lambda *a, **c: kernel.warmup(*a, grid=grid, **c)  # type: ignore[method-assign]
    for name in names:
        operator, make, _ = CASES[name]
        assert operator.compiled is not None
        operator.compiled(*map(in_bfloat16, make()))
        print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
