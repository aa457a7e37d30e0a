"""Folders of predictions that `trivd evaluate` scores: in pairs with the truth, or as sets by another protocol."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from trivd.commands.reports import Outputs, part_of
from trivd.config import EvaluationConfig, VideoLimits
from trivd.evaluation.outcome import Evaluation
from trivd.evaluation.predictions.fitting import Fit
from trivd.evaluation.predictions.paired import Paired, evaluate_paired, samples_of
from trivd.evaluation.predictions.video_sets import evaluate_folder_set
from trivd.evaluation.set_protocols import SetProtocolName
from trivd.evaluation.subjects import Progress
from trivd.runtime.errors import TrivdError


@dataclass(frozen=True)
class Folders:
    """Folders of predictions, and what the user said of them."""

    predictions: Sequence[Path]
    truth: Path | None
    given: int | None
    fit: Fit
    limits: VideoLimits
    outputs: Outputs
    device: torch.device
    progress: Progress

    def paired(
        self, settings_of: Callable[[EvaluationConfig], EvaluationConfig], samples: int | None
    ) -> dict[str, Evaluation]:
        """Evaluations of each folder against the true videos of the same names.

        Args:
            settings_of: the settings, from those that count all clips.
            samples: of each clip; None: as many as all have.

        Raises:
            TrivdError: an option is missing; otherwise see `Paired` and `evaluate_paired`.
        """
        if self.truth is None or self.given is None:
            raise TrivdError("--predictions needs --truth, a folder, and --conditioning-frames, how many were given.")
        if self.given < 1:
            raise TrivdError(f"--conditioning-frames is {self.given}; it must be at least 1.")
        files = Paired(self.predictions, self.truth, self.given, self.limits, self.fit).open()
        settings = settings_of(EvaluationConfig(clips=len(files[0]), best_of_clips=len(files[0])))
        counts = samples_of(files, samples)
        return {
            name: evaluate_paired(
                one, replace(settings, samples=count), device=self.device, report=out, progress=progress
            )
            for one, count, (name, out, progress) in zip(files, counts, self._places(), strict=True)
        }

    def as_sets(self, protocol: SetProtocolName, settings: EvaluationConfig) -> dict[str, Evaluation]:
        """Evaluations of each folder as a set.

        Raises:
            TrivdError: an option is missing; otherwise see `evaluate_folder_set`.
        """
        if self.truth is None:
            raise TrivdError(f"--protocol {protocol} needs --truth, a folder of true videos.")
        return {
            name: evaluate_folder_set(
                folder,
                self.truth,
                protocol,
                settings,
                limits=self.limits,
                resolution=self.fit.resolution,
                device=self.device,
                report=out,
                progress=progress,
            )
            for folder, (name, out, progress) in zip(self.predictions, self._places(), strict=True)
        }

    def _places(self) -> Iterator[tuple[str, Path, Progress]]:
        """Name, report and progress of each folder."""
        for name, out in self.outputs.reports.items():
            yield name, out, self.progress if self.outputs.joint is None else part_of(self.progress, name)
