"""The losses of an update (4.1, E.1, E.2), as modules: `DistributedDataParallel` averages the gradients of a module."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trivd.config import Config
from trivd.models.discriminators import Discriminators, View, combine
from trivd.models.generator import Generator
from trivd.models.spectral_norm import normalized
from trivd.runtime.hardware import autocast
from trivd.training.augment import augment
from trivd.training.draws import Look
from trivd.training.lecam import Anchors
from trivd.training.losses import (
    discriminator_hinge,
    diversity,
    generator_hinge,
    gradient_penalty,
    orthogonality_penalty,
    reconstruction_l1,
)
from trivd.training.watch import answers

Losses = dict[str, Tensor]


def _seen(discriminators: Discriminators, view: View, videos: Tensor, look: Look) -> Tensor:
    """What the discriminator of that name sees of videos (B, C + T, channels, H, W)."""
    return augment(discriminators.cut(view, videos, look.places), look.augmentation)


class DiscriminatorLosses(nn.Module):
    """The hinge loss (Eq 13) of every discriminator, and its regularisers, unweighted, for one mini-batch."""

    def __init__(self, discriminators: Discriminators, anchors: Anchors, config: Config, dtype: torch.dtype) -> None:
        super().__init__()
        self.discriminators = discriminators
        self.anchors = anchors
        self.head = config.discriminator.head
        self.dtype = dtype

    def forward(
        self, real: Tensor, fake: Tensor, labels: Tensor, looks: Mapping[View, Look], penalised: bool
    ) -> Losses:
        """Losses, scalars by name, of real and drawn videos (B, C + T, channels, H, W) of the same classes (B,).

        R1 is one of them if the update is `penalised`. Beside them, how each discriminator answers, see
        `trivd.training.watch.answers`.
        """
        both, both_labels = torch.cat([real, fake]), torch.cat([labels, labels])  # one pass for both
        losses: Losses = {}
        for view in self.discriminators.views:
            discriminator = self.discriminators[view]
            seen = _seen(self.discriminators, view, both, looks[view])
            with autocast(real.device, self.dtype), normalized(discriminator):  # by one power iteration
                scores = discriminator(seen, both_labels)
                if penalised:
                    penalty = gradient_penalty(discriminator, seen[: len(real)], labels, self.head)
                    losses[f"loss/r1/{view}"] = penalty
            of_real, of_fake = (combine(part, self.head) for part in scores.split(len(real)))
            losses[f"loss/discriminator/{view}"] = discriminator_hinge(of_real, of_fake)
            if view in self.anchors.averages:
                losses[f"loss/lecam/{view}"] = self.anchors.regularise(view, of_real, of_fake)
            losses |= {f"discriminator/{view}/{name}": value for name, value in answers(of_real, of_fake)}
        return losses


class GeneratorLosses(nn.Module):
    """The hinge loss (Eq 14) against every discriminator, and the regularisers, unweighted, for one mini-batch."""

    def __init__(
        self, generator: Generator, discriminators: Discriminators, config: Config, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.generator = generator
        self._discriminators = (discriminators,)  # in a tuple, so that their parameters are not this module's
        self.config = config
        self.dtype = dtype

    def forward(self, real: Tensor, labels: Tensor, z: Tensor, looks: Mapping[View, Look]) -> Losses:
        """Losses, scalars by name, of futures drawn for videos (B, C + T, channels, H, W) of classes (B,)."""
        given, copies = self.config.model.conditioning_frames, self.config.training.reconstruction_samples
        conditioning, truth = real[:, :given], real[:, given:]
        labels = labels.repeat(copies)
        with autocast(real.device, self.dtype):
            states = {r: state.repeat(copies, 1, 1, 1) for r, state in self.generator.encoder(conditioning).items()}
            fake = self.generator.decode(states, z, labels, length=truth.shape[1]).video
        clips = torch.cat([conditioning.repeat(copies, 1, 1, 1, 1), fake], dim=1)
        losses: Losses = {}
        (discriminators,) = self._discriminators
        for view in discriminators.views:
            seen = _seen(discriminators, view, clips, looks[view])
            with autocast(real.device, self.dtype):
                scores = discriminators[view](seen, labels)
            losses[f"loss/generator/{view}"] = generator_hinge(combine(scores, self.config.discriminator.head))
        losses["loss/orthogonality"] = orthogonality_penalty(self.generator, self.dtype)
        samples, latents = (tensor.unflatten(0, (copies, len(real))) for tensor in (fake, z))
        if self.config.training.reconstruction > 0:
            losses["loss/reconstruction"] = reconstruction_l1(samples, truth)
        if self.config.training.diversity > 0:
            losses["loss/diversity"] = -diversity(samples, latents)
        return losses
