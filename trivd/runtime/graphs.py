"""Functions of tensors that a GPU runs as one CUDA graph: a single launch in place of thousands."""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 3  # calls before a function is recorded, in which libraries choose their algorithms and kernels are compiled
KEPT_SIZES = 4  # of inputs, whose graphs are kept: each has memory of its own

Replay = Callable[[], Any]
Record = Callable[[Replay], Replay]


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """Where graphs of a device are recorded, all of them: a stream has library workspaces of its own."""
    return torch.cuda.Stream(device)


def record_cuda_graph(function: Replay) -> Replay:
    """Record what `function` launches on the current device, without running it; the result launches all of it again.

    Its tensors stay where they are: each replay writes to those that the recording has returned.

    Raises:
        RuntimeError: it launches what cannot be recorded, waits for the device, or there is too little memory.
    """
    torch.cuda.empty_cache()  # the graph has memory of its own
    stream, device = torch.cuda.current_stream(), torch.cuda.current_device()
    graph, memory = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        # Other threads may wait for the device meanwhile, as those do that copy clips.
        side = _side_stream(device)
        with torch.cuda.graph(graph, pool=memory, stream=side, capture_error_mode="thread_local"):
            outputs = function()
    except RuntimeError:
        _give_up(memory, device)
        raise
    finally:
        torch.cuda.set_stream(stream)  # which torch leaves aside if the recording fails

    def replay() -> Any:
        graph.replay()
        return outputs

    return replay


def _give_up(memory: Any, device: int) -> None:
    """End a recording that has become invalid, which torch does not: no memory would be released any more."""
    with suppress(RuntimeError, AttributeError):  # one that was valid, but out of memory, has ended
        torch._C._cuda_endAllocateToPool(device, memory)
        torch._C._cuda_releasePool(device, memory)


def recorder(device: torch.device) -> Record | None:
    """How functions are recorded on a device; None where launches cost nothing, so that they are just called."""
    return record_cuda_graph if device.type == "cuda" else None


class Graphed:
    """A function of tensors, recorded after some calls and then replayed.

    The function must launch the same work whatever its inputs' values are, and must not wait for the device. If it
    cannot be recorded, it is called as before, and a warning says so.

    Args:
        function: of tensors on the device, of the same sizes at all calls.
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
            self._replay = self._recorded(partial(self._function, *self._inputs))
        if self._replay is not None:
            return self._replay()
        self._calls += 1
        return self._function(*self._inputs)

    def _recorded(self, function: Replay) -> Replay:
        device = self._inputs[0].device
        try:
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                return self._record(function)
        except RuntimeError as error:  # which those of CUDA and of its memory are too
            while isinstance(error.__context__, RuntimeError):  # at its end, torch says only that there was an error
                error = error.__context__
            reason = str(error).partition("\n")[0]
            warnings.warn(f"No CUDA graph could be recorded; without it all is slower. {reason}", stacklevel=3)
            return function


class GraphedPerSize:
    """A function of tensors that is recorded apart for each size of its inputs, see `Graphed`.

    Its results are copies, which later calls leave alone. Several threads may call it; they take turns.

    Args:
        function: of tensors on the device; returns a tuple of tensors.
        record: how it is recorded.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], record: Record) -> None:
        self._function = function
        self._record = record
        self._graphs: OrderedDict[tuple[torch.Size, ...], Graphed] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's results for inputs on the device."""
        size = tuple(value.shape for value in inputs)
        with self._lock:
            if size not in self._graphs:
                if len(self._graphs) == KEPT_SIZES:
                    self._graphs.popitem(last=False)
                self._graphs[size] = Graphed(self._function, self._record)
            self._graphs.move_to_end(size)
            return tuple(result.clone() for result in self._graphs[size](*inputs))
