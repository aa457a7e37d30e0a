"""`trivd evaluate`: a model on held-out clips, or any model's predictions in files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.progress import Progress as ProgressBar
from rich.progress import TaskID

from trivd.commands.status import DONE, STOPPED
from trivd.config import DEFAULT_LIMITS, Config, EvaluationConfig, I3DInput, MotionLevels, VideoLimits
from trivd.data.clips import MOVING_DIGITS
from trivd.data.splits import Split
from trivd.evaluation.evaluate import HeldOut, OtherData, evaluate, evaluate_copies, evaluate_model
from trivd.evaluation.networks.choice import choose_network
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.outcome import REPORT_FILE, Evaluation, check_report
from trivd.evaluation.predictions.subject import PredictionFiles
from trivd.evaluation.protocols import PROTOCOLS, ProtocolName, model_of, scored_name, with_protocol
from trivd.evaluation.subjects import Progress, Subject, TrainedModel
from trivd.evaluation.tables import markdown, print_tables
from trivd.models.motion import NO_MOTION
from trivd.models.pretrained import own_folder
from trivd.pictures.plots import frame_curves, to_png
from trivd.prediction.predictor import Predictor
from trivd.runtime.console import say
from trivd.runtime.distributed import process_group, rank
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_folder, write_atomically
from trivd.runtime.hardware import choose_device
from trivd.training.output import lasting_output
from trivd.training.stops import interrupted_by_signals

COPY = "copy"  # instead of a model
MODEL_SETTINGS = (
    "runs",
    "truncation",
    "standing_data",
    "standing_batches",
    "standing_batch_size",
    "motion_levels",
    "save_model",
)
PATIENCE = 3_600  # seconds that processes of torchrun wait for the slowest of them


@dataclass(frozen=True)
class Evaluate:
    """Score a model, or any predictions in files, against copying the last frame; repeat the command to resume."""

    model: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="MODEL")] = None
    """A model's or run's folder, a bundled model (`trivd models`), or a name on the Hugging Face hub;
    "copy" scores copies of the last given frame without any model, to check DATA and I3D before training."""
    source: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="DATA")] = None
    """Data set whose clips count; if not given, the one the model was trained on."""
    protocol: ProtocolName | None = None
    """A protocol of the paper, which sets the split, the clips and what else the figures depend on. Options win."""
    split: Split | None = None
    """Whose clips count; if not given, the protocol's or the held-out one (validation, if the data have it)."""
    standing_data: str | None = None
    """Data set whose training clips give the standing statistics; DATA if not given."""
    predictions: Path | None = None
    """Instead of MODEL: a folder with a video, or a folder of videos (samples), for each name in --truth."""
    truth: Path | None = None
    """The true videos, given frames included."""
    conditioning_frames: int | None = None
    """With --predictions: how many of the true frames were given."""
    clips: int | None = None
    """Clips with one future each. This and the following are as in the protocol, or in training, if not given."""
    best_of_clips: int | None = None
    """Clips with several futures each."""
    samples: int | None = None
    """Futures of each of these."""
    runs: int | None = None
    """Evaluations with seeds of their own; mean and standard deviation are reported."""
    batch_size: int | None = None
    """Futures drawn at once."""
    truncation: float | None = None
    """Of z, also while the standing statistics are collected: 0.8 is moderate, 0 gives z = 0."""
    seed: int | None = None
    """Of z and of the clips for the standing statistics, in the first run; the next run takes the next number."""
    features: Literal["auto", "i3d", "moving-digits", "none"] | None = None
    """Network of the Fréchet distance and inception score."""
    i3d_weights: str | None = None
    """A file of weights; if not given, the one that `trivd weights import` wrote."""
    i3d_input: I3DInput | None = None
    """How frames become I3D's input: reference (TensorFlow's resize), torch (torch's) or videogpt (values halved)."""
    feature_cache: int | None = None
    """Megabytes of features of true clips and files that are kept for later evaluations; 0 keeps and uses none."""
    count_conditioning: bool | None = None
    """Whether the given frames count in the Fréchet distance; they do in published FVDs."""
    inception_splits: int | None = None
    """Parts of the clips that the inception score is averaged over."""
    standing_batches: int | None = None
    """Batches of training clips whose statistics make the standing statistics."""
    standing_batch_size: int | None = None
    """Clips in each of these batches."""
    motion_levels: MotionLevels | None = None
    """On moving-digits: levels that the motion field combines: all, how many of the finest, or resolutions. Each level
    is scored alone, too."""
    save_model: Path | None = None
    """Folder for a copy of the model with these standing statistics, which fit --truncation in `trivd predict`."""
    limits: VideoLimits = DEFAULT_LIMITS
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""
    out: Path | None = None
    """The JSON file to write, .md and .png beside it; report.json in the model's or predictions' folder if not given
    (here, for a bundled model or one of the hub)."""

    def run(self, console: Console) -> int:
        out = self._report_file()
        picture, tables = _beside(out)
        check_report(out, (picture, tables))
        if self.save_model is not None:
            check_output_folder(self.save_model, "choose another folder for the model", empty=True)
        device = choose_device(self.device, "--device")
        with lasting_output(console):
            try:
                with interrupted_by_signals(), process_group(device, PATIENCE):
                    with progress_shown(console if rank() == 0 else Console(quiet=True)) as progress:
                        evaluation = self._evaluate(device, progress, out)
                    if rank() == 0:
                        self._write(evaluation, out, console)
            except KeyboardInterrupt:
                say(console, "Stopped; finished batches are kept. Repeat the command to resume.")
                return STOPPED
        return DONE

    def _report_file(self) -> Path:
        """The JSON file to write."""
        if self.predictions is not None:
            return self.out or self.predictions / REPORT_FILE
        if self.model is None:
            raise TrivdError("Name a model's folder, or --predictions and --truth; see trivd evaluate --help.")
        folder = None if self.model == COPY else own_folder(self.model)
        return self.out or (folder or Path()) / REPORT_FILE

    def _evaluate(self, device: torch.device, progress: Progress, out: Path) -> Evaluation:
        if self.predictions is not None:
            return self._files(device, progress, out)
        if self.truth is not None or self.conditioning_frames is not None:
            raise TrivdError("--truth and --conditioning-frames belong to --predictions; leave them out for a model.")
        return (self._copies if self.model == COPY else self._model)(device, progress, out)

    def _write(self, evaluation: Evaluation, out: Path, console: Console) -> None:
        """Print the figures, and write tables and a plot beside the JSON report."""
        picture, tables = _beside(out)
        write_atomically(picture, to_png(frame_curves(evaluation.titled_curves)))
        write_atomically(tables, markdown(evaluation, picture.name).encode(errors="replace"))
        print_tables(evaluation, console)
        if self.protocol is not None:
            say(console, f"{self.protocol}: {PROTOCOLS[self.protocol].about}.")
        say(console, f"Written: {out}, {tables.name}, {picture.name}")

    def _model(self, device: torch.device, progress: Progress, out: Path) -> Evaluation:
        assert self.model is not None
        predictor = Predictor.from_pretrained(self.model, self.device)
        trained_with = predictor.trained_with
        config, split = self._resolved(trained_with)
        data = self.source or str(predictor.history["data"])
        if self.motion_levels is not None and data != MOVING_DIGITS:
            raise TrivdError(
                f"--motion-levels is of use on {MOVING_DIGITS} alone, whose flow is known; leave it out for {data}."
            )
        if self.motion_levels is not None and predictor.motion_levels is None:
            raise TrivdError(NO_MOTION)
        standing = None
        if self.standing_data is not None:
            standing = OtherData(self.standing_data, replace(trained_with.data, limits=self.limits))
        evaluation = evaluate_model(
            TrainedModel(predictor.generator, predictor.history, predictor.dtype),
            config,
            data,
            name=scored_name(data, config.data, self.protocol),
            split=split,
            device=device,
            report=out,
            standing=standing,
            progress=progress,
        )
        if self.save_model is not None and rank() == 0:
            predictor.with_statistics_of(config.evaluation).save_pretrained(self.save_model)
        return evaluation

    def _copies(self, device: torch.device, progress: Progress, out: Path) -> Evaluation:
        if self.source is None:
            raise TrivdError("Name the data too: trivd evaluate copy DATA.")
        self._refuse(("samples", "seed", *MODEL_SETTINGS), 'leave it out with "copy"')
        config, split = self._resolved(Config(model=model_of(self.protocol)))
        name = scored_name(self.source, config.data, self.protocol)
        return evaluate_copies(
            config, self.source, name=name, split=split, device=device, report=out, progress=progress
        )

    def _resolved(self, config: Config) -> tuple[Config, Split | None]:
        """Settings of the clips' model as the protocol and the options want them, and the split; None: any held-out."""
        split: Split | None = None
        if self.protocol is not None:
            config, split = with_protocol(config, self.protocol, config.model)
        data = replace(config.data, limits=self.limits)
        return replace(config, data=data, evaluation=self._settings(config)), self.split or split

    def _files(self, device: torch.device, progress: Progress, out: Path) -> Evaluation:
        assert self.predictions is not None
        if self.truth is None or self.conditioning_frames is None:
            raise TrivdError("--predictions needs --truth, a folder, and --conditioning-frames, how many were given.")
        if self.conditioning_frames < 1:
            raise TrivdError(f"--conditioning-frames is {self.conditioning_frames}; it must be at least 1.")
        self._refuse(("model", "source", "protocol", "split", *MODEL_SETTINGS), "leave it out with --predictions")
        files = PredictionFiles(self.predictions, self.truth, self.conditioning_frames, self.limits)
        samples = files.samples if self.samples is None else self.samples
        if samples > files.samples:
            raise TrivdError(
                f"--samples is {samples}, but {self.predictions} holds {files.samples} predictions of each clip."
            )
        settings = replace(
            self._settings(Config(evaluation=EvaluationConfig(clips=len(files), best_of_clips=len(files)))),
            samples=samples,
        )
        network: FeatureNetwork | None = choose_network(settings, files, device)
        subject = Subject(
            files,
            f"predictions {self.predictions}",
            self.conditioning_frames,
            notes=files.notes,
            check=files.check_readable,
        )
        held_out = HeldOut(files, str(self.truth), 1)
        return evaluate(subject, held_out, settings, network, device=device, report=out, progress=progress)

    def _refuse(self, options: Sequence[str], remedy: str) -> None:
        """Refuse options, or MODEL and DATA, of an evaluation of models.

        Raises:
            TrivdError: one is given.
        """
        for option in options:
            if getattr(self, option) is not None:
                name = {"model": "MODEL", "source": "DATA"}.get(option, f"--{option.replace('_', '-')}")
                raise TrivdError(f"{name} belongs to the evaluation of a model; {remedy}.")

    def _settings(self, base: Config) -> EvaluationConfig:
        given: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(EvaluationConfig)
            if getattr(self, field.name) is not None
        }
        return replace(base, evaluation=replace(base.evaluation, **given)).evaluation


def _beside(out: Path) -> tuple[Path, Path]:
    """The files of a report's plot and tables."""
    # Not with_suffix, which would cut truncation-0.8 down to truncation-0.
    picture, tables = (out.with_name(out.name.removesuffix(".json") + suffix) for suffix in (".png", ".md"))
    return picture, tables


@contextmanager
def progress_shown(console: Console) -> Iterator[Progress]:
    """Progress as a bar for each part of an evaluation; without a terminal, as a line for each tenth of it."""
    with ProgressBar(console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}
        tenths: dict[str, int] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)
            if not console.is_terminal and tenths.get(what) != 10 * done // total:
                tenths[what] = 10 * done // total
                say(console, f"{what}: {done:,} of {total:,} clips")

        yield show
