"""What a run looks like from outside while it trains: its averaged model, scores on fixed clips, sample grids."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from trivd.config import EvaluationConfig, to_dict
from trivd.data.clips import ClipDataset
from trivd.data.loader import evaluation_batches
from trivd.evaluation.scores import clip_latents, compare_with_copy
from trivd.evaluation.standing import refresh_standing_statistics
from trivd.hardware import autocast
from trivd.models.generator import Generator
from trivd.models.pretrained import save_generator
from trivd.training.step import Trainer
from trivd.video import to_float, to_uint8
from trivd.visualize import sample_grid, save_png

GRID_CLIPS = 4
GRID_SAMPLES = 2


def averaged_generator(trainer: Trainer, dataset: ClipDataset) -> Generator:
    """A copy of the generator with the moving average's weights and fresh standing statistics, ready to predict."""
    generator = copy.deepcopy(trainer.generator)
    generator.requires_grad_(False)
    trainer.ema.apply_to(generator)
    refresh_standing_statistics(generator, dataset, trainer.config.evaluation, trainer.dtype)
    return generator


def score_splits(
    generator: Generator, splits: dict[str, ClipDataset], settings: EvaluationConfig, dtype: torch.dtype
) -> dict[str, float]:
    """Mean PSNR and SSIM over clips and predicted frames, of one sample per clip and of copying, for each split."""
    values: dict[str, float] = {}
    single = replace(settings, samples=1)
    for split, dataset in splits.items():
        batches = evaluation_batches(dataset, single.clips, single.batch_size)
        result = compare_with_copy(generator, batches, single.samples, single.truncation, single.seed, dtype)
        for prefix, scores in (("", result.model), ("copy_", result.copy)):
            values[f"score/{split}/{prefix}psnr"] = float(scores.psnr.single.mean())
            values[f"score/{split}/{prefix}ssim"] = float(scores.ssim.single.mean())
    return values


@torch.no_grad()
def save_samples(path: Path, generator: Generator, dataset: ClipDataset, seed: int, dtype: torch.dtype) -> None:
    """A PNG: for a few fixed clips the truth and, below, samples of their future."""
    batch = next(evaluation_batches(dataset, GRID_CLIPS, GRID_CLIPS))
    given = generator.config.conditioning_frames
    device = next(generator.parameters()).device
    video = to_float(batch.video.to(device))
    rows = []
    futures = []
    for sample in range(GRID_SAMPLES):
        z = torch.stack(
            [
                clip_latents(clip, GRID_SAMPLES, generator.config.latent_dim, seed, None)[sample]
                for clip in range(len(video))
            ]
        )
        with autocast(device, dtype):
            futures.append(to_uint8(generator(video[:, :given], z.to(device), batch.labels.to(device)).video))
    for clip, truth in enumerate(batch.video.numpy()):
        rows.append(("truth", truth))
        rows += [(f"sample {i + 1}", np.concatenate([truth[:given], f[clip]])) for i, f in enumerate(futures)]
    save_png(path, sample_grid(rows, given))


def save_model(folder: Path, generator: Generator, trainer: Trainer, data: str) -> None:
    """Write the averaged model, with where it comes from."""
    save_generator(generator, folder, {"data": data, "step": trainer.step, "config": to_dict(trainer.config)})
