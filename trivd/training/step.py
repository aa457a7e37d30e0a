"""One training step: discriminator updates, then a generator update (4.1, E.1)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trivd.config import Config
from trivd.data.loader import Batch
from trivd.errors import TrivdError
from trivd.hardware import autocast, to_channels_last
from trivd.models.blocks import recompute_blocks
from trivd.models.discriminators import Discriminators, Head, Scores, View, combine
from trivd.models.generator import Generator
from trivd.models.latents import draw_latents, seeded_generator
from trivd.training.ema import Ema
from trivd.training.losses import discriminator_hinge, generator_hinge, orthogonality_penalty, reconstruction_l1
from trivd.video import to_float

Losses = dict[str, Tensor]


class NonFiniteLossError(TrivdError):
    """A loss or its gradient is not finite: the run has diverged."""


def update_rng(seed: int, step: int, update: int) -> torch.Generator:
    """The random numbers of one update: they depend on nothing else, so a resumed run draws the same."""
    return seeded_generator(seed, step, update)


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
        """One Adam step of all critics on Eq 13, the generator fixed."""
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        losses: Losses = {}
        for batch in batches:
            real, labels = self._to_device(batch)
            conditioning = real[:, : self.config.model.conditioning_frames]
            z = self._latents(len(real), rng)
            with torch.no_grad(), autocast(self.device, self.dtype):
                fake = self.generator(conditioning, z, labels).video
            fake = torch.cat([conditioning, fake], dim=1)
            both, both_labels = torch.cat([real, fake]), torch.cat([labels, labels])  # one pass for real and fake
            total = torch.zeros((), device=self.device)
            for view in self.discriminators.views:
                scores = self._scores(view, both, both_labels, rng)
                real_outputs, fake_outputs = (combine(part, self.head) for part in scores.split(len(real)))
                loss = discriminator_hinge(real_outputs, fake_outputs)
                total = total + loss
                self._record(losses, f"loss/discriminator/{view}", loss, len(batches))
            (total / len(batches)).backward()
        self._apply(self.discriminator_optimizer, losses, "discriminator")
        return losses

    def generator_update(self, batches: Sequence[Batch], rng: torch.Generator) -> Losses:
        """One Adam step of G and E on Eq 14 summed over critics, with the regularisers, the critics fixed."""
        recipe = self.config.training
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.discriminators.requires_grad_(False)
        losses: Losses = {}
        for batch in batches:
            real, labels = self._to_device(batch)
            conditioning = real[:, : self.config.model.conditioning_frames]
            truth = real[:, self.config.model.conditioning_frames :]
            copies = recipe.reconstruction_samples  # samples per clip
            labels = labels.repeat(copies)
            z = self._latents(copies * len(real), rng)
            with autocast(self.device, self.dtype):
                states = {r: state.repeat(copies, 1, 1, 1) for r, state in self.generator.encoder(conditioning).items()}
                fake = self.generator.decode(states, z, labels).video
            clips = torch.cat([conditioning.repeat(copies, 1, 1, 1, 1), fake], dim=1)
            total = torch.zeros((), device=self.device)
            for view in self.discriminators.views:
                loss = generator_hinge(combine(self._scores(view, clips, labels, rng), self.head))
                total = total + loss
                self._record(losses, f"loss/generator/{view}", loss, len(batches))
            penalty = orthogonality_penalty(self.generator, self.dtype)
            total = total + recipe.orthogonality * penalty
            self._record(losses, "loss/orthogonality", penalty, len(batches))
            if recipe.reconstruction > 0:
                loss = reconstruction_l1(fake.unflatten(0, (copies, len(real))), truth)
                total = total + recipe.reconstruction_weight(self.step) * loss
                self._record(losses, "loss/reconstruction", loss, len(batches))
            (total / len(batches)).backward()
        self.discriminators.requires_grad_(True)
        self._apply(self.generator_optimizer, losses, "generator")
        return losses

    @property
    def head(self) -> Head:
        return self.config.discriminator.head

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Videos (B, C + T, channels, H, W) in [-1, 1], labels (B,)."""
        return to_float(batch.video.to(self.device)), batch.labels.to(self.device)

    def _latents(self, count: int, rng: torch.Generator) -> Tensor:
        return draw_latents(count, self.config.model.latent_dim, rng).to(self.device)

    def _scores(self, view: View, videos: Tensor, labels: Tensor, rng: torch.Generator) -> Scores:
        seen = self.discriminators.draw(view, videos, rng)
        with autocast(self.device, self.dtype):
            return self.discriminators[view](seen, labels)

    def _record(self, losses: Losses, name: str, loss: Tensor, passes: int) -> None:
        """Add the mean over accumulated passes."""
        losses[name] = losses.get(name, 0) + loss.detach() / passes

    def _apply(self, optimizer: torch.optim.Optimizer, losses: Losses, name: str) -> None:
        """Let the optimizer make its step, if all losses and gradients of the update are finite.

        This waits for the device, once per update. Adam could be told by a flag on the device to do nothing, but only
        through attributes that belong to gradient scaling, and the wait is short beside an update.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # Of infinite length is also a gradient whose square overflows: it would spoil Adam's second moment.
        length = torch.stack(torch._foreach_norm(gradients)).sum()
        values = torch.stack([torch.stack(list(losses.values())).sum(), length]).tolist()
        for value, what in zip(values, ("loss", "gradient"), strict=True):
            if not math.isfinite(value):
                raise NonFiniteLossError(f"The {name} {what} is {value} at step {self.step + 1}.")
        optimizer.step()
