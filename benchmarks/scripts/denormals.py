"""Time of a run's next steps on one thread, with numbers below 1e-38 flushed to zero and computed in full.

    trivd train moving-digits --preset moving-digits --training.steps 400 --out RUN
    python -m benchmarks.scripts.denormals RUN --json OUT.json

`trivd` flushes them to zero (`trivd.runtime.hardware.set_up_program`). Where a discriminator has won, gradients are
full of them.
"""

import json as json_format
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import torch
import tyro
from rich.console import Console

from benchmarks.measuring import circumstances, ratios, take_turns
from trivd.data.clips import open_clips
from trivd.data.loader import Batch, TrainingStream
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically
from trivd.training.checkpoint import load_latest
from trivd.training.division import divide
from trivd.training.run import Run
from trivd.training.step import Trainer

FLUSHED, FULL = "zero", "in full"


def main(run: tyro.conf.Positional[Path], json: Path, turns: int = 5) -> None:
    """Continue training in memory; the run stays as it is.

    Args:
        run: folder of `trivd train`, with a checkpoint.
        json: file for seconds, ratio, versions, hardware, date and command.
        turns: steps of each way.
    """
    torch.set_num_threads(1)  # the setting is a thread's own
    config, data = Run(run).read()
    trainer = Trainer(config, torch.device("cpu"), torch.float32)
    progress, _ = load_latest(Run(run).checkpoints, trainer)
    if progress is None:
        raise TrivdError(f"There is no checkpoint in {run}; choose a run that has one.")
    dataset, recipe = open_clips(data, "train", config.data, config.model), config.training
    passes, clips = divide(recipe, processes=1)
    stream = TrainingStream(dataset, clips, recipe.seed, progress.samples, config.data.workers)
    with closing(iter(stream)) as batches:
        updates = [list(islice(batches, passes)) for _ in range(recipe.discriminator_updates)]
    seconds = take_turns({name: _step(trainer, updates, name == FLUSHED) for name in (FLUSHED, FULL)}, turns)
    quotient = ratios(seconds, (FULL, FLUSHED))
    facts = {"step": progress.step, "seconds": seconds, "ratios": quotient}
    write_atomically(json, json_format.dumps(circumstances(trainer.device) | facts, indent=2).encode())
    say(Console(), f"After step {progress.step}: {seconds}, {quotient}")


def _step(trainer: Trainer, updates: list[list[Batch]], flush: bool) -> Callable[[], object]:
    def step() -> None:
        torch.set_flush_denormal(flush)
        trainer.train_step(updates)

    return step


if __name__ == "__main__":
    tyro.cli(main)
