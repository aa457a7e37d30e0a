"""Scores of a generator on fixed clips, and of copying the last frame, frame by frame (C.1, Figure 5)."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from trivd.data.loader import Batch
from trivd.evaluation.frames import BestOf, FrameScores, concatenate
from trivd.hardware import autocast
from trivd.models.generator import Generator
from trivd.models.latents import draw_latents, seeded_generator
from trivd.video import to_float


class Comparison(NamedTuple):
    """Scores of the model and of the copy baseline on the same clips."""

    model: FrameScores
    copy: FrameScores


def clip_latents(clip: int, samples: int, dim: int, seed: int, truncation: float | None) -> Tensor:
    """z (samples, dim) of one clip: the same in every batch layout."""
    return draw_latents(samples, dim, seeded_generator(seed, clip), truncation)


@torch.no_grad()
def compare_with_copy(
    generator: Generator,
    batches: Iterable[Batch],
    samples: int,
    truncation: float | None,
    seed: int,
    dtype: torch.dtype,
    advance: Callable[[int], None] = lambda clips: None,
) -> Comparison:
    """Draw `samples` futures of every clip and score the predicted frames; conditioning frames do not count.

    Args:
        generator: in evaluation mode, with standing statistics.
        batches: of evaluation clips.
        samples: futures per clip, drawn one after the other.
        truncation: of z.
        seed: of z.
        dtype: of convolutions.
        advance: called with the number of clips done after each batch.
    """
    device = next(generator.parameters()).device
    given = generator.config.conditioning_frames
    scores: list[FrameScores] = []
    copies: list[FrameScores] = []
    first = 0  # number of the batch's first clip
    for batch in batches:
        clip, labels = to_float(batch.video.to(device)), batch.labels.to(device)
        conditioning, truth = clip[:, :given], clip[:, given:]
        numbers = range(first, first + len(clip))
        latents = torch.stack(
            [clip_latents(number, samples, generator.config.latent_dim, seed, truncation) for number in numbers], dim=1
        ).to(device)  # (samples, B, latent_dim)
        with autocast(device, dtype):
            states = generator.encoder(conditioning)
        best, copy = BestOf(truth), BestOf(truth)
        for z in latents:
            with autocast(device, dtype):
                video = generator.decode(states, z, labels).video
            best.update(video)
        copy.update(conditioning[:, -1:].expand_as(truth))
        scores.append(best.scores())
        copies.append(copy.scores())
        first += len(labels)
        advance(len(labels))
    return Comparison(concatenate(scores), concatenate(copies))
