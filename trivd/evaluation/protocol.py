"""An evaluation that can be repeated: the model's scores on held-out clips, with all that they depend on."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from trivd.config import EvaluationConfig
from trivd.data.clips import ClipDataset, DigitClips
from trivd.data.loader import evaluation_batches
from trivd.evaluation.frames import FrameCurves
from trivd.evaluation.scores import clip_latents, compare_with_copy
from trivd.evaluation.standing import refresh_standing_statistics
from trivd.files import write_atomically
from trivd.hardware import autocast
from trivd.models.generator import Generator
from trivd.motion import endpoint_error, motion_field
from trivd.video import to_float

MOTION_CLIPS = 64  # for the end-point error


@dataclass(frozen=True)
class Protocol:
    """What the figures depend on; printed with them."""

    data: str
    split: str
    clips: int
    conditioning_frames: int
    predicted_frames: int  # the frames that count; conditioning frames do not
    samples: int
    truncation: float | None
    seed: int
    standing_statistics: str
    weights_sha256: str
    trained_steps: int
    reconstruction_weight: float  # of L1 in training; 0 in the paper

    def __str__(self) -> str:
        truncation = "no truncation" if self.truncation is None else f"truncation {self.truncation}"
        regulariser = f"with L1 x {self.reconstruction_weight:g}" if self.reconstruction_weight else "adversarial alone"
        return (
            f"{self.data}, {self.split} split, {self.clips} clips, {self.conditioning_frames} frames given, "
            f"{self.predicted_frames} predicted and counted, {self.samples} samples, {truncation}, seed {self.seed}, "
            f"{self.standing_statistics}, weights {self.weights_sha256[:12]} after {self.trained_steps} steps, "
            f"trained {regulariser}"
        )


@dataclass(frozen=True)
class MotionScore:
    """Mean end-point error in pixels, over visible pixels of the predicted frames."""

    model: float
    zero_motion: float


@dataclass(frozen=True)
class Evaluation:
    """Per-frame means over clips, as plain lists."""

    protocol: Protocol
    model: dict[str, dict[str, list[float]]]  # psnr, ssim -> single, best, mean_prediction -> one value per frame
    copy: dict[str, list[float]]  # psnr, ssim -> one value per frame
    motion: MotionScore | None

    def series(self, score: Literal["psnr", "ssim"]) -> dict[str, list[float]]:
        """What is compared, by name: one value per predicted frame."""
        model, samples = self.model[score], self.protocol.samples
        return {
            "copy the last frame": self.copy[score],
            "one sample": model["single"],
            f"mean of {samples} samples": model["mean_prediction"],
            f"best of {samples}": model["best"],
        }

    def save(self, path: Path) -> None:
        """Write as JSON, the protocol in words among it."""
        write_atomically(path, json.dumps(asdict(self) | {"protocol_line": str(self.protocol)}, indent=2).encode())


def read_evaluation(path: Path) -> Evaluation:
    """The inverse of `Evaluation.save`."""
    values: dict[str, Any] = json.loads(path.read_text())
    motion = MotionScore(**values["motion"]) if values["motion"] else None
    return Evaluation(Protocol(**values["protocol"]), values["model"], values["copy"], motion)


def weights_hash(generator: Generator) -> str:
    """SHA-256 over the parameters' names and values."""
    digest = hashlib.sha256()
    for name, parameter in sorted(generator.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def evaluate(
    generator: Generator,
    history: dict[str, Any],
    data: str,
    train: ClipDataset,
    held_out: ClipDataset,
    settings: EvaluationConfig,
    dtype: torch.dtype,
    advance: Callable[[int], None],
) -> Evaluation:
    """Standing statistics afresh on training clips, then scores on held-out ones (4.1, C.1, E.2).

    Args:
        generator: with averaged weights; its standing statistics are replaced.
        history: of the model, from its config.json.
        data: name of the data set.
        train: for the standing statistics.
        held_out: the clips that count.
        settings: how many of what.
        dtype: of convolutions.
        advance: called with the number of clips done after each batch.
    """
    refresh_standing_statistics(generator, train, settings, dtype)
    batches = evaluation_batches(held_out, settings.clips, settings.batch_size)
    result = compare_with_copy(generator, batches, settings.samples, settings.truncation, settings.seed, dtype, advance)
    protocol = Protocol(
        data=data,
        split="validation",
        clips=len(result.copy.psnr.single),
        conditioning_frames=generator.config.conditioning_frames,
        predicted_frames=generator.config.predicted_frames,
        samples=settings.samples,
        truncation=settings.truncation,
        seed=settings.seed,
        standing_statistics=f"standing statistics {settings.standing_batches} x {settings.standing_batch_size}",
        weights_sha256=weights_hash(generator),
        trained_steps=int(history["step"]),
        reconstruction_weight=float(history["config"]["training"]["reconstruction"]),
    )
    return Evaluation(
        protocol,
        model={"psnr": _means(result.model.psnr), "ssim": _means(result.model.ssim)},
        copy={"psnr": _frame_means(result.copy.psnr.single), "ssim": _frame_means(result.copy.ssim.single)},
        motion=motion_score(generator, held_out, settings, dtype) if isinstance(held_out, DigitClips) else None,
    )


def _means(curves: FrameCurves) -> dict[str, list[float]]:
    return {name: _frame_means(getattr(curves, name)) for name in ("single", "best", "mean_prediction")}


def _frame_means(scores: torch.Tensor) -> list[float]:
    return [float(value) for value in scores.mean(dim=0)]


@torch.no_grad()
def motion_score(
    generator: Generator, digits: DigitClips, settings: EvaluationConfig, dtype: torch.dtype
) -> MotionScore | None:
    """End-point error of the motion field against moving-digits' true flow; None for units that do not warp."""
    given, length = generator.config.conditioning_frames, generator.config.frames
    device = next(generator.parameters()).device
    errors, zeros = [], []
    for clip in range(min(MOTION_CLIPS, digits.evaluation_clips)):
        shown, label = digits.evaluation_clip(clip)
        video, labels = to_float(shown).to(device)[None], torch.tensor([label], device=device)
        z = clip_latents(clip, 1, generator.config.latent_dim, settings.seed, settings.truncation).to(device)
        with autocast(device, dtype):
            warps = generator(video[:, :given], z, labels, return_warps=True).warps
        if not warps:
            return None
        flow = motion_field({r: w.float() for r, w in warps.items()}, generator.config.resolution)[:, 0].cpu()
        true = digits.digits.flow(clip)
        truth = torch.from_numpy(true.flow[given - 1 : length - 1])
        visible = torch.from_numpy(true.visible[given - 1 : length - 1])
        errors.append(endpoint_error(flow, truth, visible))
        zeros.append(endpoint_error(torch.zeros_like(truth), truth, visible))
    return MotionScore(float(torch.stack(errors).mean()), float(torch.stack(zeros).mean()))
