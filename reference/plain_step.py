"""TrIVD-GAN-FP's training step written plainly, a peer of `trivd.training.step` in benchmarks and its oracle in tests.

Float32, PyTorch's memory layout, Adam and moving average one parameter at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.plain import PlainGenerator
from reference.plain_discriminators import WEIGHT, PlainDiscriminators, PlainScores
from trivd.config import Config
from trivd.data.loader import Batch
from trivd.models.discriminators import Discriminators, draw_view
from trivd.models.generator import Generator
from trivd.models.latents import draw_latents
from trivd.runtime.pixels import to_float
from trivd.training.step import Losses, update_rng


class PlainTrainer:
    """The plain networks, their optimizers and the moving average, and the updates that change them.

    It starts with the weights of a `Trainer` of the same config and draws the same random numbers.

    Args:
        config: of the run.
        device: where the networks live.

    Raises:
        TrivdError: the plain networks do not have the unit of `config`.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config = config
        self.device = device
        torch.manual_seed(config.training.seed)
        generator = Generator(config.model)
        discriminators = Discriminators(config.discriminator, config.model)
        self.generator = PlainGenerator.from_ours(generator).to(device)
        self.discriminators = PlainDiscriminators.from_ours(discriminators, config.model).to(device)
        self.generator_optimizer = self._adam(self.generator, config.training.generator_lr)
        self.discriminator_optimizer = self._adam(self.discriminators, config.training.discriminator_lr)
        self.average: dict[str, Tensor] = {}  # empty until it has started
        self.step = 0  # generator updates made

    def _adam(self, module: nn.Module, lr: float) -> torch.optim.Adam:
        recipe = self.config.training
        betas = recipe.beta1, recipe.beta2
        return torch.optim.Adam(module.parameters(), lr=lr, betas=betas, eps=recipe.epsilon, foreach=False)

    def train_step(self, updates: Sequence[Sequence[Batch]]) -> Losses:
        """All updates of one step; arguments and losses as of `Trainer.train_step`, but losses may be infinite."""
        losses: Losses = {}
        for index, batches in enumerate(updates):
            losses = self.discriminator_update(batches, update_rng(self.config.training.seed, self.step, index))
        rng = update_rng(self.config.training.seed, self.step, len(updates))
        losses |= self.generator_update(updates[-1], rng)
        self.step += 1
        self._update_average()
        return losses

    def discriminator_update(self, batches: Sequence[Batch], rng: torch.Generator) -> Losses:
        """One Adam step of all discriminators on the hinge losses (Eq 13), the generator fixed."""
        self.discriminator_optimizer.zero_grad()
        losses: Losses = {}
        for batch in batches:
            real, labels = self._to_device(batch)
            given = real[:, : self.config.model.conditioning_frames]
            z = self._latents(len(real), rng)
            with torch.no_grad():
                fake = torch.cat([given, self.generator(given, z, labels)], dim=1)
            terms: Losses = {}
            for view in self.discriminators:
                scores = self._scores(view, torch.cat([real, fake]), torch.cat([labels, labels]), rng)
                real_scores = PlainScores(scores.video[: len(real)], scores.joint[: len(real)])
                fake_scores = PlainScores(scores.video[len(real) :], scores.joint[len(real) :])
                real_loss = F.relu(1 - self._outputs(real_scores)).mean()
                fake_loss = F.relu(1 + self._outputs(fake_scores)).mean()
                terms[f"loss/discriminator/{view}"] = (real_loss + fake_loss) / len(batches)
            torch.stack(list(terms.values())).sum().backward()
            _add(losses, terms)
        self.discriminator_optimizer.step()
        return losses

    def generator_update(self, batches: Sequence[Batch], rng: torch.Generator) -> Losses:
        """One Adam step of G and E on the hinge loss (Eq 14) and the regularisers, the discriminators fixed."""
        recipe, given_frames = self.config.training, self.config.model.conditioning_frames
        halvings = self.step / recipe.reconstruction_half_life if recipe.reconstruction_half_life else 0.0
        reconstruction = recipe.reconstruction / 2**halvings
        weights = {"loss/orthogonality": recipe.orthogonality, "loss/reconstruction": reconstruction}
        self.generator_optimizer.zero_grad()
        self.discriminators.requires_grad_(False)
        losses: Losses = {}
        for batch in batches:
            real, labels = self._to_device(batch)
            given, truth = real[:, :given_frames], real[:, given_frames:]
            copies = recipe.reconstruction_samples
            labels = labels.repeat(copies)
            z = self._latents(copies * len(real), rng)
            states = {r: state.repeat(copies, 1, 1, 1) for r, state in self.generator.encoder(given).items()}
            fake = self.generator.decode(states, z, labels)
            clips = torch.cat([given.repeat(copies, 1, 1, 1, 1), fake], dim=1)
            terms: Losses = {}
            for view in self.discriminators:
                outputs = self._outputs(self._scores(view, clips, labels, rng))
                terms[f"loss/generator/{view}"] = -outputs.mean() / len(batches)
            terms["loss/orthogonality"] = plain_orthogonality(self.generator) / len(batches)
            if recipe.reconstruction > 0:
                mean = fake.unflatten(0, (copies, len(real))).mean(dim=0)
                terms["loss/reconstruction"] = F.l1_loss(mean, truth) / len(batches)
            torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum().backward()
            _add(losses, terms)
        self.discriminators.requires_grad_(True)
        self.generator_optimizer.step()
        return losses

    @torch.no_grad()
    def _update_average(self) -> None:
        recipe = self.config.training
        if self.step < recipe.ema_start:
            return
        for name, parameter in self.generator.named_parameters():
            if name not in self.average:
                self.average[name] = parameter.clone()
            self.average[name].mul_(recipe.ema_decay).add_(parameter, alpha=1 - recipe.ema_decay)

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Videos (B, C + T, channels, H, W) in [-1, 1], labels (B,)."""
        return to_float(batch.video.to(self.device)).contiguous(), batch.labels.to(self.device)

    def _latents(self, count: int, rng: torch.Generator) -> Tensor:
        return draw_latents(count, self.config.model.latent_dim, rng).to(self.device)

    def _scores(self, view: str, videos: Tensor, labels: Tensor, rng: torch.Generator) -> PlainScores:
        settings = self.config.discriminator
        frames = 1 if settings.decomposition == "mocogan_k1" else settings.frames
        given = self.config.model.conditioning_frames
        seen = draw_view(view, videos, given, frames, settings.downsampling, rng)  # type: ignore[arg-type]
        scores: PlainScores = self.discriminators[view](seen, labels)
        return scores

    def _outputs(self, scores: PlainScores) -> Tensor:
        """Eq 15: (B, B, T), of every video with every class; or (B,), of the projection head."""
        if self.config.discriminator.head == "projection":
            return (scores.video + scores.joint).sum(dim=1)
        return scores.video.unsqueeze(1) + scores.joint.sum(dim=1).view(1, -1, 1)


def _add(losses: Losses, terms: Losses) -> None:
    for name, term in terms.items():
        losses[name] = losses.get(name, 0) + term.detach()


def plain_orthogonality(module: nn.Module) -> Tensor:
    """Sum over convolutions and linear layers of |W W^T, off the diagonal|^2 (E.2), W with one row per output."""
    penalties = []
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            parameters = dict(layer.named_parameters())
            matrix = (parameters[WEIGHT] if WEIGHT in parameters else parameters["weight"]).flatten(1)
            gram = matrix @ matrix.T
            off_diagonal = gram * (1 - torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
            penalties.append(off_diagonal.square().sum())
    return torch.stack(penalties).sum()
