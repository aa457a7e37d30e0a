"""Settings of the evaluation, and of the drawing of samples."""

import math
from dataclasses import dataclass
from typing import Literal

from trivd.config.checks import at_least, check_literals, require
from trivd.config.levels import MotionLevels

I3DInput = Literal["reference", "torch", "videogpt"]


@dataclass(frozen=True)
class EvaluationConfig:
    """The evaluation of a model and the drawing of its samples (4.1, C.1, D.1, E.2)."""

    clips: int = 2_048  # held-out clips with one future each: distances, inception score, sharpness, motion
    best_of_clips: int = 256  # held-out clips that get several: frame scores, best of l (Figure 5), diversity
    samples: int = 100  # futures of each of these
    runs: int = 1  # evaluations with seeds of their own, whose mean and standard deviation are reported
    batch_size: int = 32  # futures drawn at once
    truncation: float | None = None  # z's entries beyond it are drawn again, for standing statistics too; 0: z = 0
    seed: int = 0
    features: Literal["auto", "i3d", "moving-digits", "none"] = "auto"  # auto: by the data; I3D if it was imported
    i3d_weights: str | None = None  # file; none: what `trivd weights import` left
    i3d_input: I3DInput = "reference"  # how frames become I3D's input: the reference's way, or another repository's
    feature_cache: int = 1_000  # megabytes of features kept for later evaluations, in the library (TRIVD_HOME); 0: none
    lpips: Literal["auto", "alex", "vgg", "none"] = "auto"  # its backbone; auto: one whose weights were imported
    count_conditioning: bool = True  # whether the given frames count in the Fréchet distance, as in published FVDs
    inception_splits: int = 1  # parts of the clips that the inception score is averaged over
    standing_batches: int = 100  # batches whose statistics make the standing statistics (E.2)
    standing_batch_size: int = 256
    # What a motion field combines: all levels, how many of the finest (two in Figure 3), or resolutions.
    motion_levels: MotionLevels = 2

    def __post_init__(self) -> None:
        check_literals("evaluation", self)
        at_least(1, "evaluation", self, "clips", "best_of_clips", "samples", "runs", "batch_size", "inception_splits")
        at_least(1, "evaluation", self, "standing_batches", "standing_batch_size")
        at_least(0, "evaluation", self, "seed", "feature_cache")
        require(
            self.truncation is None or 0 <= self.truncation < math.inf,
            f"evaluation.truncation is {self.truncation}; use a positive threshold, 0 for z = 0, or none.",
        )
