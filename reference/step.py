"""The losses and a training step: updates of the discriminators, then one of G with E (E.1, E.2)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.discriminators import Discriminators, Scores, combine, draw_view
from reference.generator import Generator
from reference.layers import WEIGHT
from trivd.config import Config

Losses = dict[str, Tensor]
Batch = tuple[Tensor, Tensor, *tuple[object, ...]]  # videos (B, C + T, H, W, channels) uint8, labels (B,)


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Eq 13."""
    return F.relu(1 + fake).mean() + F.relu(1 - real).mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """Eq 14."""
    return -fake.mean()


def orthogonality(module: nn.Module) -> Tensor:
    """Sum of |W W^T, off the diagonal|^2 over all weights W, one row per output, but the class embedding's (E.2)."""
    penalties = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            parameters = dict(layer.named_parameters())
            w = (parameters[WEIGHT] if WEIGHT in parameters else parameters["weight"]).flatten(1)
            off_diagonal = w @ w.T * (1 - torch.eye(len(w), dtype=w.dtype, device=w.device))
            penalties.append(off_diagonal.square().sum())
    return torch.stack(penalties).sum()


def update_rng(seed: int, step: int, update: int) -> torch.Generator:
    """The random numbers of one update, the same as trivd's."""
    state = np.random.SeedSequence((seed, step, update)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


class Trainer:
    """The networks, their optimizers, the moving average of G's weights, and the updates of a step."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.generator = Generator(config.model).to(device)
        self.discriminators = Discriminators(config).to(device)
        self.generator_optimizer = self._adam(self.generator, config.training.generator_lr)
        self.discriminator_optimizer = self._adam(self.discriminators, config.training.discriminator_lr)
        self.average: dict[str, Tensor] = {}  # by parameter; empty until it has started
        self.step = 0  # updates of G made

    def _adam(self, module: nn.Module, lr: float) -> torch.optim.Adam:
        recipe = self.config.training
        betas = recipe.beta1, recipe.beta2
        return torch.optim.Adam(module.parameters(), lr=lr, betas=betas, eps=recipe.epsilon, foreach=False)

    def train_step(self, updates: Sequence[Sequence[Batch]]) -> Losses:
        """One step, from the batches of each update of the discriminators, one per accumulated pass; G takes the last.

        Returns the losses by name, detached.
        """
        losses: Losses = {}
        for index, batches in enumerate(updates):
            losses = self.discriminator_update(batches, update_rng(self.config.training.seed, self.step, index))
        rng = update_rng(self.config.training.seed, self.step, len(updates))
        losses |= self.generator_update(updates[-1], rng)
        self.step += 1
        self._update_average()
        return losses

    def discriminator_update(self, batches: Sequence[Batch], rng: torch.Generator) -> Losses:
        """One update of all discriminators, G fixed."""
        self.discriminator_optimizer.zero_grad()
        losses: Losses = {}
        for batch in batches:
            real, labels = self._read(batch)
            given = real[:, : self.config.model.conditioning_frames]
            z = self._latents(len(real), rng)
            with torch.no_grad():
                fake = torch.cat([given, self.generator(given, z, labels)], dim=1)
            both, both_labels, terms = torch.cat([real, fake]), torch.cat([labels, labels]), {}
            for view, discriminator in self.discriminators.items():
                scores = discriminator(draw_view(view, both, self.config, rng), both_labels)
                of_real, of_fake = (
                    combine(Scores(scores.video[half], scores.joint[half]), self.config.discriminator.head)
                    for half in (slice(None, len(real)), slice(len(real), None))
                )
                terms[f"loss/discriminator/{view}"] = discriminator_hinge(of_real, of_fake)
            _backward(terms, {}, len(batches), losses)
        self.discriminator_optimizer.step()
        return losses

    def generator_update(self, batches: Sequence[Batch], rng: torch.Generator) -> Losses:
        """One update of G and E, the discriminators fixed."""
        recipe, conditioning = self.config.training, self.config.model.conditioning_frames
        halvings = self.step / recipe.reconstruction_half_life if recipe.reconstruction_half_life else 0
        weights = {
            "loss/orthogonality": recipe.orthogonality,
            "loss/reconstruction": recipe.reconstruction / 2**halvings,
        }
        self.generator_optimizer.zero_grad()
        self.discriminators.requires_grad_(False)
        losses: Losses = {}
        for batch in batches:
            real, labels = self._read(batch)
            given, truth = real[:, :conditioning], real[:, conditioning:]
            copies = recipe.reconstruction_samples  # of each clip, copy after copy
            labels, z = labels.repeat(copies), self._latents(copies * len(real), rng)
            states = {r: state.repeat(copies, 1, 1, 1) for r, state in self.generator.encoder(given).items()}
            fake = self.generator.decode(states, z, labels)
            clips, terms = torch.cat([given.repeat(copies, 1, 1, 1, 1), fake], dim=1), {}
            for view, discriminator in self.discriminators.items():
                scores = discriminator(draw_view(view, clips, self.config, rng), labels)
                terms[f"loss/generator/{view}"] = generator_hinge(combine(scores, self.config.discriminator.head))
            terms["loss/orthogonality"] = orthogonality(self.generator)
            if recipe.reconstruction > 0:  # not in the paper: L1 of the copies' mean, as DGMR's
                terms["loss/reconstruction"] = F.l1_loss(fake.unflatten(0, (copies, -1)).mean(dim=0), truth)
            _backward(terms, weights, len(batches), losses)
        self.discriminators.requires_grad_(True)
        self.generator_optimizer.step()
        return losses

    @torch.no_grad()
    def _update_average(self) -> None:
        """The exponential moving average, which starts with the weights of step `ema_start` (E.2)."""
        recipe = self.config.training
        if self.step < recipe.ema_start:
            return
        for name, parameter in self.generator.named_parameters():
            if name not in self.average:
                self.average[name] = parameter.clone()
            self.average[name].mul_(recipe.ema_decay).add_(parameter, alpha=1 - recipe.ema_decay)

    def _read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Videos (B, C + T, channels, H, W) in [-1, 1], labels (B,)."""
        video, labels = batch[0].to(self.device), batch[1].to(self.device)
        return (video.float() / 127.5 - 1).movedim(-1, -3).contiguous(), labels

    def _latents(self, count: int, rng: torch.Generator) -> Tensor:
        return torch.randn(count, self.config.model.latent_dim, generator=rng).to(self.device)


def _backward(terms: Losses, weights: Mapping[str, float], passes: int, losses: Losses) -> None:
    """Accumulate the gradients of one of several passes, and its losses."""
    torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum().div(passes).backward()
    for name, term in terms.items():
        losses[name] = losses.get(name, 0) + term.detach() / passes
