"""Collective operations of the processes that torchrun started on any number of machines; without it there is one.

Gradients are averaged by PyTorch's DistributedDataParallel, see `trivd.training.step`.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from trivd.runtime.errors import TrivdError

Value = TypeVar("Value")
POLL_SECONDS = 0.05


def started_processes() -> int:
    """Number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is rank 0 of those that torchrun started, or the only one; known before they form a group."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def process_group(device: torch.device, timeout: int) -> Iterator[None]:
    """Context within which the processes that torchrun started form a process group; within one, it changes nothing.

    Args:
        device: device of the tensors that are exchanged.
        timeout: seconds that a process waits for the others.

    Raises:
        TrivdError: another process has ended, or did not answer in time.
    """
    if started_processes() == 1 or dist.is_initialized():
        yield
        return
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)  # else NCCL would take the first GPU for the objects of every process
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(seconds=timeout))
        yield
    except RuntimeError as error:
        if not is_peer_failure(error):
            raise
        raise TrivdError(f"{lost_peer(error, timeout)} See its messages, and repeat the command to resume.") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def is_peer_failure(error: Exception) -> bool:
    """Whether the processes could not reach each other; errors of gloo have no type of their own, but name it."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def lost_peer(error: Exception, timeout: int) -> str:
    """The message about a peer failure; it quotes the network's error, which may have other reasons."""
    said = str(error).partition("\n")[0].rstrip(".")
    return f"Another process of torchrun has ended, or gave no answer for {timeout} seconds ({said})."


def barrier() -> None:
    """Wait until all processes have reached this call."""
    if world_size() == 1:
        return
    work = dist.barrier(async_op=True)
    while not work.is_completed():  # a wait inside gloo would not be interrupted by signals
        time.sleep(POLL_SECONDS)
    work.wait()


def world_size() -> int:
    """Number of processes in the process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Rank of this process in the process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def all_reduce_mean(values: Tensor) -> Tensor:
    """The mean of the values over all processes, on each of them; it is detached from the graph."""
    if world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def gather_batch(rows: Tensor) -> Tensor:
    """The rows of all ranks, in order, on each of them; differentiable.

    The gradient of a rank's rows is the sum over the ranks' gradients, as if the ranks' losses were added up.

    Args:
        rows: (B, ...), of the same shape on all ranks.

    Returns:
        (ranks * B, ...).
    """
    if world_size() == 1:
        return rows
    gathered: Tensor = _GatherBatch.apply(rows)
    return gathered


class _GatherBatch(torch.autograd.Function):
    """The collective operations of `gather_batch`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]


def broadcast_from_rank_0(value: Value) -> Value:
    """The value of rank 0, on all ranks."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def on_rank_0(work: Callable[[], Value]) -> Value:
    """What `work` returns on rank 0, where alone it runs, on all ranks.

    Raises:
        TrivdError: the one that `work` raised, on all ranks.
    """
    outcome: Any = None
    if rank() == 0:
        try:
            outcome = work()
        except TrivdError as error:
            outcome = error
    outcome = broadcast_from_rank_0(outcome)
    if isinstance(outcome, TrivdError):
        raise outcome
    result: Value = outcome
    return result


def all_gather(value: Value) -> list[Value]:
    """The values of all ranks, in order, on each of them."""
    if world_size() == 1:
        return [value]
    values = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank; all ranks get the same answer. Several ranks wait for the device."""
    if world_size() == 1:
        return flag
    return bool(all_reduce_mean(torch.tensor(float(flag), device=device)) > 0)


def any_process_and_first(flag: bool, value: float, device: torch.device) -> tuple[bool, float]:
    """Whether the flag is set on any rank, and the value of rank 0, in one exchange; see `any_process`."""
    if world_size() == 1:
        return flag, value
    own = torch.tensor([float(flag), value if rank() == 0 else 0.0], dtype=torch.float64, device=device)
    flags, first = (world_size() * all_reduce_mean(own)).tolist()
    return flags > 0, first


def gather_rows(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole tables on all ranks, from rows on the CPU of which rank r of n holds r, r + n, r + 2 n, ..."""
    if world_size() == 1:
        return columns
    shares = all_gather(columns)
    whole = {}
    for name, own in columns.items():
        rows = own.new_empty(sum(len(share[name]) for share in shares), *own.shape[1:])
        for number, share in enumerate(shares):
            rows[number :: len(shares)] = share[name]
        whole[name] = rows
    return whole


def rank_rows(values: Tensor, copies: int) -> Tensor:
    """This rank's rows of random values that were drawn for the global batch.

    All ranks draw the same values for all samples, and each keeps its own rows: the values of a sample depend on its
    number in the global batch, not on the number of processes that share it.

    Args:
        values: (copies * ranks * samples of each, ...): a row for each sample of the global batch, copy after copy.
        copies: number of copies of the global batch.

    Returns:
        (copies * samples of each, ...).
    """
    return values.unflatten(0, (copies, world_size(), -1))[:, rank()].flatten(0, 1)
