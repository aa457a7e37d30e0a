"""What each command of `trivd` takes and does; `trivd.cli` turns these dataclasses into options."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from trivd.config import (
    Config,
    DataConfig,
    DiscriminatorConfig,
    EvaluationConfig,
    ModelConfig,
    TrainingConfig,
    from_dict,
)
from trivd.data.clips import open_clips
from trivd.data.store import write_store
from trivd.errors import TrivdError
from trivd.evaluation.protocol import Evaluation, evaluate
from trivd.futures import write_futures
from trivd.predict import Predictor
from trivd.presets import PRESETS
from trivd.run_report import write_run_report
from trivd.training.loop import train
from trivd.training.plan import print_plan
from trivd.training.run import Run

DONE, STOPPED = 0, 3  # exit status: complete; stopped by a signal, to be gone on with


@dataclass(frozen=True)
class Train:
    """Train a model on moving-digits, a folder of videos, or a store; the same command goes on after a stop."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
    """moving-digits, a folder of videos (sub-folders are classes), or a store made by `trivd prepare`."""
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
        return DONE if train(config, self.source, Run(folder), console) else STOPPED


@dataclass(frozen=True)
class Predict:
    """Draw futures of a clip: MP4 and GIF of each, a PNG grid, and the motion the model saw."""

    clip: tyro.conf.Positional[Path]
    """A video, a folder of numbered images, or a .npy/.npz array (T, H, W, C) of uint8."""
    model: str
    """A model's or run's folder, or a name on the Hugging Face hub."""
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

    def run(self, console: Console) -> int:
        predictor = Predictor.from_pretrained(self.model)
        out = self.out or Path("predictions") / self.clip.stem
        if out.exists() and any(out.iterdir()):
            raise TrivdError(f"{out} is not empty; choose another --out.")
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
        ):
            console.print(line, highlight=False, soft_wrap=True)
        return DONE


@dataclass(frozen=True)
class Evaluate:
    """Score a model on held-out clips against copying the last frame; writes report.json beside the model."""

    model: tyro.conf.Positional[str]
    """A model's or run's folder."""
    source: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="DATA")] = None
    """Data set whose validation split counts; the one the model was trained on if not given."""
    clips: int | None = None
    """Held-out clips; as in the model's training if not given, as for all that follow."""
    samples: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    standing_batches: int | None = None
    standing_batch_size: int | None = None
    truncation: float | None = None
    """Truncation of z; none if not given."""
    out: Path | None = None
    """The JSON file to write; report.json in the model's folder if not given (here, for a model of the hub)."""

    def run(self, console: Console) -> int:
        predictor = Predictor.from_pretrained(self.model)
        config = from_dict(Config, predictor.history["config"], f"the history of {self.model}")
        names = ("clips", "samples", "batch_size", "seed", "standing_batches", "standing_batch_size")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        settings = replace(config.evaluation, truncation=self.truncation, **given)
        source = self.source or str(predictor.history["data"])
        splits = [open_clips(source, split, config.data, config.model) for split in ("train", "validation")]
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("evaluating", total=min(settings.clips, splits[1].evaluation_clips))
            evaluation = evaluate(
                predictor.generator,
                predictor.history,
                source,
                splits[0],
                splits[1],
                settings,
                predictor.dtype,
                lambda clips: progress.advance(task, clips),
            )
        folder = Path(self.model)
        out = self.out or (folder if folder.is_dir() else Path()) / "report.json"
        evaluation.save(out)
        print_evaluation(evaluation, console)
        console.print(f"Written: {out}", soft_wrap=True)
        return DONE


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Table of frames, and the protocol."""
    psnr, ssim = evaluation.series("psnr"), evaluation.series("ssim")
    table = Table("frame", *(f"PSNR, {name}" for name in psnr), *(f"SSIM, {name}" for name in ssim))
    columns = [(values, 1) for values in psnr.values()] + [(values, 3) for values in ssim.values()]
    for frame in range(evaluation.protocol.predicted_frames):
        table.add_row(str(frame + 1), *(f"{values[frame]:.{digits}f}" for values, digits in columns))
    table.add_section()
    table.add_row("mean", *(f"{sum(values) / len(values):.{digits + 1}f}" for values, digits in columns))
    console.print(table)
    if evaluation.motion:
        console.print(
            f"Motion: end-point error {evaluation.motion.model:.2f} px against the true flow "
            f"(zero motion {evaluation.motion.zero_motion:.2f} px)",
            highlight=False,
        )
    console.print(f"Protocol: {evaluation.protocol}", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Prepare:
    """Decode a folder of videos once into a memory-mapped store that trains without decoding."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    destination: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    resolution: int = ModelConfig.resolution
    """Pixels of the shorter side."""
    image_channels: Literal[1, 3] = 3
    validation_share: float = DataConfig.validation_share
    """Of a folder without train/ and validation/."""

    def run(self, console: Console) -> int:
        report = write_store(
            self.source, self.destination, self.resolution, self.image_channels, self.validation_share, console
        )
        for line in report.lines():
            console.print(line, highlight=False, soft_wrap=True)
        return DONE


@dataclass(frozen=True)
class Report:
    """Write a run's page, index.html: samples, motion, losses and scores, viewable without a network."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]

    def run(self, console: Console) -> int:
        page = write_run_report(Run(self.folder))
        console.print(f"Written: {page}", soft_wrap=True)
        return DONE


@dataclass(frozen=True)
class Presets:
    """List the presets."""

    def run(self, console: Console) -> int:
        table = Table("preset", "what for")
        for name, preset in PRESETS.items():
            table.add_row(name, preset.about)
        console.print(table)
        return DONE
