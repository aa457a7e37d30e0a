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

from trivd.commands.folders import Folders
from trivd.commands.reports import Outputs, beside, outputs_of_folders, write_beside, write_joint
from trivd.commands.status import DONE, STOPPED
from trivd.config import DEFAULT_LIMITS, Config, EvaluationConfig, I3DInput, MotionLevels, VideoLimits
from trivd.data.clips import MOVING_DIGITS
from trivd.data.splits import Split
from trivd.evaluation.evaluate import OtherData, evaluate_copies, evaluate_model
from trivd.evaluation.outcome import REPORT_FILE, Evaluation, check_report
from trivd.evaluation.predictions.fitting import Cut, Fit
from trivd.evaluation.protocols import PROTOCOLS, ProtocolName, model_of, scored_name, with_protocol
from trivd.evaluation.set_protocols import SET_PROTOCOLS, SetProtocolName
from trivd.evaluation.subjects import Progress, TrainedModel
from trivd.evaluation.tables import print_tables
from trivd.models.motion import NO_MOTION
from trivd.models.pretrained import own_folder
from trivd.prediction.predictor import Predictor
from trivd.runtime.console import say
from trivd.runtime.distributed import process_group, rank
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_folder
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
ABOUT: dict[ProtocolName | SetProtocolName, str] = {
    **{name: protocol.about for name, protocol in PROTOCOLS.items()},
    **{name: protocol.about for name, protocol in SET_PROTOCOLS.items()},
}
NOT_OF_SETS = (
    "model",
    "source",
    "split",
    "conditioning_frames",
    "cut",
    "best_of_clips",
    "samples",
    "i3d_input",
    "lpips",
    "count_conditioning",
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
    protocol: ProtocolName | SetProtocolName | None = None
    """A protocol of the paper, which sets the split, the clips and what else the figures depend on. Options win. With
    --predictions: one of another repository, which compares sets of videos without pairs or given frames."""
    split: Split | None = None
    """Whose clips count; if not given, the protocol's or the held-out one (validation, if the data have it)."""
    standing_data: str | None = None
    """Data set whose training clips give the standing statistics; DATA if not given."""
    predictions: tuple[Path, ...] = ()
    """Instead of MODEL: a folder, or one for each of several models, with a video, or a folder of videos (samples), for
    each name in --truth."""
    truth: Path | None = None
    """The true videos, given frames included."""
    conditioning_frames: int | None = None
    """With --predictions: how many of the true frames were given."""
    cut: Cut | None = None
    """With --predictions: cut videos of several lengths to the shortest. whole: predictions begin with the given
    frames; futures: they begin after them."""
    resolution: int | None = None
    """With --predictions: resize all frames to this shorter side in pixels, and score the square in the middle."""
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
    lpips: Literal["auto", "alex", "vgg", "none"] | None = None
    """Backbone of LPIPS; auto: one whose weights were imported."""
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
    (here, for a bundled model or one of the hub). Of several folders of predictions, each has its report.json, and
    comparison.json here has all; with --out, their reports are beside it."""

    def run(self, console: Console) -> int:
        outputs = self._outputs()
        for out in outputs.all:
            check_report(out, beside(out))
        if self.save_model is not None:
            check_output_folder(self.save_model, "choose another folder for the model", empty=True)
        device = choose_device(self.device, "--device")
        with lasting_output(console):
            try:
                with interrupted_by_signals(), process_group(device, PATIENCE):
                    with progress_shown(console if rank() == 0 else Console(quiet=True)) as progress:
                        evaluations = self._evaluate(device, progress, outputs)
                    if rank() == 0:
                        self._write(evaluations, outputs, console)
            except KeyboardInterrupt:
                say(console, "Stopped; finished batches are kept. Repeat the command to resume.")
                return STOPPED
        return DONE

    def _outputs(self) -> Outputs:
        """The JSON files to write."""
        if self.predictions:
            return outputs_of_folders(self.predictions, self.out)
        if self.model is None:
            raise TrivdError("Name a model's folder, or --predictions and --truth; see trivd evaluate --help.")
        folder = None if self.model == COPY else own_folder(self.model)
        return Outputs({self.model: self.out or (folder or Path()) / REPORT_FILE}, None)

    def _evaluate(self, device: torch.device, progress: Progress, outputs: Outputs) -> dict[str, Evaluation]:
        if self.predictions:
            return self._files(device, progress, outputs)
        for option in ("truth", "conditioning_frames", "cut", "resolution"):
            if getattr(self, option) is not None:
                raise TrivdError(f"{_spelled(option)} belongs to --predictions; leave it out for a model.")
        ((name, out),) = outputs.reports.items()
        return {name: (self._copies if self.model == COPY else self._model)(device, progress, out)}

    def _files(self, device: torch.device, progress: Progress, outputs: Outputs) -> dict[str, Evaluation]:
        """Evaluations of folders of predictions."""
        fit = Fit(self.cut, self.resolution)
        folders = Folders(
            self.predictions, self.truth, self.conditioning_frames, fit, self.limits, outputs, device, progress
        )
        name = next((name for name in SET_PROTOCOLS if name == self.protocol), None)
        if name is None:
            self._refuse(("model", "source", "protocol", "split", *MODEL_SETTINGS), "leave it out with --predictions")
            return folders.paired(lambda base: self._settings(Config(evaluation=base)), self.samples)
        self._refuse(NOT_OF_SETS, f"leave it out with --protocol {name}", "models or pairs")
        self._refuse(MODEL_SETTINGS, "leave it out with --predictions")
        protocol = SET_PROTOCOLS[name]
        base = EvaluationConfig(clips=protocol.clips, i3d_input=protocol.i3d_input)
        return folders.as_sets(name, self._settings(Config(evaluation=base)))

    @property
    def _protocol_of_models(self) -> ProtocolName | None:
        """--protocol, of an evaluation of a model.

        Raises:
            TrivdError: it is about sets.
        """
        if self.protocol in SET_PROTOCOLS:
            raise TrivdError(f"--protocol {self.protocol} is about folders of videos; name --predictions and --truth.")
        return next((name for name in PROTOCOLS if name == self.protocol), None)

    def _write(self, evaluations: dict[str, Evaluation], outputs: Outputs, console: Console) -> None:
        """Print the figures, and write tables and a plot beside each JSON report."""
        for name, out in outputs.reports.items():
            write_beside(evaluations[name], out)
        if outputs.joint is None:
            (evaluation,) = evaluations.values()
            print_tables(evaluation, console)
        else:
            write_joint(evaluations, outputs.joint, console)
        if self.protocol is not None:
            say(console, f"{self.protocol}: {ABOUT[self.protocol]}.")
        for out in outputs.all:
            say(console, f"Written: {out}, {', '.join(path.name for path in reversed(beside(out)))}")

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
            name=scored_name(data, config.data, self._protocol_of_models),
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
        config, split = self._resolved(Config(model=model_of(self._protocol_of_models)))
        name = scored_name(self.source, config.data, self._protocol_of_models)
        return evaluate_copies(
            config, self.source, name=name, split=split, device=device, report=out, progress=progress
        )

    def _resolved(self, config: Config) -> tuple[Config, Split | None]:
        """Settings of the clips' model as the protocol and the options want them, and the split; None: any held-out."""
        split: Split | None = None
        if (protocol := self._protocol_of_models) is not None:
            config, split = with_protocol(config, protocol, config.model)
        data = replace(config.data, limits=self.limits)
        return replace(config, data=data, evaluation=self._settings(config)), self.split or split

    def _refuse(self, options: Sequence[str], remedy: str, whose: str = "a model") -> None:
        """Refuse options, or MODEL and DATA, of an evaluation of models, or of whatever else.

        Raises:
            TrivdError: one is given.
        """
        for option in options:
            if getattr(self, option) is not None:
                raise TrivdError(f"{_spelled(option)} belongs to the evaluation of {whose}; {remedy}.")

    def _settings(self, base: Config) -> EvaluationConfig:
        given: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(EvaluationConfig)
            if getattr(self, field.name) is not None
        }
        return replace(base, evaluation=replace(base.evaluation, **given)).evaluation


def _spelled(option: str) -> str:
    """An option, or MODEL and DATA, as the user writes it."""
    return {"model": "MODEL", "source": "DATA"}.get(option, f"--{option.replace('_', '-')}")


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
            tenth = 10 * done // max(total, 1)  # a process of several may have nothing to do
            if not console.is_terminal and tenths.get(what) != tenth:
                tenths[what] = tenth
                say(console, f"{what}: {done:,} of {total:,} clips")

        yield show
