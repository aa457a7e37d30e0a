"""How well clips and random numbers keep up with a GPU, whose steps are waits of a fixed time; needs no GPU.

    trivd prepare videos --preset small --out STORE
    python -m benchmarks.scripts.feeding STORE --json OUT.json

The clips are read by `data.workers` processes, the numbers of a step are drawn and packed as for a GPU, and a step may
be launched while the one before it runs, as in a training.
"""

import json as json_format
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
import tyro
from rich.console import Console

from benchmarks.measuring import circumstances
from trivd.config import override
from trivd.data.clips import open_clips
from trivd.data.loader import Batch, TrainingStream
from trivd.models.discriminators import Discriminators
from trivd.presets import preset
from trivd.runtime.console import say
from trivd.runtime.files import write_atomically
from trivd.runtime.transfer import Sender
from trivd.training.division import divide
from trivd.training.draws import draw_step, tensors_of

CPU = torch.device("cpu")
WARM_UPS = 50  # steps that do not count: the processes that read are starting


@dataclass
class StandIn:
    """A device that takes a fixed time for each step, and at most one before the last is done.

    Args:
        seconds: of a step.
    """

    seconds: float
    free: float = field(default_factory=time.monotonic)  # when it is done with all that was launched

    @property
    def busy(self) -> bool:
        return time.monotonic() < self.free

    def launch(self) -> None:
        """Launch a step, and wait until the one before it is done."""
        before, now = self.free, time.monotonic()
        self.free = max(before, now) + self.seconds
        time.sleep(max(0.0, before - now))


def main(
    data: tyro.conf.Positional[str],
    json: Path,
    *,
    preset_name: str = "small",
    milliseconds: float = 5.0,
    steps: int = 1000,
    workers: int = 1,
) -> None:
    """Feed a stand-in for a GPU.

    Args:
        data: what `trivd train` takes.
        json: file for the figures, versions, hardware, date and command.
        preset_name: of a training.
        milliseconds: of a step of the device.
        steps: that count.
        workers: processes that read clips.
    """
    config = override(preset(preset_name), {"data": {"workers": workers}}, "feeding")
    recipe = config.training
    passes, clips = divide(recipe, processes=1)
    with torch.device("meta"):
        discriminators = Discriminators(config.discriminator, config.model)
    dataset = open_clips(data, "train", config.data, config.model)
    device, sender = StandIn(milliseconds / 1000), None
    waited = prepared = started = 0.0
    with closing(iter(TrainingStream(dataset, clips, recipe.seed, 0, workers))) as batches:
        for step in range(WARM_UPS + steps):
            if step == WARM_UPS:
                waited, prepared, started = 0.0, 0.0, time.monotonic()
            begin = time.monotonic()
            updates = _read(batches, recipe.discriminator_updates, passes)
            read = time.monotonic()
            tensors = list(tensors_of(draw_step(updates, config, discriminators, step, 0.0)))
            sender = sender or Sender(tensors, CPU)
            sender.send(tensors)
            prepared += time.monotonic() - read
            waited += 0.0 if device.busy else read - begin
            device.launch()
    seconds = time.monotonic() - started
    facts = {
        "case": {"data": data, "preset": preset_name, "milliseconds": milliseconds, "workers": workers, "steps": steps},
        "steps_per_second": steps / seconds,
        "wait_share": waited / seconds,
        "seconds_preparing": prepared / steps,
    }
    write_atomically(json, (json_format.dumps(circumstances(CPU) | facts, indent=2) + "\n").encode())
    say(
        Console(),
        f"{steps / seconds:.0f} of {1000 / milliseconds:.0f} steps/s; {waited / seconds:.1%} of the time it waits "
        f"for clips, {1000 * prepared / steps:.2f} ms a step drawing and packing. Written: {json}",
    )


def _read(batches: Iterator[Batch], updates: int, passes: int) -> list[list[Batch]]:
    return [list(islice(batches, passes)) for _ in range(updates)]


if __name__ == "__main__":
    tyro.cli(main)
