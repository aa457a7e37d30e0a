"""`trivd prepare`: videos decoded once into a store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from trivd.commands.status import DONE, STOPPED
from trivd.config import DEFAULT_LIMITS, DataConfig, Layout, ModelConfig, VideoLimits
from trivd.data.store.prepare import write_store
from trivd.runtime.console import say
from trivd.runtime.files import check_output_folder
from trivd.training.output import lasting_output
from trivd.training.stops import interrupted_by_signals


@dataclass(frozen=True)
class Prepare:
    """Decode videos once into a store of pixels, for faster training; repeat the command to resume after a stop.

    Under torchrun all machines work on it; DST must lie on a file system that they share.
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """A folder of videos, a data set of the paper, or one video."""
    destination: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    """Folder of the store."""
    resolution: int = ModelConfig.resolution
    """Pixels of the shorter side."""
    image_channels: Literal[1, 3] = 3
    """3 for colour, 1 for grey."""
    fps: float | None = DataConfig.fps
    """Rate at which videos are read, each frame the nearest in time; their own frames if not given."""
    layout: Layout = DataConfig.layout
    """How SRC is arranged; auto recognises each."""
    validation_share: float = DataConfig.validation_share
    """Share of held-out videos in a folder without train/ and validation/."""
    ucf101_fold: int = DataConfig.ucf101_fold
    """1, 2 or 3: which trainlist0N.txt and testlist0N.txt."""
    bair_camera: Literal["image_aux1", "image_main"] = DataConfig.bair_camera
    """BAIR's camera; the field reports image_aux1."""
    workers: int | None = None
    """Decoding processes; all cores if not given. Under torchrun, of each of its processes."""
    limits: VideoLimits = DEFAULT_LIMITS

    def run(self, console: Console) -> int:
        data = DataConfig(
            fps=self.fps,
            layout=self.layout,
            validation_share=self.validation_share,
            ucf101_fold=self.ucf101_fold,
            bair_camera=self.bair_camera,
            limits=self.limits,
        )
        check_output_folder(self.destination, "name another DST")
        with lasting_output(console):
            try:
                with interrupted_by_signals():
                    scanned = write_store(
                        self.source,
                        self.destination,
                        resolution=self.resolution,
                        channels=self.image_channels,
                        data=data,
                        workers=self.workers,
                        progress=console,
                    )
            except KeyboardInterrupt:
                say(console, "Stopped; finished shards are kept. Repeat the command to resume.")
                return STOPPED
            for line in scanned.lines() if scanned else []:  # under torchrun one process reports
                say(console, line)
        return DONE
