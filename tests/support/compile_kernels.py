"""Compile the Triton kernels of some operators for a GPU that is not there.

    python compile_kernels.py CAPABILITY DTYPE given|ones OPERATORS...

With `ones`, all numbers that kernels are given are 1, of which Triton makes constants. Prints the name of each operator
whose kernels have been compiled.
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

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def converted(value: Any, dtype: torch.dtype) -> Any:
    """An argument as on a GPU: features and weights in `dtype`, all else in float32 or `dtype`, whichever is wider."""
    if isinstance(value, list | tuple):
        return [converted(item, dtype) for item in value]
    if isinstance(value, Tensor) and value.is_floating_point():
        value = as_in_networks(value).detach()
        return value.to(dtype if value.dim() > 3 else torch.promote_types(dtype, torch.float32))
    return dtype if value is torch.float64 else value


def main(capability: str, dtype: str, numbers: str, *names: str) -> None:
    driver.set_active(AbsentGPU(int(capability)))

    def only_compile(kernel: Any, grid: Any) -> Any:
        def launch(*arguments: Any, **constants: Any) -> None:
            if numbers == "ones":
                arguments = tuple(1 if type(argument) is int else argument for argument in arguments)
            kernel.warmup(*arguments, grid=grid, **constants)

        return launch

    JITFunction.__getitem__ = only_compile
    for name in names:
        operator, make, _ = CASES[name]
        assert operator.compiled is not None
        operator.compiled(*(converted(argument, getattr(torch, dtype)) for argument in make()))
        print(name, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
