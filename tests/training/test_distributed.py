"""Several processes train as one: the same losses, statistics and weights, however the global batch is shared."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trivd.config import Config, from_dict, to_dict
from trivd.data.clips import open_clips
from trivd.data.loader import TrainingStream
from trivd.training import step as step_module
from trivd.training.step import Trainer

CPU = torch.device("cpu")
STEPS = 5
GLOBAL_BATCH = 8

State = dict[str, Tensor]


def trained(config: Config, rank: int, world: int) -> tuple[list[State], State]:
    """Losses of some steps in float64, and all that was trained, in one of the processes."""
    recipe = config.training
    dataset = open_clips("moving-digits", "train", config.data, config.model)
    stream = iter(TrainingStream(dataset, recipe.batch_size, recipe.seed, 0, 0, rank, world))
    trainer = Trainer(config, CPU, torch.float64)
    losses = []
    for _ in range(STEPS):
        updates = [[next(stream) for _ in range(recipe.accumulation)] for _ in range(recipe.discriminator_updates)]
        losses.append(trainer.train_step(updates))
    state = {f"generator/{name}": value for name, value in trainer.generator.state_dict().items()}
    state |= {f"critics/{name}": value for name, value in trainer.discriminators.state_dict().items()}
    state |= {f"average/{name}": value for name, value in trainer.ema.weights.items()}
    return losses, state


def train_a_share(rank: int, world: int, config: dict[str, Any], folder: Path) -> None:
    """One of several processes."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    to_float = step_module.to_float
    step_module.to_float = lambda video: to_float(video).double()  # type: ignore[assignment]
    if world > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
        )
    try:
        torch.save(trained(from_dict(Config, config), rank, world), folder / f"{rank}.pt")
    finally:
        if world > 1:
            torch.distributed.destroy_process_group()


@pytest.fixture
def results(tmp_path: Path, tiny_config: Callable[..., Config]) -> Callable[..., list[tuple[list[State], State]]]:
    def train(world: int, **changes: Any) -> list[tuple[list[State], State]]:
        recipe = {"batch_size": GLOBAL_BATCH // world, "accumulation": 2, "ema_start": 2}
        config = tiny_config(training=recipe | {"discriminator_updates": 1, "precision": "float32"}, **changes)
        folder = tmp_path / str(world)
        folder.mkdir()
        torch.multiprocessing.spawn(train_a_share, (world, to_dict(config), folder), nprocs=world)
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]

    return train


def test_the_batch_is_one_however_it_is_shared(results: Callable[..., list[tuple[list[State], State]]]) -> None:
    """Head projection: mixed pairs are formed within a process."""
    critics = {"decomposition": "stronger", "head": "projection"}
    (expected,) = results(1, discriminator=critics)
    for world in (2, 4):
        for found in results(world, discriminator=critics):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True)
