"""Folders of predictions, each scored against the true videos of the same names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from trivd.config import EvaluationConfig, VideoLimits
from trivd.evaluation.evaluate import HeldOut, evaluate
from trivd.evaluation.networks.choice import choose_network
from trivd.evaluation.outcome import Evaluation
from trivd.evaluation.predictions.fitting import Fit
from trivd.evaluation.predictions.folders import clips_in_common
from trivd.evaluation.predictions.subject import PredictionFiles
from trivd.evaluation.subjects import Progress, Subject
from trivd.runtime.errors import TrivdError

BEST_OF = (*range(2, 11), 20, 50, 100)  # counts l for which best-of-l is reported, where there are so many samples


@dataclass(frozen=True)
class Paired:
    """Folders of predictions beside their truth."""

    predictions: Sequence[Path]
    truth: Path
    given: int  # C, the first frames of the truth that were given
    limits: VideoLimits
    fit: Fit

    def open(self) -> list[PredictionFiles]:
        """The predictions of each folder: of the same clips, of as many frames.

        Raises:
            TrivdError: see `PredictionFiles` and `clips_in_common`.
        """
        only = clips_in_common(self.predictions, self.truth)
        files = [
            PredictionFiles(folder, self.truth, self.given, self.limits, fit=self.fit, only=only)
            for folder in self.predictions
        ]
        shortest = min(one.predicted for one in files)
        return [one if one.predicted == shortest else one.cut_to(shortest) for one in files]


def samples_of(files: Sequence[PredictionFiles], wanted: int | None) -> list[int]:
    """How many samples of each folder are scored: as many as all have, apart from those that have but one.

    Args:
        files: of each folder.
        wanted: of each; None: as many as can be.

    Raises:
        TrivdError: there are fewer than wanted.
    """
    fewest = min(files, key=lambda one: one.samples)
    if wanted is not None and wanted > fewest.samples:
        raise TrivdError(f"--samples is {wanted}, but {fewest.folder} holds {fewest.samples} predictions of each clip.")
    several = min((one.samples for one in files if one.samples > 1), default=1)
    return [wanted or min(one.samples, several) for one in files]


def paired_subject(files: PredictionFiles) -> Subject:
    """The predictions of a folder as the subject."""
    return Subject(
        files,
        f"predictions {files.folder}",
        files.given,
        notes=files.notes,
        best_of=BEST_OF,
        intervals=True,
        check=files.check_readable,
    )


def evaluate_paired(
    files: PredictionFiles,
    settings: EvaluationConfig,
    *,
    device: torch.device,
    report: Path,
    progress: Progress,
) -> Evaluation:
    """Score the predictions of a folder, with intervals, and write the report; see `evaluate`.

    Args:
        files: the predictions and their truth.
        settings: of the evaluation; it has one run.
        device, report, progress: see `evaluate`.

    Raises:
        TrivdError: see `evaluate`.
    """
    settings = replace(settings, runs=1)
    subject = paired_subject(files)
    network = choose_network(settings, files, device)
    held_out = HeldOut(files, str(files.truth), 1)
    return evaluate(subject, held_out, settings, network, device=device, report=report, progress=progress)
