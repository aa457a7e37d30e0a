"""Layers that a recursion uses at every step, whose weights' gradients are computed once for all steps.

Backpropagation through time needs only the state's gradient at each step; summed over all steps, the gradient of a
weight is one large product instead of many small ones, each of which would write a whole weight.

A use and the end of the recursion are autograd functions and no operators of their own: an operator keeps nothing
between two calls, and these keep the records that the weights' gradients are computed from. Without gradients a use is
a convolution and `trivd::activate`, which compile and export pass through.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from trivd.ops.cuda import library
from trivd.ops.gates import Parts
from trivd.ops.precision import without_autocast

WIDE = 256  # channels of a convolution whose time is that of its sums
WIDEST = 768  # channels; beyond, the gradient of a convolution's weight no longer fits in the processor's caches
BLOCK = 16  # channels
ALIGNED = 16  # outputs; a layer that has no multiple of these is slow on a GPU, which pads it again at every call

Needs = tuple[bool, bool, bool]  # whether gradients of weight, bias and given are asked for


def joint_convolutions(channels: Mapping[str, int]) -> list[list[str]]:
    """Groups of convolutions of one input that are fastest as one: all of them, unless that is wide.

    A wide one gains nothing from more width. And a few channels more, such as a selection map's 9, would cost it
    more than one of their own does, because libraries divide channels into blocks.

    Args:
        channels: name -> output channels.

    Returns:
        the names, grouped.
    """
    if sum(channels.values()) < WIDE:
        return [list(channels)]
    groups: list[list[str]] = []
    odd = [name for name, count in channels.items() if count % BLOCK]
    for name in channels:
        if name in odd:
            continue
        if not groups or sum(channels[other] for other in (*groups[-1], name)) > WIDEST:
            groups.append([])
        groups[-1].append(name)
    return [*groups, odd] if odd else groups


def missing_outputs(weight: Tensor, outputs: int) -> int:
    """Outputs that a layer lacks to run well on the device of its weight; see `Parts.padding`."""
    return -outputs % ALIGNED if library.fused(weight, "gates") else 0


def with_zeros(rows: Tensor, count: int) -> Tensor:
    """A weight or bias (out, ...) followed by zeros, (out + count, ...)."""
    return torch.cat([rows, rows.new_zeros(count, *rows.shape[1:])]) if count else rows


class Recursion:
    """The shared layers of one unroll of a recurrent unit.

    Every layer is shared before `begin`; every use must depend on the state that `begin` returns, because its backward,
    which computes the weights' gradients, runs after that of all uses.

    Args:
        dtype: in which its layers compute.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.layers: list[Shared] = []
        self.tensors: list[Tensor | None] = []

    def share(self, weight: Tensor, bias: Tensor | None, parts: Parts, given: Tensor | None = None) -> "Shared":
        """A layer to be used at every step.

        Args:
            weight: (out, in, k, k) of a convolution with zero padding or (out, in) of a linear layer, differentiable.
            bias: (out,) or None.
            parts: division of the output, and activations.
            given: what is added to the output at each step, (steps * B, out, H, W); one step serves for all.
        """
        layer = Shared(weight.detach(), None if bias is None else bias.detach(), parts, given)
        self.layers.append(layer)
        self.tensors += [weight, bias, given]
        return layer

    def begin(self, state: Tensor) -> Tensor:
        """The state before the first step, to be used in place of `state`."""
        if not self.layers or not torch.is_grad_enabled():
            return state
        tensors, self.tensors = self.tensors, []
        begun: Tensor = _Begin.apply(state, self.layers, *tensors)
        return begun


class Shared:
    """A convolution or linear layer that is used at every step of one unroll; see `Recursion.share`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, parts: Parts, given: Tensor | None) -> None:
        self.weight = weight
        self.bias = bias
        self.parts = parts
        self.given = None if given is None else given.detach()
        self.uses = 0
        self.transposed: Tensor | None = None
        self.task = -1  # the backward pass that the records belong to
        self.records: dict[int, tuple[int, Tensor, Tensor]] = {}  # use -> step, input, gradient of the output

    def __call__(self, x: Tensor, step: int = 0) -> list[Tensor]:
        """The activated parts for an input (B, in, H, W) or (B, in); `step` says which of `given` to add."""
        return list(_Use.apply(x, self, step)) if torch.is_grad_enabled() else self.evaluate(x, step)

    def evaluate(self, x: Tensor, step: int) -> list[Tensor]:
        """The activated parts, without a derivative."""
        if self.weight.dim() == 2:
            raw = F.linear(x, self.weight, self.bias)
        else:
            raw = F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)
        if self.given is None:
            return self.parts.activate(raw, None)
        batch = x.shape[0]  # not len(x): to export it is a number that may change
        start = 0 if self.given.shape[0] == batch else step * batch
        return self.parts.activate(raw, self.given[start : start + batch])

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient of the input from that of the output."""
        if self.transposed is None:
            # A forward pass with the mirrored weight: faster than the library's backward, and mirrored only once.
            mirrored = self.weight.flip(tuple(range(2, self.weight.dim()))).transpose(0, 1)
            layout = torch.channels_last if self.weight.dim() == 4 else torch.contiguous_format
            self.transposed = mirrored.contiguous(memory_format=layout)
        if self.weight.dim() == 2:
            return F.linear(gradient, self.transposed)
        return F.conv2d(gradient, self.transposed, padding=self.weight.shape[-1] // 2)

    def record(self, use: int, step: int, x: Tensor, gradient: Tensor) -> None:
        """Keep what the weights' gradients are computed from; an interrupted backward's are dropped."""
        task = torch._C._current_graph_task_id()
        if task != self.task:
            self.task, self.records = task, {}
        self.records[use] = step, x, gradient

    def gradients(self, needs: Needs) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of weight, bias and `given`, as far as needed, from all records."""
        records = [self.records[use] for use in sorted(self.records)]
        self.records, self.transposed = {}, None
        if not records:
            return None, None, None
        steps, inputs, outputs = zip(*records, strict=True)
        gradient = torch.cat(outputs)
        for_weight = for_bias = for_given = None
        if needs[0] and self.weight.dim() == 2:
            for_weight = gradient.mT @ torch.cat(inputs)
        elif needs[0]:
            shape = list(self.weight.shape)
            for_weight = conv2d_weight(torch.cat(inputs), shape, gradient, padding=shape[-1] // 2)
        if needs[1]:
            for_bias = gradient.sum([0, *range(2, gradient.dim())])
        if needs[2] and self.given is not None:
            for_given = self._given_gradient(self.given, gradient, steps)
        return for_weight, for_bias, for_given

    @staticmethod
    def _given_gradient(given: Tensor, gradient: Tensor, steps: tuple[int, ...]) -> Tensor:
        by_step = gradient.unflatten(0, (len(steps), -1))
        total = len(given) // by_step.shape[1]
        if total == 1:
            return by_step.sum(0)
        if steps == tuple(range(total)):
            return gradient
        whole = torch.zeros_like(given)
        for step, part in zip(steps, by_step, strict=True):  # steps that nothing depends on have no gradient
            whole.unflatten(0, (total, -1))[step].copy_(part)
        return whole


class _Begin(torch.autograd.Function):
    """Passes the first state through. Its backward is the last of the recursion."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, layers: list[Shared], *tensors: Tensor | None) -> Tensor:
        ctx.layers = layers
        return state.view_as(state)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients: list[Tensor | None] = []
        with without_autocast(gradient):  # backward computes in the forward's type, wherever it is called
            for i, layer in enumerate(ctx.layers):
                gradients += layer.gradients(ctx.needs_input_grad[2 + 3 * i : 5 + 3 * i])
        return gradient, None, *gradients


class _Use(torch.autograd.Function):
    """One use of a shared layer. Its backward gives the input's gradient and records the rest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Shared, step: int) -> tuple[Tensor, ...]:
        outputs = tuple(layer.evaluate(x, step))
        ctx.save_for_backward(x, *outputs)
        ctx.set_materialize_grads(False)
        ctx.layer, ctx.step, ctx.use = layer, step, layer.uses
        layer.uses += 1
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None]:
        if all(gradient is None for gradient in gradients):
            return None, None, None
        x, *outputs = ctx.saved_tensors
        with without_autocast(x):
            gradient = ctx.layer.parts.backward(gradients, outputs)
            ctx.layer.record(ctx.use, ctx.step, x, gradient)
            return ctx.layer.input_gradient(gradient), None, None
