"""A training step as one CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch

from trivd.config import CudaGraph
from trivd.runtime.distributed import world_size
from trivd.runtime.errors import TrivdError
from trivd.runtime.graphs import Graphed, Record, record_cuda_graph
from trivd.runtime.transfer import Sender
from trivd.training.draws import StepInputs, choices_of, tensors_of, with_tensors


def uses_graph(setting: CudaGraph, device: torch.device) -> bool:
    """Whether steps are recorded as a CUDA graph: on a GPU that trains alone, unless that is off.

    Raises:
        TrivdError: they are to be, and the device is no GPU.
    """
    if setting == "on" and device.type != "cuda":
        raise TrivdError(
            f"training.cuda_graph is on, but the training runs on {device.type}; choose auto, which records steps "
            "where there is a GPU."
        )
    # Recording NCCL's calls has not been tried.
    return setting != "off" and device.type == "cuda" and world_size() == 1


def graph_note(setting: CudaGraph, device: torch.device) -> str:
    """A sentence for the user if steps would be recorded, but for the number of processes; else ""."""
    if setting == "off" or device.type != "cuda" or world_size() == 1:
        return ""
    return "Steps are launched operation by operation: they are recorded as a CUDA graph by a single process only."


class GraphedStep:
    """A step that is recorded after a few calls; from then on, a call sends its inputs and launches one graph.

    Steps with and without R1 are recorded apart. Inputs of new sizes, clips of more frames, end the graphs before them.

    Args:
        run: a step on inputs on the device; its results are tensors.
        device: of the networks.
        record: see `Graphed`.
    """

    def __init__(
        self, run: Callable[[StepInputs], Any], device: torch.device, record: Record = record_cuda_graph
    ) -> None:
        self._run = run
        self._device = device
        self._record = record
        self._sizes: list[torch.Size] = []  # of the inputs
        self._graphs: dict[tuple[bool, ...], Graphed] = {}

    def __call__(self, inputs: StepInputs) -> Any:
        """The results for inputs on the CPU; the next call may overwrite them."""
        tensors, choices = list(tensors_of(inputs)), choices_of(inputs)
        sizes = [tensor.shape for tensor in tensors]
        if sizes != self._sizes:
            self._sizes, self._sender = sizes, Sender(tensors, self._device)
            self._graphs.clear()
        if choices not in self._graphs:
            views = self._sender.views
            self._graphs[choices] = Graphed(lambda packed: self._run(with_tensors(inputs, views(packed))), self._record)
        return self._graphs[choices](self._sender.send(tensors))
