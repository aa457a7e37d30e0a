"""Functions of tensors that a GPU runs as one CUDA graph: a single launch in place of thousands."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 3  # calls before a function is recorded, in which libraries choose their algorithms and kernels are compiled

Replay = Callable[[], Any]
Record = Callable[[Replay], Replay]


def record_cuda_graph(function: Replay) -> Replay:
    """Record what `function` launches, without running it; the result launches all of it again.

    Its tensors stay where they are: each replay writes to those that the recording has returned.
    """
    torch.cuda.empty_cache()  # the graph has memory of its own
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function()

    def replay() -> Any:
        graph.replay()
        return outputs

    return replay


def call_directly(function: Replay) -> Replay:
    """In place of `record_cuda_graph`, where there is no GPU: the same way through a step or a prediction."""
    return function


class Graphed:
    """A function of tensors, recorded after some calls and then replayed.

    The function must launch the same work whatever its inputs' values are, and must not wait for the device.

    Args:
        function: of tensors on the device; of one size each, at all calls.
        record: how it is recorded.
    """

    def __init__(self, function: Callable[..., Any], record: Record = record_cuda_graph) -> None:
        self._function = function
        self._record = record
        self._inputs: list[Tensor] = []
        self._calls = 0
        self._replay: Replay | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's result for inputs on the device; from the recording on, the next call overwrites it."""
        if not self._inputs:
            self._inputs = [value.clone() for value in inputs]
        for static, value in zip(self._inputs, inputs, strict=True):
            static.copy_(value)
        if self._replay is None and self._calls >= WARM_UPS:
            self._replay = self._record(partial(self._function, *self._inputs))
        if self._replay is not None:
            return self._replay()
        self._calls += 1
        return self._function(*self._inputs)
