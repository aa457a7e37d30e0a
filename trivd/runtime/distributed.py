"""What processes compute together; torchrun starts them, on any number of machines, and without it there is one.

Gradients are averaged by PyTorch's DistributedDataParallel (see `trivd.training.step`); here is the rest.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from trivd.runtime.errors import TrivdError

Value = TypeVar("Value")
POLL_SECONDS = 0.05


def started_processes() -> int:
    """How many torchrun started for this training; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group(device: torch.device, patience: int) -> Iterator[None]:
    """Within, the processes that torchrun started work together, and wait so many seconds for each other.

    Raises:
        TrivdError: another process has ended, or gave no answer in this time.
    """
    if started_processes() == 1:
        yield
        return
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)  # else NCCL would take the first GPU for the objects of every process
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(seconds=patience))
        yield
    except RuntimeError as error:
        if not is_peer_failure(error):
            raise
        raise TrivdError(f"{lost_peer(error, patience)} See what it says, and repeat the command to go on.") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def is_peer_failure(error: Exception) -> bool:
    """Whether the processes could not reach each other; gloo's errors have no type of their own, but name it."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def lost_peer(error: Exception, patience: int) -> str:
    """A sentence about it, with what the network said: that may have other reasons."""
    said = str(error).partition("\n")[0].rstrip(".")
    return f"Another process of torchrun has ended, or gave no answer for {patience} seconds ({said})."


def barrier() -> None:
    """Wait until all processes have come here."""
    if world_size() == 1:
        return
    work = dist.barrier(async_op=True)
    while not work.is_completed():  # a wait inside of gloo would not hear signals
        time.sleep(POLL_SECONDS)
    work.wait()


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return dist.get_rank() if dist.is_initialized() else 0


def all_reduce_mean(values: Tensor) -> Tensor:
    """The mean of every process's values, the same on all of them; gradients do not pass."""
    if world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def broadcast_from_rank_0(value: Value) -> Value:
    """The first process's value, on all of them."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def all_gather(value: Value) -> list[Value]:
    """Every process's value, in the order of their numbers, on all of them."""
    if world_size() == 1:
        return [value]
    values = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether it is true in one of the processes; all come to the same answer."""
    return bool(all_reduce_mean(torch.tensor(float(flag), device=device)) > 0)


def gather_rows(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rows on the CPU, of which each process has every n-th of n, put together again on all of them."""
    if world_size() == 1:
        return columns
    parts = all_gather(columns)
    whole = {}
    for name, own in columns.items():
        rows = own.new_empty(sum(len(part[name]) for part in parts), *own.shape[1:])
        for number, part in enumerate(parts):
            rows[number :: len(parts)] = part[name]
        whole[name] = rows
    return whole


def rank_rows(values: Tensor, copies: int) -> Tensor:
    """This process's part of what was drawn for the global batch.

    All processes draw the same for all samples, and each keeps the rows of its own: what a sample gets depends on its
    number in the global batch, not on how many processes share it.

    Args:
        values: (copies x processes x samples of each, ...): a row for each sample of the global batch, copy after copy.
        copies: how many.

    Returns:
        (copies x samples of each, ...).
    """
    return values.unflatten(0, (copies, world_size(), -1))[:, rank()].flatten(0, 1)
