"""Registration of operations with PyTorch: profiles name them, and compile and export pass through them.

`torch.library.custom_op` would do the same with one decorator, but its checks cost a small training step on a CPU 4% of
its time, and these registrations 1 to 2%.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trivd.ops.cuda import library

LIBRARY = torch.library.Library("trivd", "DEF")

Implementation = Callable[..., Any]


class Operator:
    """The operator `trivd::name`, to be called like a function.

    On a GPU it is the function of that name in `trivd.ops.cuda.<module>`, where <module> is that of the plain form in
    `trivd.ops`; it is imported with Triton when first called.

    Args:
        name: in PyTorch's namespace `trivd`.
        plain: the PyTorch form, which every device takes that has no kernel registered. Its annotations are the schema;
            results must not share memory with arguments.
        fake: sizes and types of the results, from arguments without values.
    """

    instances: ClassVar[dict[str, "Operator"]] = {}  # by full name

    def __init__(self, name: str, plain: Implementation, fake: Implementation) -> None:
        self.name = f"trivd::{name}"
        schema = torch.library.infer_schema(plain, mutates_args=())
        LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        LIBRARY.impl(name, plain, "CompositeExplicitAutograd")
        torch.library.register_fake(self.name, fake, lib=LIBRARY)
        self.instances[self.name] = self
        self.plain = plain
        self.module = plain.__module__
        self.overload = getattr(torch.ops.trivd, name).default
        self.kernel("CUDA")(self.compiled)

    def __call__(self, *arguments: Any) -> Any:
        if torch.autograd.forward_ad._current_level >= 0:  # tangents would be dropped without a word
            raise NotImplementedError(f"{self.name} has no derivative in forward mode.")
        return self.overload(*arguments)

    def kernel(self, device: str) -> Callable[[Implementation], Implementation]:
        """A decorator that registers a kernel for a device: "CPU" or "CUDA"."""

        def register(implementation: Implementation) -> Implementation:
            LIBRARY.impl(self.name, implementation, device)
            return implementation

        return register

    def compiled(self, *arguments: Any) -> Any:
        """The Triton kernel's results; those of the plain form without Triton, and for types that it does not know."""
        kernels = library.kernels(self.module.rpartition(".")[2]) if _computable(arguments) else None
        return self.plain(*arguments) if kernels is None else getattr(kernels, self.name.partition("::")[2])(*arguments)

    def derivative(self, save: Implementation, backward: Implementation) -> None:
        """Register the derivative, which has none of its own: a second backward pass raises RuntimeError.

        Args:
            save: (ctx, inputs, output), keeps what backward needs.
            backward: (ctx, gradient of each output) -> gradients of all inputs.
        """
        once = once_differentiable(backward)

        def each_apart(ctx: Any, *gradients: Any) -> Any:
            (first, *_) = gradients  # a list where the operator gives one, in which `once` would see no tensors
            return once(ctx, *(first if isinstance(first, list) else gradients))

        torch.library.register_autograd(self.name, each_apart, setup_context=save, lib=LIBRARY)


def _computable(arguments: Sequence[Any]) -> bool:
    """Whether all tensors are of types that Triton kernels compute in, or indices."""
    return all(
        _computable(argument)
        if isinstance(argument, list | tuple)
        else argument.dtype in library.TYPES + library.INDICES
        for argument in arguments
        if isinstance(argument, Tensor | list | tuple)
    )


def save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
    """Keep all arguments, which are tensors, for the derivative."""
    ctx.save_for_backward(*inputs)


def channels_innermost(x: Tensor) -> Tensor:
    """x (B, C, H, W), (T, B, C, H, W) or (B, C) with its channels innermost in memory: a copy only if they are not.

    Operators give their results so, whatever the layout of their arguments.
    """
    if x.dim() == 5:
        return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def empty(like: Tensor, channels: int | None = None) -> Tensor:
    """An empty tensor of the type and size of `like`, or with other channels, these innermost in memory."""
    if like.dim() == 5:
        return empty(like.flatten(0, 1), channels).unflatten(0, like.shape[:2])
    size = (like.shape[0], like.shape[1] if channels is None else channels, *like.shape[2:])
    layout = torch.channels_last if like.dim() == 4 else torch.contiguous_format
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=layout)
