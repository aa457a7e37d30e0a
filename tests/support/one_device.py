"""A stand-in for a GPU: tensors of the `meta` device, which must not meet those of the CPU."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("meta")  # shapes without values
MEETING = ("aten::_to_copy", "aten::copy_", "aten::index.Tensor")  # operators that may have tensors of two devices


class OneDevice(TorchDispatchMode):
    """Fails at an operator whose tensors are of several devices; numbers, as on a GPU, may come from the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor) and value.dim()]
        devices = {value.device.type for value in tensors}
        assert len(devices) < 2 or func.name() in MEETING, f"{func.name()} of tensors of {' and '.join(devices)}"
        return func(*args, **(kwargs or {}))
