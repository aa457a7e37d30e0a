"""One training step: discriminator updates, then a generator update (4.1, E.1).

The losses of an update are a module of their own, because `DistributedDataParallel` averages the gradients of a module.
"""

import contextlib
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from trivd.config import Config
from trivd.data.loader import Batch
from trivd.models.blocks import recompute_blocks
from trivd.models.discriminators import Discriminators, combine
from trivd.models.generator import Generator
from trivd.models.latents import draw_own_latents, seeded_generator
from trivd.runtime.distributed import all_reduce_mean, world_size
from trivd.runtime.errors import TrivdError
from trivd.runtime.hardware import autocast, to_channels_last
from trivd.runtime.pixels import to_float
from trivd.training.ema import Ema
from trivd.training.losses import discriminator_hinge, generator_hinge, orthogonality_penalty, reconstruction_l1

Losses = dict[str, Tensor]


class NonFiniteLossError(TrivdError):
    """A loss or its gradient is not finite: the run has diverged."""


def update_rng(seed: int, step: int, update: int) -> torch.Generator:
    """The random numbers of one update: they depend on nothing else, so a resumed run draws the same."""
    return seeded_generator(seed, step, update)


class _DiscriminatorLosses(nn.Module):
    """The hinge loss (Eq 13) of every discriminator, for one mini-batch."""

    def __init__(self, discriminators: Discriminators, config: Config, dtype: torch.dtype) -> None:
        super().__init__()
        self.discriminators = discriminators
        self.head = config.discriminator.head
        self.dtype = dtype

    def forward(self, real: Tensor, fake: Tensor, labels: Tensor, rng: torch.Generator) -> Losses:
        """Losses, scalars by name, of real and drawn videos (B, C + T, channels, H, W) of the same classes (B,)."""
        both, both_labels = torch.cat([real, fake]), torch.cat([labels, labels])  # one pass for both
        losses: Losses = {}
        for view in self.discriminators.views:
            seen = self.discriminators.draw(view, both, rng, copies=2)
            with autocast(real.device, self.dtype):
                scores = self.discriminators[view](seen, both_labels)
            outputs = [combine(part, self.head) for part in scores.split(len(real))]
            losses[f"loss/discriminator/{view}"] = discriminator_hinge(*outputs)
        return losses


class _GeneratorLosses(nn.Module):
    """The hinge loss (Eq 14) against every discriminator, and the regularisers, unweighted, for one mini-batch."""

    def __init__(
        self, generator: Generator, discriminators: Discriminators, config: Config, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.generator = generator
        self._discriminators = (discriminators,)  # in a tuple, so that their parameters are not this module's
        self.config = config
        self.dtype = dtype

    def forward(self, real: Tensor, labels: Tensor, rng: torch.Generator) -> Losses:
        """Losses, scalars by name, of futures drawn for videos (B, C + T, channels, H, W) of classes (B,)."""
        given, copies = self.config.model.conditioning_frames, self.config.training.reconstruction_samples
        conditioning, truth = real[:, :given], real[:, given:]
        labels = labels.repeat(copies)
        z = draw_own_latents(copies * len(real), self.config.model.latent_dim, rng, copies).to(real.device)
        with autocast(real.device, self.dtype):
            states = {r: state.repeat(copies, 1, 1, 1) for r, state in self.generator.encoder(conditioning).items()}
            fake = self.generator.decode(states, z, labels).video
        clips = torch.cat([conditioning.repeat(copies, 1, 1, 1, 1), fake], dim=1)
        losses: Losses = {}
        (discriminators,) = self._discriminators
        for view in discriminators.views:
            seen = discriminators.draw(view, clips, rng, copies)
            with autocast(real.device, self.dtype):
                scores = discriminators[view](seen, labels)
            losses[f"loss/generator/{view}"] = generator_hinge(combine(scores, self.config.discriminator.head))
        losses["loss/orthogonality"] = orthogonality_penalty(self.generator, self.dtype)
        if self.config.training.reconstruction > 0:
            losses["loss/reconstruction"] = reconstruction_l1(fake.unflatten(0, (copies, len(real))), truth)
        return losses


class Trainer:
    """The networks, their optimizers and the moving average, and the updates that change them.

    Args:
        config: of the run.
        device: where the networks live.
        dtype: of convolutions and linear layers; weights are float32.
    """

    def __init__(self, config: Config, device: torch.device, dtype: torch.dtype) -> None:
        self.config = config
        self.device = device
        self.dtype = dtype
        torch.manual_seed(config.training.seed)  # the initial weights
        self.generator = Generator(config.model)
        self.discriminators = Discriminators(config.discriminator, config.model)
        for module in (self.generator, self.discriminators):
            to_channels_last(module.to(device))
            if config.training.checkpoint_activations:
                recompute_blocks(module)
        recipe = config.training
        self.generator_optimizer = self._adam(self.generator, recipe.generator_lr)
        self.discriminator_optimizer = self._adam(self.discriminators, recipe.discriminator_lr)
        self.discriminator_losses = _distributed(_DiscriminatorLosses(self.discriminators, config, dtype))
        self.generator_losses = _distributed(_GeneratorLosses(self.generator, self.discriminators, config, dtype))
        self.ema = Ema(recipe.ema_decay, recipe.ema_start)
        self.step = 0  # generator updates made

    def _adam(self, module: torch.nn.Module, lr: float) -> torch.optim.Adam:
        recipe = self.config.training
        return torch.optim.Adam(
            module.parameters(), lr=lr, betas=(recipe.beta1, recipe.beta2), eps=recipe.epsilon, fused=True
        )

    def train_step(self, updates: Sequence[Sequence[Batch]]) -> Losses:
        """All updates of one step.

        Args:
            updates: for each discriminator update, its batches (one per accumulated pass). The generator update takes
                its conditioning frames from the last of them.

        Returns:
            losses by name, detached scalars.

        Raises:
            NonFiniteLossError: a loss or its gradient is not finite; the networks keep the weights of before that
                update.
        """
        losses: Losses = {}
        for index, batches in enumerate(updates):
            losses = self.discriminator_update(batches, update_rng(self.config.training.seed, self.step, index))
        rng = update_rng(self.config.training.seed, self.step, len(updates))
        losses |= self.generator_update(updates[-1], rng)
        self.step += 1
        self.ema.update(self.generator, self.step)
        return losses

    def discriminator_update(self, batches: Sequence[Batch], rng: torch.Generator) -> Losses:
        """One Adam step of all discriminators on Eq 13, the generator fixed."""

        def inputs(batch: Batch) -> tuple[Any, ...]:
            real, labels = self._to_device(batch)
            return real, self._draw(real, labels, rng), labels, rng

        self.discriminator_optimizer.zero_grad(set_to_none=True)
        losses = self._accumulate(self.discriminator_losses, map(inputs, batches), len(batches), {})
        return self._apply(self.discriminator_optimizer, losses, "discriminator")

    def generator_update(self, batches: Sequence[Batch], rng: torch.Generator) -> Losses:
        """One Adam step of G and E on Eq 14 summed over discriminators, and on the regularisers."""
        recipe = self.config.training
        weights = {
            "loss/orthogonality": recipe.orthogonality,
            "loss/reconstruction": recipe.reconstruction_weight(self.step),
        }
        inputs = ((*self._to_device(batch), rng) for batch in batches)
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.discriminators.requires_grad_(False)
        losses = self._accumulate(self.generator_losses, inputs, len(batches), weights)
        self.discriminators.requires_grad_(True)
        return self._apply(self.generator_optimizer, losses, "generator")

    @torch.no_grad()
    def _draw(self, real: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        """The given frames of real clips, each followed by a drawn future: (B, C + T, channels, H, W)."""
        conditioning = real[:, : self.config.model.conditioning_frames]
        z = draw_own_latents(len(real), self.config.model.latent_dim, rng).to(self.device)
        with autocast(self.device, self.dtype):
            fake = self.generator(conditioning, z, labels).video
        return torch.cat([conditioning, fake], dim=1)

    def _accumulate(
        self, losses_of: nn.Module, inputs: Iterable[tuple[Any, ...]], passes: int, weights: Mapping[str, float]
    ) -> Losses:
        """Add up the gradients of all passes of an update, and average them over passes and processes.

        Args:
            losses_of: gives the losses of one pass, by name.
            inputs: what it takes, for each pass.
            passes: how many there are.
            weights: of losses whose weight in the sum is not 1.

        Returns:
            the losses, averaged over the passes.
        """
        losses: Losses = {}
        for number, arguments in enumerate(inputs, start=1):
            # Processes average their gradients once, in the last backward pass.
            alone = number < passes and world_size() > 1
            with losses_of.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
                terms: Losses = losses_of(*arguments)
                total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
                (total / passes).backward()
            for name, term in terms.items():
                losses[name] = losses.get(name, 0) + term.detach() / passes
        return losses

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Videos (B, C + T, channels, H, W) in [-1, 1], labels (B,)."""
        return to_float(batch.video.to(self.device)), batch.labels.to(self.device)

    def _apply(self, optimizer: torch.optim.Optimizer, losses: Losses, name: str) -> Losses:
        """Let the optimizer make its step, if all losses and gradients of the update are finite.

        The check waits for the device, once per update. Fused Adam can skip a step by a flag on the device, but only
        through attributes that belong to gradient scaling, and the wait is short beside an update.

        Args:
            optimizer: of the networks whose gradients are ready.
            losses: of this process.
            name: of the networks, for the message.

        Returns:
            the losses, averaged over all processes.

        Raises:
            NonFiniteLossError: a loss or gradient is not finite; nothing has changed.
        """
        averages = all_reduce_mean(torch.stack(list(losses.values())))
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # A gradient whose square overflows has infinite length too; it would spoil Adam's second moment.
        length = get_total_norm(gradients)
        for value, what in zip(torch.stack([averages.sum(), length]).tolist(), ("loss", "gradient"), strict=True):
            if not math.isfinite(value):
                raise NonFiniteLossError(f"The {name} {what} is {value} at step {self.step + 1}.")
        optimizer.step()
        return dict(zip(losses, averages.unbind(), strict=True))


def _distributed(losses: nn.Module) -> nn.Module:
    """`losses`, whose backward passes also average the gradients of all processes if there are several."""
    if world_size() == 1:
        return losses
    # Harmless: gradients of 1 x 1 convolutions have other strides on the axes of length 1.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the newer name of this option is not in all releases
        # Buffers need no broadcast: they follow from weights, which are equal everywhere.
        return DistributedDataParallel(losses, broadcast_buffers=False, gradient_as_bucket_view=True)
