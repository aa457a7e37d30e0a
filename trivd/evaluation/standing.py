"""Standing statistics, which batch normalisation uses when a model is evaluated (E.2)."""

from collections.abc import Iterable, Iterator
from itertools import islice

import torch

from trivd.config import EvaluationConfig
from trivd.data.clips import ClipDataset
from trivd.data.loader import Batch, TrainingStream
from trivd.models.frame_norm import FrameNormReLU
from trivd.models.generator import Generator
from trivd.models.latents import draw_own_latents
from trivd.models.spectral_norm import SpectralNorm, normalized
from trivd.runtime.distributed import rank, world_size
from trivd.runtime.hardware import autocast, to_device
from trivd.runtime.pixels import to_float

POWER_ITERATIONS = 20  # averaged weights have singular vectors of their own


def refresh_standing_statistics(
    generator: Generator, train: ClipDataset, settings: EvaluationConfig, dtype: torch.dtype
) -> list[str]:
    """Collect standing statistics on clips of the training split; in place.

    How many clips, the truncation of z, and the seed are those of `settings`.

    Returns:
        a sentence for each of this process's clips that could not be read and was replaced.
    """
    unreadable: list[str] = []

    def noted(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            unreadable.extend(batch.unreadable)
            yield batch

    stream = TrainingStream(train, settings.standing_batch_size, settings.seed, 0, 0, rank=rank(), world=world_size())
    own = islice(stream, len(range(rank(), settings.standing_batches, world_size())))
    rng = torch.Generator().manual_seed(settings.seed)
    collect_standing_statistics(generator, noted(own), rng, dtype, settings.truncation)
    return unreadable


@torch.no_grad()
def collect_standing_statistics(
    generator: Generator,
    batches: Iterable[Batch],
    rng: torch.Generator,
    dtype: torch.dtype,
    truncation: float | None = None,
) -> None:
    """Average the batch statistics of `generator` over `batches`, and leave it in evaluation mode, ready to predict.

    Args:
        generator: changed in place (statistics and singular vectors only).
        batches: batches of training clips, different ones in each process; the paper takes 100 x 256 in all.
        rng: for z, the same in all processes.
        dtype: of convolutions.
        truncation: of z, the same as that of the predictions: the statistics of features depend on it (Brock et al.
            2019 collect them anew for each).
    """
    generator.eval()
    for layer in generator.modules():
        if isinstance(layer, SpectralNorm):
            layer.power_iteration(POWER_ITERATIONS)
    norms = [layer for layer in generator.modules() if isinstance(layer, FrameNormReLU)]
    for norm in norms:
        norm.collect(True)
    device = next(generator.parameters()).device
    with autocast(device, dtype), normalized(generator):
        for batch in batches:
            frames = to_float(to_device(batch.video[:, : generator.config.conditioning_frames], device))
            z = draw_own_latents(len(frames), generator.config.latent_dim, rng, truncation=truncation)
            generator(frames, to_device(z, device), to_device(batch.labels, device))
    for norm in norms:
        norm.collect(False)
