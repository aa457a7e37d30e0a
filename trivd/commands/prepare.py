"""`trivd prepare`: videos decoded once, or simulated, into a store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from trivd.commands.status import DONE, STOPPED
from trivd.config import DEFAULT_LIMITS, DataConfig, Layout, ModelConfig, VideoLimits
from trivd.data.datasets.robot_pushing import ROBOT_PUSHING
from trivd.data.scan_report import ScanReport
from trivd.data.store.prepare import write_store
from trivd.data.store.simulated import write_robot_store
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_folder
from trivd.training.output import lasting_output
from trivd.training.stops import interrupted_by_signals

DECODED_ONLY = ("fps", "layout", "validation_share", "ucf101_fold", "bair_camera", "limits")
SIMULATED_ONLY = ("clips", "validation_clips", "test_clips", "seed")


@dataclass(frozen=True)
class Prepare:
    """Decode videos once into a store of pixels, for faster training; repeat the command to resume after a stop.

    Under torchrun all machines work on it; DST must lie on a file system that they share.
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """A folder of videos, a data set of the paper, one video, or robot-pushing, which is simulated."""
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
    """Processes that decode or simulate; all cores if not given. Under torchrun, of each of its processes."""
    limits: VideoLimits = DEFAULT_LIMITS
    clips: int = 3_000
    """robot-pushing: training clips."""
    validation_clips: int = 256
    """robot-pushing: validation clips."""
    test_clips: int = 256
    """robot-pushing: test clips."""
    seed: int = 0
    """robot-pushing: seed of all that is random; the same clips at any number of clips and workers."""

    def run(self, console: Console) -> int:
        check_output_folder(self.destination, "name another DST")
        with lasting_output(console):
            try:
                with interrupted_by_signals():
                    scanned = self._write(console)
            except KeyboardInterrupt:
                say(console, "Stopped; finished shards are kept. Repeat the command to resume.")
                return STOPPED
            for line in scanned.lines() if scanned else []:  # under torchrun one process reports
                say(console, line)
        return DONE

    def _write(self, console: Console) -> ScanReport | None:
        if str(self.source) == ROBOT_PUSHING:
            self._refuse_others(DECODED_ONLY, "not for robot-pushing, which is simulated")
            return write_robot_store(
                self.destination,
                clips={"train": self.clips, "validation": self.validation_clips, "test": self.test_clips},
                seed=self.seed,
                resolution=self.resolution,
                channels=self.image_channels,
                workers=self.workers,
                progress=console,
            )
        self._refuse_others(SIMULATED_ONLY, "for robot-pushing alone")
        data = DataConfig(
            fps=self.fps,
            layout=self.layout,
            validation_share=self.validation_share,
            ucf101_fold=self.ucf101_fold,
            bair_camera=self.bair_camera,
            limits=self.limits,
        )
        return write_store(
            self.source,
            self.destination,
            resolution=self.resolution,
            channels=self.image_channels,
            data=data,
            workers=self.workers,
            progress=console,
        )

    def _refuse_others(self, names: tuple[str, ...], why: str) -> None:
        """Raise TrivdError if one of these options is not its default."""
        for name in names:
            if getattr(self, name) != getattr(Prepare, name):
                raise TrivdError(f"--{name.replace('_', '-')} is {why}; leave it out.")
