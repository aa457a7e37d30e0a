"""Tensors on their way to a GPU, while it still works on those before them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNMENT = 16  # bytes, of every tensor in a packed one


class Sender:
    """Sends tensors of fixed sizes to a device, packed into one, by one copy that nothing waits for.

    Two buffers take turns: one is filled while the device may still read the other.

    Args:
        like: tensors of the sizes and types that all have.
        device: where they go. On the CPU they are packed all the same.
    """

    def __init__(self, like: Sequence[Tensor], device: torch.device) -> None:
        self._layout: list[tuple[int, int, torch.dtype, torch.Size]] = []  # first byte and the one after the last
        end = 0
        for tensor in like:
            first = math.ceil(end / ALIGNMENT) * ALIGNMENT
            end = first + tensor.numel() * tensor.element_size()
            self._layout.append((first, end, tensor.dtype, tensor.shape))
        self._on_gpu = device.type == "cuda"
        self._hosts = [torch.empty(end, dtype=torch.uint8, pin_memory=self._on_gpu) for _ in range(2)]
        self._turn = 0
        if self._on_gpu:
            self._buffers = [torch.empty(end, dtype=torch.uint8, device=device) for _ in range(2)]
            self._copied = [torch.cuda.Event(), torch.cuda.Event()]
            self._read = torch.cuda.Event()  # the work that reads the buffer of the last but one call
            self._stream = torch.cuda.Stream(device)

    def views(self, packed: Tensor) -> list[Tensor]:
        """The tensors in a packed one, which they share memory with."""
        return [packed[first:end].view(dtype).view(shape) for first, end, dtype, shape in self._layout]

    def send(self, tensors: Sequence[Tensor]) -> Tensor:
        """Pack tensors of the CPU into one on the device (bytes,), which is valid until the next call but one."""
        turn, self._turn = self._turn, 1 - self._turn
        host = self._hosts[turn]
        if self._on_gpu:
            self._copied[turn].synchronize()
        for place, tensor in zip(self.views(host), tensors, strict=True):
            place.copy_(tensor)
        if not self._on_gpu:
            return host
        current = torch.cuda.current_stream(self._stream.device)  # another device may be the current one
        self._stream.wait_event(self._read)
        with torch.cuda.stream(self._stream):
            self._buffers[turn].copy_(host, non_blocking=True)
            self._copied[turn].record()
        current.wait_event(self._copied[turn])
        self._read.record(current)
        return self._buffers[turn]
