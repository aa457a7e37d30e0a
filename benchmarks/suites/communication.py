"""`trivd benchmark communication`: the share of a step that processes training together spend on exchange.

    torchrun --nproc-per-node=2 -m trivd benchmark communication

In turn, each process makes a training step with the others, and one of the same size by itself. What passes between
them is counted: gradients by the weights' size, all else (batch statistics, mixed pairs, losses) call by call.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.measuring import finisher, take_turns
from benchmarks.suite import Case, Column, Suite
from benchmarks.suites.step import SMALL_PRESET, make_step
from trivd.config import Config, override
from trivd.presets import preset
from trivd.runtime.distributed import barrier, world_size
from trivd.runtime.errors import TrivdError
from trivd.runtime.hardware import choose_precision, dtype_name
from trivd.training.plan import make_plan
from trivd.training.step import Trainer

LARGE_PRESET = "table2-tsru_p"  # the paper's model of Table 2, ch 48


@dataclass(frozen=True)
class Communication(Suite):
    """Settings.

    Args:
        large: whether to measure the paper's model too.
        large_batch: its clips of each process.
    """

    name = "communication"
    title = "What processes that train together spend on each other"
    columns = (
        Column("preset", ("case", "preset")),
        Column("processes", ("processes",)),
        Column("clips of each", ("batch_size",)),
        Column("step alone [s]", ("seconds", "alone"), 3),
        Column("together [s]", ("seconds", "together"), 3),
        Column("share of communication [%]", ("share",), 1, 100),
        Column("gradients [MB]", ("gradient_bytes",), 1, 1e-6),
        Column("statistics [MB]", ("statistics_bytes",), 2, 1e-6),
        Column("in calls", ("statistics_calls",)),
    )

    large: bool = True
    large_batch: int = 1
    turns: int = 5

    @classmethod
    def quick(cls) -> "Communication":
        return cls(large=False, turns=2)

    def cases(self) -> Sequence[Case]:
        return [{"preset": name} for name in (SMALL_PRESET, LARGE_PRESET)[: 1 + self.large]]

    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        if world_size() == 1:
            raise TrivdError(
                "There is one process only; start several by torchrun --nproc-per-node=2 -m trivd benchmark "
                "communication."
            )
        config = self.config(case)
        dtype = choose_precision(config.training.precision, device)
        with alone():
            by_itself = make_step(Trainer(config, device, dtype))
        whole = {"training": {"batch_size": world_size() * config.training.batch_size}}
        trainer = Trainer(override(config, whole, "trivd benchmark communication"), device, dtype)
        together = make_step(trainer)

        def step_alone() -> None:
            with alone():
                by_itself()

        # Without the barrier, waiting for the slower one of the steps alone would count as communication.
        ways = {"alone": step_alone, "waiting": barrier, "together": together}
        seconds = take_turns(ways, self.turns, finish=finisher(device))
        with counted() as calls:
            together()
        updates = {trainer.discriminators: config.training.discriminator_updates, trainer.generator: 1}
        plan = make_plan(config)
        return {
            "precision": dtype_name(dtype),
            "processes": world_size(),
            "batch_size": config.training.batch_size,
            "seconds": seconds,
            "share": 1 - seconds["alone"] / seconds["together"],
            "gradient_bytes": sum(
                times * sum(parameter.nbytes for parameter in module.parameters()) for module, times in updates.items()
            ),
            "statistics_bytes": sum(calls),
            "statistics_calls": len(calls),
            "flops": plan.discriminator_flops + plan.generator_flops,
        }

    def config(self, case: Case) -> Config:
        """The configuration of a row's training by one process."""
        config = preset(str(case["preset"]))
        if case["preset"] == SMALL_PRESET:
            return config
        return override(config, {"training": {"batch_size": self.large_batch}}, "trivd benchmark communication")


@contextmanager
def alone() -> Iterator[None]:
    """Make this process act as if it were the only one."""
    with patch.object(dist, "is_initialized", lambda: False):
        yield


@contextmanager
def counted() -> Iterator[list[int]]:
    """The bytes that each call sends for statistics and mixed pairs; gradients are not among them."""
    calls: list[int] = []
    reduce, gather = dist.all_reduce, dist.all_gather

    def all_reduce(tensor: Tensor) -> None:
        calls.append(tensor.nbytes)
        reduce(tensor)

    def all_gather(parts: list[Tensor], tensor: Tensor) -> None:
        calls.append(tensor.nbytes)
        gather(parts, tensor)

    with patch.multiple(dist, all_reduce=all_reduce, all_gather=all_gather):
        yield calls
