"""What the processes of one training compute together; torchrun starts them, and without it there is one.

Gradients are averaged by PyTorch's DistributedDataParallel (see `trivd.training.step`); here is the rest.
"""

import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return dist.get_rank() if dist.is_initialized() else 0


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of every process's values, the same on all of them; gradients do not pass."""
    if world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def own_rows(values: Tensor, copies: int) -> Tensor:
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
