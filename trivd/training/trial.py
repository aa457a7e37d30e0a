"""A few steps of a larger model, which show whether this machine can train it in the time there is."""

import time
from contextlib import closing
from itertools import islice

from rich.console import Console

from trivd.config import Config
from trivd.data.clips import open_clips
from trivd.data.loader import TrainingStream
from trivd.runtime.console import say
from trivd.runtime.distributed import started_processes
from trivd.runtime.hardware import choose_device, choose_precision
from trivd.training.division import divide
from trivd.training.faults import is_out_of_memory
from trivd.training.fingerprint import full_name
from trivd.training.run import Run
from trivd.training.step import Trainer

STEPS = 20
WARM_UPS = 4  # of these, which are not timed: kernels are compiled, and on a GPU a graph is recorded
LEAST = 500  # steps that the larger model must make in its minutes; with fewer it learns less than the smaller one


def seconds_per_step(config: Config, data: str, enough: float) -> float:
    """Mean seconds of the first steps of a training, of which nothing is kept.

    Args:
        config: of the training.
        data: as for `trivd.training.loop.train`.
        enough: seconds of a step; it ends as soon as all of them together take longer.
    """
    recipe = config.training
    device = choose_device(recipe.device, "training.device")
    dataset = open_clips(full_name(data), "train", config.data, config.model)
    trainer, division = Trainer(config, device, choose_precision(recipe.precision, device)), divide(recipe, processes=1)
    stream, began, timed = TrainingStream(dataset, division.clips, recipe.seed, 0, config.data.workers), 0.0, 0
    with closing(iter(stream)) as batches:
        for step in range(STEPS):
            if step == WARM_UPS:
                trainer.finish()
                began = time.monotonic()
            trainer.train_step([list(islice(batches, division.passes)) for _ in range(recipe.discriminator_updates)])
            timed = step + 1 - WARM_UPS
            if timed > 0 and time.monotonic() - began > enough * (STEPS - WARM_UPS):
                break
        trainer.finish()
        return (time.monotonic() - began) / timed


def fitting_size(config: Config, larger: Config, data: str, run: Run, console: Console) -> Config:
    """The larger of two configurations if this machine makes `LEAST` of its steps in its minutes, else the smaller.

    A run that has begun keeps its size. Several processes train the smaller one.

    Raises:
        TrivdError: bad data or folder.
    """
    if run.config_file.is_file():
        return larger if run.read()[0].model == larger.model else config
    if larger.training.minutes is None or started_processes() > 1:
        return config
    run.check(config)
    enough = 60 * larger.training.minutes / LEAST
    say(console, f"Two sizes can be trained; the larger is tried for {STEPS} steps at most.")
    try:
        seconds = seconds_per_step(larger, data, enough)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        say(console, "The larger needs more memory than there is: the smaller is trained.")
        return config
    chosen = "larger" if seconds <= enough else "smaller"
    say(
        console,
        f"A step of the larger takes {seconds:.2f} s, and {LEAST} must fit into {larger.training.minutes:g} minutes: "
        f"the {chosen} is trained.",
    )
    return larger if seconds <= enough else config
