"""Snapshots of a run while it trains: its averaged model, scores on fixed clips, and sample grids."""

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from trivd.config import EvaluationConfig, to_dict
from trivd.data.ahead import ReadAhead
from trivd.data.clips import ClipDataset, ReadableClips
from trivd.data.loader import evaluation_batch, evaluation_numbers
from trivd.evaluation.collecting import Columns, Part, collect
from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.networks.choice import choose_network
from trivd.evaluation.scorer import ModelForecaster, Scorer, clip_latents, spread
from trivd.evaluation.standing import refresh_standing_statistics
from trivd.models.generator import Generator
from trivd.models.pretrained import save_generator
from trivd.pictures.draw import sample_grid, save_png
from trivd.pictures.plots import DISTANCE
from trivd.runtime.distributed import gather_rows, rank, world_size
from trivd.runtime.graphs import recorder
from trivd.runtime.hardware import autocast
from trivd.runtime.pixels import to_float, to_uint8
from trivd.training.step import Trainer

GRID_CLIPS = 4
GRID_SAMPLES = 2


def averaged_generator(trainer: Trainer, dataset: ClipDataset) -> Generator:
    """A copy of the generator with the moving average's weights and fresh standing statistics, ready to predict."""
    generator = copy.deepcopy(trainer.generator)
    generator.requires_grad_(False)
    trainer.ema.apply_to(generator)
    refresh_standing_statistics(generator, dataset, trainer.config.evaluation, trainer.dtype)
    return generator


class SplitScores:
    """Scores of one future per clip, on fixed clips of each split; those that need no model are computed once.

    Args:
        splits: where the clips come from.
        settings: how many clips, and which features.
        conditioning_frames: given frames of each clip.
        device: of the model.
    """

    def __init__(
        self,
        splits: dict[str, ClipDataset],
        settings: EvaluationConfig,
        conditioning_frames: int,
        device: torch.device,
    ) -> None:
        self._settings = settings
        self._ahead = {split: ReadAhead(dataset, device) for split, dataset in splits.items()}
        self.clips = {split: ReadableClips(dataset) for split, dataset in self._ahead.items()}
        self._network = choose_network(settings, splits["train"], device)
        self._scorers = {
            split: Scorer(dataset, conditioning_frames, self._network, settings.count_conditioning, device)
            for split, dataset in self.clips.items()
        }
        self._references: dict[str, Columns] = {}

    @property
    def distance_name(self) -> str:
        """Name of the Fréchet distance; "" without a network."""
        return "" if self._network is None else self._network.distance

    @property
    def criterion(self) -> str:
        """The score on training clips that chooses the best model: "distance" as in the paper (4.1), else "ssim"."""
        return "ssim" if self._network is None else DISTANCE

    def is_better(self, score: float, than: float) -> bool:
        """Whether one value of the criterion is better than another."""
        return score < than if self.criterion == DISTANCE else score > than

    def __call__(self, generator: Generator, dtype: torch.dtype) -> dict[str, float]:
        """Scores by name, such as "score/SPLIT/psnr".

        For each split: "psnr", "ssim" and, with a network, "distance" of the model; the same of copying the last frame
        ("copy_psnr", ...); and "spread", see `trivd.evaluation.scorer.spread`.

        Args:
            generator: ready to predict.
            dtype: of convolutions.
        """
        settings, values = self._settings, {}
        record = recorder(next(generator.parameters()).device)
        model = ModelForecaster(generator, dtype, settings.seed, settings.truncation, record)
        for split, scorer in self._scorers.items():
            numbers = evaluation_numbers(scorer.held_out, settings.clips)
            if split not in self._references:
                self._references[split] = self._collect(split, scorer.reference, numbers)
            columns = self._collect(split, partial(scorer.single, model, 0), numbers) | self._references[split]
            if len(numbers) > 1:
                values[f"score/{split}/spread"] = spread(columns["model/thumbnail"], columns["truth/thumbnail"])
            for who, prefix in (("model", ""), ("copy", "copy_")):
                for score in ("psnr", "ssim"):
                    values[f"score/{split}/{prefix}{score}"] = float(columns[f"{who}/{score}"].mean())
                if self._network is not None:
                    distance = frechet_distance(columns["truth/embedding"], columns[f"{who}/embedding"])
                    values[f"score/{split}/{prefix}{DISTANCE}"] = distance
        return values

    def _collect(self, split: str, part: Part, numbers: Sequence[int]) -> Columns:
        """Columns of all clips, which processes share; with fewer clips than processes, each computes all."""
        shared, size = len(numbers) >= world_size(), self._settings.batch_size
        own = numbers[rank() :: world_size()] if shared else numbers
        with self._ahead[split].expecting(own, 2 * size):
            columns = collect(part, own, size)
        return gather_rows(columns) if shared else columns


@torch.no_grad()
def save_samples(
    path: Path, generator: Generator, dataset: ClipDataset, settings: EvaluationConfig, dtype: torch.dtype
) -> None:
    """Write a PNG of a few fixed clips: the truth, and below it samples of the future, z as `settings` says."""
    batch = evaluation_batch(dataset, evaluation_numbers(dataset, GRID_CLIPS))
    given = generator.config.conditioning_frames
    device = next(generator.parameters()).device
    video = to_float(batch.video.to(device))
    rows = []
    futures = []
    for sample in range(GRID_SAMPLES):
        draws = [
            clip_latents(clip, GRID_SAMPLES, generator.config.latent_dim, settings.seed, settings.truncation)
            for clip in range(len(video))
        ]
        z = torch.stack([samples[sample] for samples in draws])
        with autocast(device, dtype):
            futures.append(to_uint8(generator(video[:, :given], z.to(device), batch.labels.to(device)).video))
    for clip, truth in enumerate(batch.video.numpy()):
        rows.append(("truth", truth))
        rows += [(f"sample {i + 1}", np.concatenate([truth[:given], f[clip]])) for i, f in enumerate(futures)]
    save_png(path, sample_grid(rows, given))


def save_model(folder: Path, generator: Generator, trainer: Trainer, data: str, seconds: float) -> None:
    """Write the averaged model with its history: data, step, seconds of training, and settings."""
    history = {"data": data, "step": trainer.step, "seconds": seconds, "config": to_dict(trainer.config)}
    save_generator(generator, folder, history)
