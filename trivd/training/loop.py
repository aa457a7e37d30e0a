"""The training of a run: data in; checkpoints, logs, samples and models out; stopped runs resume exactly."""

from contextlib import ExitStack

import torch
from rich.console import Console

from trivd.config import Config
from trivd.data.clips import ClipDataset, open_clips
from trivd.runtime.console import say
from trivd.runtime.distributed import barrier, on_rank_0, process_group, rank, world_size
from trivd.runtime.hardware import choose_device, choose_precision, dtype_name
from trivd.training.checkpoint import Progress, load_latest
from trivd.training.division import Division, divide
from trivd.training.faults import faults_explained
from trivd.training.fingerprint import full_name, list_videos
from trivd.training.graph import graph_note
from trivd.training.log import NoLog, TrainingLog
from trivd.training.output import lasting_output
from trivd.training.run import Run
from trivd.training.session import Session
from trivd.training.step import Trainer
from trivd.training.stops import Stopped, StopRequest, stop_on_signals


def open_splits(config: Config, data: str) -> dict[str, ClipDataset]:
    """The training and validation clips of the data."""
    return {
        "train": open_clips(data, "train", config.data, config.model),
        "validation": open_clips(data, "validation", config.data, config.model),
    }


def train(config: Config, data: str, run: Run, console: Console) -> bool:
    """Train for `config.training.steps` or `minutes`, resuming from the newest checkpoint in the run's folder.

    Args:
        config: all settings.
        data: "moving-digits", a folder of videos, or a store.
        run: its folder is made if there is none.
        console: for messages.

    Returns:
        whether the run is complete; False after a signal to stop, with everything saved.

    Raises:
        TrivdError: bad data or folder, or a fault that ends the training; see `faults_explained`.
    """
    device = choose_device(config.training.device, "training.device")
    data = full_name(data)
    with (
        lasting_output(console),
        stop_on_signals() as stop,
        process_group(device, config.training.patience),
        ExitStack() as stack,
    ):
        said = console if rank() == 0 else Console(quiet=True)

        def begin() -> tuple[Config, int]:
            """Start or resume the run; its settings and its passes."""
            listing = list_videos(data, splits)
            if sentence := run.check_data(data, listing):
                say(said, sentence, "yellow")
            return config, stack.enter_context(run.opened(config, data, listing))

        try:
            with stop.interrupting():
                on_rank_0(lambda: run.check(config))
                splits = open_splits(config, data)
                config, passes = on_rank_0(begin)
                division = divide(config.training, world_size(), passes)
                _say_division(division, passes, said)
                with faults_explained(config, device, lambda: f"what {run.folder} holds is kept"):
                    session = _session(config, data, run, splits, division=division, console=said, device=device)
        except Stopped:
            say(said, f"Stopped before the first step; what {run.folder} holds is kept. Repeat the command to resume.")
            return False
        return _train(session, said, stop)


def _say_division(division: Division, passes: int, console: Console) -> None:
    """Print how the clips of an update are divided, if they are; `passes` is what the run began with."""
    text = f"Global batch: {division.text(world_size())}."
    if division.passes != passes:
        share = division.passes * division.clips
        way = f", which --training.microbatch {share // passes} would keep" if share % passes == 0 else ""
        began = f"{passes} pass{'es' if passes > 1 else ''}"
        say(console, f"{text} The run began with {began}{way}; batch statistics now see fewer clips.", "yellow")
    elif world_size() > 1 or passes > 1:
        say(console, text)


def _train(session: Session, console: Console, stop: StopRequest) -> bool:
    """Train to the end or a signal to stop; see `train`."""
    run, trainer = session.run, session.trainer
    if session.complete:
        say(console, f"{run.folder} is complete: {trainer.step} steps.")
        return True
    with faults_explained(session.config, trainer.device, session.kept):
        steps, budget = session.config.training.steps, session.budget
        with TrainingLog(run, console, trainer.step, steps, budget) if rank() == 0 else NoLog() as log:
            session.loop(log, stop)
        if session.complete:
            say(console, f"Done: {trainer.step} steps, {session.seconds / 60:.1f} min. Model: {run.best}")
        else:
            say(console, f"Stopped at step {trainer.step}; all is saved. Repeat the command to resume.")
        barrier()  # torchrun ends the first process, which saves, as soon as another has ended
    return session.complete


def _session(
    config: Config,
    data: str,
    run: Run,
    splits: dict[str, ClipDataset],
    *,
    division: Division,
    console: Console,
    device: torch.device,
) -> Session:
    """A session that starts from the newest checkpoint of the run, or from step 0."""
    dtype = choose_precision(config.training.precision, device)
    trainer = Trainer(config, device, dtype)
    for split, dataset in splits.items():
        for line in dataset.summary:
            say(console, f"{split}: {line}")
    if sentence := trainer.discriminators.short_clips(config.model):
        say(console, sentence, "yellow")
    if sentence := graph_note(config.training.cuda_graph, device):
        say(console, sentence)
    progress, damaged = load_latest(run.checkpoints, trainer)
    for line in damaged:
        say(console, line, "yellow")
    if progress is None:
        progress = Progress(0, 0, 0.0, None)
        say(console, f"Starting {run.folder} on {device} in {dtype_name(dtype)}.")
    else:
        say(console, f"Resuming {run.folder} from step {progress.step}.")
    return Session(data, run, trainer, splits, progress, division=division)
