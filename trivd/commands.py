"""What each command of `trivd` takes and does; `trivd.cli` turns these dataclasses into options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from trivd.config import (
    DEFAULT_LIMITS,
    Config,
    DataConfig,
    DiscriminatorConfig,
    EvaluationConfig,
    Layout,
    ModelConfig,
    TrainingConfig,
    VideoLimits,
)
from trivd.data.prepare import write_store
from trivd.errors import TrivdError
from trivd.files import ANOTHER_OUT, check_output_folder, is_text
from trivd.futures import write_futures
from trivd.predict import Predictor
from trivd.presets import PRESETS, preset
from trivd.run_report import write_run_report
from trivd.say import say, show_table
from trivd.training.loop import train
from trivd.training.output import lasting_output
from trivd.training.plan import print_plan
from trivd.training.run import Run
from trivd.training.stops import interrupted_by_signals

DONE, STOPPED = 0, 3  # exit status: complete; stopped by a signal, to be gone on with


@dataclass(frozen=True)
class Train:
    """Train a model on moving-digits, a folder of videos, or a store; the same command goes on after a stop."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
    """moving-digits, a folder of videos (sub-folders are classes), one video, or a store made by `trivd prepare`."""
    model: ModelConfig
    discriminator: DiscriminatorConfig
    data: DataConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    preset: str | None = None
    """Settings to start from; `trivd presets` lists them. Options given here win."""
    out: Path | None = None
    """Folder of the run; runs/DATA-PRESET if not given."""
    dry_run: bool = False
    """Print sizes, FLOPs and memory of a step, and exit."""

    def run(self, console: Console) -> int:
        config = Config(self.model, self.discriminator, self.data, self.training, self.evaluation)
        if self.dry_run:
            print_plan(config, console)
            return DONE
        folder = self.out or Path("runs") / f"{Path(self.source).name}-{self.preset or 'default'}"
        if not is_text(folder):
            raise TrivdError(f"{folder} is not UTF-8, which TensorBoard's files need; {ANOTHER_OUT}.")
        recipe = preset(self.preset).training
        preset_batch = recipe.batch_size * recipe.accumulation if self.preset else None
        return DONE if train(config, self.source, Run(folder), console, preset_batch) else STOPPED


@dataclass(frozen=True)
class Predict:
    """Draw futures of a clip: MP4 and GIF of each, a PNG grid, and the motion the model saw."""

    clip: tyro.conf.Positional[Path]
    """A video, a folder of numbered images, or a .npy/.npz array (T, H, W, C) of uint8."""
    model: str
    """A model's or run's folder, a bundled model (moving-digits), or a name on the Hugging Face hub."""
    samples: int = 4
    """How many futures."""
    truncation: float | None = None
    """Draw z's entries beyond it again: 0.8 is moderate, 0 gives the one future of z = 0."""
    seed: int = 0
    frames: int | None = None
    """Frames of each future; more than the model's own are drawn by going on from its own frames."""
    start: int | None = None
    """Number of the first given frame; the rest of the clip is then shown as the truth. Default: the clip's end."""
    label: int = 0
    """Class, for models that were trained with classes."""
    out: Path | None = None
    """Folder for the files; predictions/CLIP if not given. It must not hold files yet."""
    npz: bool = False
    """Also write the frames as futures.npz, uint8 (samples, T, H, W, C)."""
    limits: VideoLimits = DEFAULT_LIMITS

    def run(self, console: Console) -> int:
        out = self.out or Path("predictions") / self.clip.stem
        check_output_folder(out, empty=True)
        predictor = Predictor.from_pretrained(self.model)
        for line in write_futures(
            predictor,
            self.clip,
            out,
            self.samples,
            self.truncation,
            self.seed,
            self.frames,
            self.start,
            self.label,
            self.npz,
            self.limits,
        ):
            say(console, line)
        return DONE


@dataclass(frozen=True)
class Prepare:
    """Decode videos once into a store of pixels, for faster training; the same command goes on after a stop.

    Under torchrun all machines work on it; DST must lie on a file system that they share.
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    destination: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    resolution: int = ModelConfig.resolution
    """Pixels of the shorter side."""
    image_channels: Literal[1, 3] = 3
    layout: Layout = DataConfig.layout
    """How SRC is arranged; auto recognises each."""
    validation_share: float = DataConfig.validation_share
    """Of a folder without train/ and validation/."""
    ucf101_fold: int = DataConfig.ucf101_fold
    """1, 2 or 3: which trainlist0N.txt and testlist0N.txt."""
    bair_camera: Literal["image_aux1", "image_main"] = DataConfig.bair_camera
    workers: int | None = None
    """Decoding processes; all cores if not given. Under torchrun, of each of its processes."""
    limits: VideoLimits = DEFAULT_LIMITS

    def run(self, console: Console) -> int:
        data = DataConfig(
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
                    report = write_store(
                        self.source, self.destination, self.resolution, self.image_channels, data, self.workers, console
                    )
            except KeyboardInterrupt:
                say(console, "Stopped; finished shards are kept. Repeat the command to go on.")
                return STOPPED
            for line in report.lines() if report else []:  # under torchrun one process reports
                say(console, line)
        return DONE


@dataclass(frozen=True)
class Report:
    """Write a run's page, index.html: samples, motion, losses and scores, viewable without a network."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    beside: str | None = None
    """Another model to show at the end of the page, by folder or name, on the same data."""
    data: str | None = None
    """Where the run's data lies; what the run names if not given."""
    limits: VideoLimits = DEFAULT_LIMITS

    def run(self, console: Console) -> int:
        page = write_run_report(Run(self.folder), self.beside, self.data, self.limits)
        say(console, f"Written: {page}")
        return DONE


@dataclass(frozen=True)
class Presets:
    """List the presets."""

    def run(self, console: Console) -> int:
        show_table(console, ("preset", "what for"), [(name, described.about) for name, described in PRESETS.items()])
        return DONE
