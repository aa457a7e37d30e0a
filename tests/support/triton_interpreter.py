"""Where there is no GPU, Triton kernels are run by Triton's interpreter on the CPU.

Triton reads that whenever a kernel is defined, its own among them: importing torch.compile, as trivd does, is too late.
"""

import os
from importlib.util import find_spec
from typing import Any

import torch


def loop_over_numbers_of_any_numpy() -> None:
    """Let bounds of loops be arguments of kernels: numpy 2.4 refuses Triton 3.6's int() of an array of one number."""
    from triton.runtime import interpreter

    original = interpreter._patch_lang_tensor

    def patch(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patch


if not torch.cuda.is_available() and find_spec("triton") is not None:
    os.environ["TRITON_INTERPRET"] = "1"
    loop_over_numbers_of_any_numpy()
