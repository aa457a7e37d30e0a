"""How many kernels a GPU would be told to start, counted without one: every operator that computes, by kind.

Tensors stay on the CPU, and their values do not matter. They may be small: the number hardly depends on sizes.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any
from unittest.mock import patch

from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.jit import KernelInterface

from trivd.ops.cuda import library
from trivd.ops.operator import Operator


class Work(StrEnum):
    """Kinds of kernels."""

    CONVOLUTIONS = "convolutions, forward and backward"
    BIASES = "biases of convolutions and their gradients"
    PRODUCTS = "matrix products"
    OURS = "kernels of trivd"
    COPIES = "casts, copies, concatenations"
    LISTS = "lists of tensors: optimizer, moving average"
    FILLS = "constants"
    REST = "elementwise, sums, pooling"


# Operators of aten by their work; all others are elementwise.
NAMES = {
    Work.PRODUCTS: "mm bmm addmm baddbmm mv addmv addmv_ dot vdot",
    Work.COPIES: "_to_copy copy_ clone cat repeat",
    Work.FILLS: "zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full fill_ zero_ arange "
    "scalar_tensor select_backward slice_backward",
}
WORK = {name: work for work, names in NAMES.items() for name in names.split()}
# Operators that start nothing: they make room for values, wait for one, or run on the CPU wherever the networks are.
FREE = {
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "set_"),
    *("lift_fresh", "detach_"),
    *("_unsafe_view", "_local_scalar_dense", "promote_types", "is_same_size", "is_pinned"),
    *("randn", "rand", "randint", "randperm", "normal_", "uniform_", "random_"),
}


class Launches(TorchDispatchMode):
    """Counts within it what would be launched.

    A list of tensors counts as one launch (a GPU takes some tens to some hundreds of tensors in each), a convolution
    with a bias as two, its backward pass as one for each gradient.

    Args:
        triton: whether operators of ours run as their Triton kernels, else as their plain PyTorch forms.
    """

    def __init__(self, triton: bool) -> None:
        super().__init__()
        self.counts: Counter[tuple[Work, str]] = Counter()  # by kind and operator
        self._triton = triton

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operator = Operator.instances.get(func.name())
        if operator is None:
            if func._can_decompose():  # such as a padding: a constant and a copy
                with self:
                    return func.decompose(*args, **(kwargs or {}))
            self._count(func, args)
            return func(*args, **(kwargs or {}))
        if not self._triton:
            with self:
                return operator.plain(*args)
        with self:  # what is done beside the kernels counts too
            operator.compiled(*args)
        return operator.plain(*args)  # the kernels have not run

    def add(self, kernel: Any) -> None:
        """Count a Triton kernel."""
        self.counts[Work.OURS, kernel.__name__.strip("_")] += 1

    def by_kind(self) -> dict[Work, int]:
        """Launches of each kind."""
        found = dict.fromkeys(Work, 0)
        for (kind, _), count in self.counts.items():
            found[kind] += count
        return found

    def _count(self, func: Any, args: Any) -> None:
        namespace, name = func.name().split(".")[0].split("::")
        if namespace in ("aten", "prims") and name not in FREE and not _is_view(func):
            self._count_aten(name, args)

    def _count_aten(self, name: str, args: Any) -> None:
        if name == "convolution":
            self.counts[Work.CONVOLUTIONS, name] += 1
            self.counts[Work.BIASES, name] += args[2] is not None
        elif name == "convolution_backward":
            for_input, for_weight, for_bias = args[-1]
            self.counts[Work.CONVOLUTIONS, name] += for_input + for_weight
            self.counts[Work.BIASES, name] += for_bias
        elif name == "constant_pad_nd":
            self.counts[Work.FILLS, name] += 1
            self.counts[Work.COPIES, name] += 1
        elif name.startswith(("_foreach_", "_fused_")):
            self.counts[Work.LISTS, name] += 1
        else:
            self.counts[WORK.get(name, Work.REST), name] += 1


def _is_view(func: Any) -> bool:
    """Whether an operator returns tensors that share memory with its arguments, and writes nothing."""
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


@contextmanager
def launches(triton: bool) -> Iterator[Launches]:
    """Count all launches within; see `Launches`. With Triton, what a GPU alone fuses is fused."""
    counter = Launches(triton)

    def count(kernel: Any, grid: Any) -> Any:
        return lambda *arguments, **constants: counter.add(kernel)

    with (
        patch.object(library, "fused", lambda x, module=None: triton),
        patch.object(KernelInterface, "__getitem__", count),
        counter,
    ):
        yield counter
