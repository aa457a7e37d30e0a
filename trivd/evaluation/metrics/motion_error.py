"""End-point error of a model's motion fields against the true optical flow, where it is known."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from trivd.config import EvaluationConfig, chosen_levels, level_names
from trivd.data.clips import DigitClips
from trivd.evaluation.fixed import FixedGenerator
from trivd.evaluation.scorer import clip_latents
from trivd.models.generator import Generator
from trivd.models.motion import endpoint_error, motion_field
from trivd.runtime.graphs import recorder
from trivd.runtime.pixels import to_float

MOTION_CLIPS = 64  # the first of the split
COMBINED, ZERO = "combined", "zero motion"


@dataclass(frozen=True)
class MotionScore:
    """Mean end-point error in pixels, over visible pixels of the predicted frames."""

    model: float  # of the field that the levels `combined` make together (Figure 3)
    zero_motion: float
    clips: int
    levels: dict[str, float] = field(default_factory=dict)  # of the field of each resolution's unit alone
    combined: list[int] = field(default_factory=list)  # resolutions; empty in older reports, which combine all

    @property
    def combined_text(self) -> str:
        """The combined levels in words."""
        return level_names(self.combined) if self.combined else "all levels"

    @property
    def advice(self) -> list[str]:
        """A sentence that names the best level, if its field alone is nearer to the true flow than the combined one."""
        level = min(self.levels, key=self.levels.__getitem__, default=None)
        if level is None or self.levels[level] >= self.model:
            return []
        return [
            f"The motion field of level {level} alone is nearer to the true flow than that of {self.combined_text} "
            f"({self.levels[level]:.2f} px instead of {self.model:.2f}): --motion-levels {level}."
        ]


@torch.no_grad()
def motion_score(
    generator: Generator, digits: DigitClips, settings: EvaluationConfig, dtype: torch.dtype
) -> MotionScore | None:
    """End-point error of motion fields against moving-digits' true flow; None for units that do not warp."""
    given, length = generator.config.conditioning_frames, generator.config.frames
    device = next(generator.parameters()).device
    fixed = FixedGenerator(generator, dtype, recorder(device))
    errors: dict[str, list[Tensor]] = {}
    clips = min(MOTION_CLIPS, digits.evaluation_clips)
    for clip in range(clips):
        shown, label = digits.evaluation_clip(clip)
        video, labels = to_float(shown).to(device)[None], torch.tensor([label], device=device)
        z = clip_latents(clip, 1, generator.config.latent_dim, settings.seed, settings.truncation).to(device)
        warps = fixed(video[:, :given], z, labels, return_warps=True).warps
        if not warps:
            return None
        true = digits.digits.flow(clip)
        truth = torch.from_numpy(true.flow[given - 1 : length - 1])
        visible = torch.from_numpy(true.visible[given - 1 : length - 1])
        weights = {r: w.float() for r, w in warps.items()}
        resolution = generator.config.resolution
        fields = {COMBINED: motion_field(weights, resolution, settings.motion_levels)}
        fields |= {str(r): motion_field(weights, resolution, (r,)) for r in weights}
        flows = {name: flow[:, 0].cpu() for name, flow in fields.items()}
        for name, flow in (flows | {ZERO: torch.zeros_like(truth)}).items():
            errors.setdefault(name, []).append(endpoint_error(flow, truth, visible))
    means = {name: float(torch.stack(values).mean()) for name, values in errors.items()}
    combined = chosen_levels(settings.motion_levels, generator.config.recurrent_resolutions)
    return MotionScore(means.pop(COMBINED), means.pop(ZERO), clips, means, list(combined))
