"""Results of an evaluation: its figures and the protocol they depend on, and the JSON report that holds them."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dacite

from trivd.evaluation.metrics.motion_error import MotionScore
from trivd.evaluation.networks.lpips import BACKBONES, score_name
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import ANOTHER_OUT, check_output_file, read_json, write_atomically
from trivd.runtime.words import counted

REPORT_FILE = "report.json"  # in the folder of a model or of predictions
LARGEST_REPORT = 1 << 24  # bytes; ours have 10 kB
MOST_DIGITS = 10  # after the decimal point
LINE = "protocol_line"  # key of the protocol in words
ESCAPED = "backslashreplace"  # writes names of files that are not text as JSON escapes them: \udcff

COPIES = "copies of the last given frame"  # as the subject of an evaluation
HEADING = "# Evaluation on "  # begins the tables in Markdown

# Scores by frame.
LPIPS = {score_name(name): (f"LPIPS ({backbone.title})", 3) for name, backbone in BACKBONES.items()}
TITLES = {"psnr": ("PSNR [dB]", 2), "ssim": ("SSIM", 3)} | LPIPS  # and digits after the point
APPEARANCE = {"sharpness": "sharpness [grey levels / pixel]", "motion": "motion magnitude [grey levels / frame]"}
CURVE_TITLES = TITLES | {name: (title.capitalize(), 2) for name, title in APPEARANCE.items()}


@dataclass(frozen=True)
class Protocol:
    """Everything the figures depend on; printed with them."""

    data: str
    split: str
    clips: int  # with one future each
    best_of_clips: int  # with several futures each
    resolution: int  # pixels
    stride: int  # between the frames of a clip, in frames of the video (at `fps`, if set)
    conditioning_frames: int
    predicted_frames: int  # these count in frame scores
    compared_frames: int  # these count in the Fréchet distance
    samples: int
    runs: int
    truncation: float | None
    seed: int
    standing_statistics: str  # "" where there is no model
    features: str  # network of the Fréchet distance and inception score; "" without
    inception_splits: int
    subject: str  # whose futures
    fps: float | None = None  # rate at which videos were read; None: their own frames, or of the time before it was set
    unreadable: int = 0  # clips left out because they cannot be read
    lpips: str = ""  # its backbone and weights; "" without, or of the time before it
    sets: str = ""  # how statistics of unpaired sets are computed, `clips` against `best_of_clips` true ones; "": pairs

    @property
    def identity(self) -> dict[str, Any]:
        """As JSON values. Without LPIPS and sets they are those of the time before them, so that evaluations resume."""
        return {name: value for name, value in asdict(self).items() if name not in ("lpips", "sets") or value}

    def __str__(self) -> str:
        return self._of_sets() if self.sets else self._of_pairs()

    def _of_sets(self) -> str:
        parts = [
            f"{self.data}, {self.resolution} pixels, stride {self.stride}",
            f"{counted(self.clips, 'clip')} of {self.predicted_frames} frames against {self.best_of_clips:,} true "
            f"ones, no pairs, starts from seed {self.seed}",
            self.sets,
        ]
        if self.features:
            parts.append(f"features {self.features}, inception score in {counted(self.inception_splits, 'split')}")
        return "; ".join([*parts, self.subject])

    def _of_pairs(self) -> str:
        truncation = "no truncation" if self.truncation is None else f"truncation {self.truncation:g}"
        included = "given ones included" if self.compared_frames > self.predicted_frames else "given ones left out"
        rate = "" if self.fps is None else f" at {self.fps:g} frames a second"
        parts = [
            f"{self.data}, {self.split} split, {self.resolution} pixels, stride {self.stride}{rate}",
            f"{self.conditioning_frames} frames given, {self.predicted_frames} predicted and counted in frame scores",
            f"frame scores of {counted(self.best_of_clips, 'clip')} x {counted(self.samples, 'sample')}",
            f"sharpness and motion magnitude of {counted(self.clips, 'clip')} x 1 sample",
        ]
        if self.features:
            parts[-1] = (
                f"distances of {self.clips:,} clips x 1 sample against the same {self.clips:,} true clips, "
                f"{self.compared_frames} frames compared ({included}), features {self.features}, "
                f"inception score in {counted(self.inception_splits, 'split')}"
            )
        if self.lpips:
            parts.append(f"LPIPS by {self.lpips}")
        parts.append(f"{counted(self.runs, 'run')} from seed {self.seed}")
        if self.standing_statistics:
            parts += [truncation, self.standing_statistics]
        if self.unreadable:
            parts.append(f"{counted(self.unreadable, 'clip')} left out: cannot be read")
        return "; ".join([*parts, self.subject])


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over the runs of an evaluation."""

    mean: float
    std: float | None  # unbiased standard deviation; None for a single run
    runs: list[float]

    @classmethod
    def of(cls, runs: Sequence[float]) -> "Spread":
        """Mean and standard deviation of at least one value."""
        return cls(statistics.fmean(runs), statistics.stdev(runs) if len(runs) > 1 else None, list(runs))

    def text(self, digits: int) -> str:
        """Such as "12.3 ± 0.4"; without the deviation for one run."""
        return f"{self.mean:.{digits}f}" + ("" if self.std is None else f" ± {self.std:.{digits}f}")


@dataclass(frozen=True)
class Figure:
    """One measure, of the model and of its baselines."""

    name: str
    better: str  # "lower", "higher", "like the truth", or "" where neither is
    digits: int  # worth printing after the point
    model: Spread
    copy: float | None  # copying the last given frame
    truth: float | None  # the true clips, which a perfect model would match
    interval: list[float] | None = None  # of the model's mean, 95%, over clips; None: of the runs there is a deviation

    @property
    def text(self) -> str:
        """The model's value, with its deviation or interval: "12.3 ± 0.4", "12.3 [11.9, 12.8]"."""
        ends = self.interval and f" [{', '.join(f'{end:.{self.digits}f}' for end in self.interval)}]"
        return self.model.text(self.digits) + (ends or "")


@dataclass(frozen=True)
class Absent:
    """A measure that could not be computed."""

    name: str
    why: str  # and what to do, as the end of "not computed: ..."

    @property
    def text(self) -> str:
        """What stands in place of a number."""
        return f"not computed: {self.why}"


@dataclass(frozen=True)
class Evaluation:
    """All results; curves are means over clips and runs."""

    protocol: Protocol
    figures: list[Figure]
    curves: dict[str, dict[str, list[float]]]  # psnr, ssim, ... -> series -> one value per frame
    motion: MotionScore | None
    warnings: list[str]
    absent: list[Absent] = field(default_factory=list)  # earlier versions did not say

    @property
    def titled_curves(self) -> dict[str, dict[str, list[float]]]:
        """The curves by title with unit, as plots and tables name them."""
        return {CURVE_TITLES[score][0]: series for score, series in self.curves.items()}

    def figure(self, name: str) -> Figure:
        """The figure of that name.

        Raises:
            KeyError: there is none.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    def save(self, path: Path) -> None:
        """Write the report, with the protocol in words too."""
        values = asdict(self) | {LINE: str(self.protocol)}
        write_atomically(path, json.dumps(values, indent=2, ensure_ascii=False).encode(errors=ESCAPED))


def check_report(path: Path, beside: Sequence[Path] = ()) -> None:
    """Refuse a report that could not be written, or would overwrite something else.

    Args:
        path: of the JSON file; an earlier report may be replaced.
        beside: files that are written with it.

    Raises:
        TrivdError: a file cannot be written, or exists and does not belong to a report.
    """
    for file in (path, *beside):
        check_output_file(file)
    if path.exists() and path.stat().st_size:
        foreign = [] if _is_report(path) else [path]
    else:
        left = [file for file in beside if file.exists()]  # of a report that was removed, if its tables are among them
        foreign = [] if any(file.read_bytes().startswith(HEADING.encode()) for file in left) else left
    if foreign:
        raise TrivdError(
            f"{foreign[0]} was not written by `trivd evaluate`, and is not overwritten; {ANOTHER_OUT}, or move it away."
        )


def _is_report(path: Path) -> bool:
    """Whether a file is a report, of this or of another version."""
    try:
        values = read_json(path, LARGEST_REPORT)
    except ValueError:
        return False
    return isinstance(values, dict) and LINE in values


def _check(evaluation: Evaluation) -> None:
    """Check what tables and plots rely on.

    Raises:
        ValueError: something does not hold.
    """
    if unknown := set(evaluation.curves) - set(CURVE_TITLES):
        raise ValueError(f"there is no score {min(unknown)}")
    lengths = {len(values) for series in evaluation.curves.values() for values in series.values()}
    if lengths != {evaluation.protocol.predicted_frames} or not all(evaluation.curves.values()):
        raise ValueError("its curves have other lengths than the predicted frames")
    if any(figure.interval is not None and len(figure.interval) != 2 for figure in evaluation.figures):
        raise ValueError("an interval has other than two ends")
    if not all(0 <= figure.digits <= MOST_DIGITS for figure in evaluation.figures):
        raise ValueError(f"a figure has more than {MOST_DIGITS} digits behind the point")


def read_evaluation(path: Path) -> Evaluation:
    """The inverse of `Evaluation.save`.

    Raises:
        TrivdError: the file is not a report of this version.
    """
    try:
        values: dict[str, Any] = read_json(path, LARGEST_REPORT)
        values.pop(LINE)
        evaluation = dacite.from_dict(Evaluation, values, dacite.Config(strict=True))
        _check(evaluation)
        return evaluation
    except (ValueError, KeyError, AttributeError, TypeError, dacite.DaciteError) as error:
        raise TrivdError(f"{path} is not a report of this version ({error}); make it again: trivd evaluate.") from error
