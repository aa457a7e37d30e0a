"""Values to watch while a model trains: how its discriminators answer, how much z changes, what its warps use."""

from collections.abc import Iterator

import torch
from torch import Tensor

from trivd.config import EvaluationConfig
from trivd.data.clips import ClipDataset
from trivd.data.loader import evaluation_batch, evaluation_numbers
from trivd.evaluation.scorer import clip_latents
from trivd.models.generator import Generator
from trivd.runtime.hardware import autocast
from trivd.runtime.pixels import to_float

CLIPS = 4  # validation clips whose futures are compared


def answers(real: Tensor, fake: Tensor) -> Iterator[tuple[str, Tensor]]:
    """How a discriminator answers: its mean outputs on "real" and "fake" clips, and the share that is "wrong".

    Args:
        real: outputs on real clips, of any shape; below 0 they are wrong.
        fake: outputs on as many fake ones; above 0 they are wrong.
    """
    real, fake = real.detach(), fake.detach()
    yield "real", real.mean()
    yield "fake", fake.mean()
    yield "wrong", (torch.stack([-real, fake]) > 0).to(real.dtype).mean()


def z_sensitivity(futures: tuple[Tensor, Tensor], z: tuple[Tensor, Tensor]) -> float:
    """Mean |G(z1) - G(z2)| over mean |z1 - z2|: 0 where z changes nothing.

    Args:
        futures: two of each clip, (B, T, channels, H, W) in [-1, 1].
        z: what they were drawn from, (B, latent_dim).
    """
    first, second = futures
    return float((first - second).abs().mean() / (z[0] - z[1]).abs().mean())


def used_taps(weights: Tensor) -> float:
    """The number of taps that a warp uses, as a share of its k^2: the perplexity exp(-sum p ln p) of mean weights p.

    Args:
        weights: of the warps (T, B, L, k^2, H, W), which sum to 1 over the taps.

    Returns:
        from 1/k^2, if one tap has all the weight, to 1, if all have the same.
    """
    p = weights.double().mean(dim=(0, 1, 2, 4, 5))
    return float(torch.special.entr(p).sum().exp() / len(p))


@torch.no_grad()
def watched(
    generator: Generator, dataset: ClipDataset, settings: EvaluationConfig, dtype: torch.dtype
) -> dict[str, float]:
    """`z_sensitivity` of the futures of a few fixed clips, and `used_taps` of the warps at each resolution.

    Args:
        generator: ready to predict.
        dataset: of validation clips.
        settings: whose seed z has, without truncation.
        dtype: of convolutions.

    Returns:
        values by name, "watch/z_sensitivity" and "watch/taps/<resolution>".
    """
    batch = evaluation_batch(dataset, evaluation_numbers(dataset, CLIPS))
    config, device = generator.config, next(generator.parameters()).device
    given = to_float(batch.video[:, : config.conditioning_frames].to(device))
    pairs = [clip_latents(clip, 2, config.latent_dim, settings.seed, None) for clip in range(len(given))]
    z = torch.stack(pairs, dim=1).to(device)  # (2, B, latent_dim)
    with autocast(device, dtype):
        states, labels = generator.encoder(given), batch.labels.to(device)
        first = generator.decode(states, z[0], labels, return_warps=True)
        second = generator.decode(states, z[1], labels)
    values = {"watch/z_sensitivity": z_sensitivity((first.video, second.video), (z[0], z[1]))}
    return values | {f"watch/taps/{resolution}": used_taps(warps) for resolution, warps in first.warps.items()}
