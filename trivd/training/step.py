"""One training step: discriminator updates, then a generator update (4.1, E.1)."""

import contextlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trivd.config import Config
from trivd.data.loader import Batch
from trivd.models.blocks import recompute_blocks
from trivd.models.discriminators import Discriminators
from trivd.models.generator import Generator
from trivd.runtime.distributed import all_reduce_mean, world_size
from trivd.runtime.hardware import autocast, to_channels_last, to_device
from trivd.runtime.pixels import to_float
from trivd.training.draws import Pass, StepInputs, draw_step, tensors_of, with_tensors
from trivd.training.ema import Ema
from trivd.training.graph import GraphedStep, uses_graph
from trivd.training.lecam import Anchors
from trivd.training.objectives import DiscriminatorLosses, GeneratorLosses, Losses
from trivd.training.verdicts import Verdicts


class Update(NamedTuple):
    """What an update leaves to be read."""

    losses: Losses  # detached scalars by name, and how discriminators answer, averaged over all passes and processes
    verdict: Tensor  # see `Verdicts.judge`


class Trainer:
    """The networks, their optimizers and the moving average, and the updates that change them.

    Args:
        config: of the run.
        device: where the networks live.
        dtype: of convolutions and linear layers; weights are float32.

    Raises:
        TrivdError: a CUDA graph is asked for without a GPU.
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
        self.anchors = Anchors(self.discriminators.views if recipe.lecam > 0 else (), device)
        self.discriminator_losses = _distributed(DiscriminatorLosses(self.discriminators, self.anchors, config, dtype))
        self.generator_losses = _distributed(GeneratorLosses(self.generator, self.discriminators, config, dtype))
        self.ema = Ema(recipe.ema_decay, recipe.ema_start, recipe.ema_halflife / recipe.batch_size)
        self.verdicts = Verdicts(device)
        self.step = 0  # generator updates made
        self.share = 0.0  # of the time that the run may take, spent before the next step; whoever measures it sets it
        self._graphed = self._new_graph() if uses_graph(recipe.cuda_graph, device) else None

    def _adam(self, module: torch.nn.Module, lr: float) -> torch.optim.Adam:
        recipe = self.config.training
        return torch.optim.Adam(
            module.parameters(),
            # Only a tensor can change between replays of a CUDA graph.
            lr=torch.tensor(lr, device=self.device) if recipe.lr_cooldown else lr,
            betas=(recipe.beta1, recipe.beta2),
            eps=recipe.epsilon,
            fused=True,
            capturable=self.device.type == "cuda",
        )

    def _new_graph(self) -> GraphedStep:
        return GraphedStep(self._updates, self.device)

    def continue_from(self, step: int) -> None:
        """Go on from a step whose networks, optimizers and average have just been put in place of the present ones."""
        self.step = step
        self.verdicts.reset()
        if self._graphed is not None:
            self._graphed = self._new_graph()  # the old one changes tensors that are no longer in use

    def train_step(self, updates: Sequence[Sequence[Batch]]) -> Losses:
        """All updates of one step. A GPU may still be at work on them when the call returns.

        Args:
            updates: for each discriminator update, its batches (one per accumulated pass). The generator update takes
                its conditioning frames from the last of them.

        Returns:
            losses by name, and how discriminators answer, detached scalars.

        Raises:
            NonFiniteLossError: a loss or its gradient is not finite, in this step or, on a GPU, in the one before; see
                `trivd.training.verdicts`. The networks keep the weights of before that update. The average does not,
                so that only a checkpoint can be gone on from.
        """
        inputs = draw_step(updates, self.config, self.discriminators, self.step, self.share)
        if self._graphed is None:
            losses, verdicts = self._updates(self._on_device(inputs))
        else:
            losses, verdicts = self._graphed(inputs)
            losses = dict(zip(losses, torch.stack(list(losses.values())).unbind(), strict=True))  # not overwritten
        self.step += 1
        self.ema.update(self.generator, self.step, self.config.training.position(self.step, self.share))
        self.verdicts.launched(self.step, ["discriminator"] * len(updates) + ["generator"], verdicts)
        return losses

    def finish(self) -> None:
        """Wait for the verdicts on all steps.

        Raises:
            NonFiniteLossError: see `train_step`.
        """
        self.verdicts.finish()

    def _on_device(self, inputs: StepInputs) -> StepInputs:
        moved: StepInputs = with_tensors(inputs, (to_device(tensor, self.device) for tensor in tensors_of(inputs)))
        return moved

    def _updates(self, inputs: StepInputs) -> tuple[Losses, list[Tensor]]:
        """All updates of a step whose inputs are on the device; losses of the last ones, and all verdicts."""
        if self.config.training.lr_cooldown:
            self._set_rates(inputs.rate)
        made = [self.discriminator_update(passes, inputs.penalised) for passes in inputs.discriminator]
        made.append(self.generator_update(inputs.generator, inputs.reconstruction))
        return made[-2].losses | made[-1].losses, [update.verdict for update in made]

    def _set_rates(self, share: Tensor) -> None:
        """Set the learning rates to a share of their settings."""
        recipe = self.config.training
        rates = {self.generator_optimizer: recipe.generator_lr, self.discriminator_optimizer: recipe.discriminator_lr}
        for optimizer, rate in rates.items():
            for group in optimizer.param_groups:
                group["lr"].copy_(rate * share)

    def discriminator_update(self, passes: Sequence[Pass], penalised: bool) -> Update:
        """One Adam step of all discriminators on Eq 13 and their regularisers, the generator fixed.

        Args:
            passes: what each pass reads.
            penalised: whether R1 is one of the regularisers.
        """
        recipe = self.config.training
        kinds = {"lecam": recipe.lecam, "r1": recipe.r1 / 2 * recipe.r1_every}
        weights = {f"loss/{kind}/{view}": kinds[kind] for kind in kinds for view in self.discriminators.views}

        def arguments(one: Pass) -> tuple[Any, ...]:
            real = to_float(one.video)
            return real, self._draw(real, one.labels, one.z), one.labels, one.looks, penalised

        self.discriminator_optimizer.zero_grad(set_to_none=True)
        losses = self._accumulate(self.discriminator_losses, map(arguments, passes), len(passes), weights)
        update = self._apply(self.discriminator_optimizer, losses)
        self.anchors.update(update.losses)
        return update

    def generator_update(self, passes: Sequence[Pass], reconstruction: Tensor) -> Update:
        """One Adam step of G and E on Eq 14 summed over discriminators, and on the regularisers.

        Args:
            passes: what each pass reads.
            reconstruction: weight of L1, a scalar.
        """
        weights: dict[str, float | Tensor] = {
            "loss/orthogonality": self.config.training.orthogonality,
            "loss/reconstruction": reconstruction,
            "loss/diversity": self.config.training.diversity,
        }
        arguments = ((to_float(one.video), one.labels, one.z, one.looks) for one in passes)
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.discriminators.requires_grad_(False)
        try:
            losses = self._accumulate(self.generator_losses, arguments, len(passes), weights)
        finally:  # a recording may fail here, and the step is then called
            self.discriminators.requires_grad_(True)
        return self._apply(self.generator_optimizer, losses)

    @torch.no_grad()
    def _draw(self, real: Tensor, labels: Tensor, z: Tensor) -> Tensor:
        """The given frames of real clips, each followed by a drawn future: (B, C + T, channels, H, W)."""
        given = self.config.model.conditioning_frames
        conditioning = real[:, :given]
        with autocast(self.device, self.dtype):
            fake = self.generator(conditioning, z, labels, length=real.shape[1] - given).video
        return torch.cat([conditioning, fake], dim=1)

    def _accumulate(
        self,
        losses_of: nn.Module,
        inputs: Iterable[tuple[Any, ...]],
        passes: int,
        weights: Mapping[str, float | Tensor],
    ) -> Losses:
        """Add up the gradients of all passes of an update, and average them over passes and processes.

        Args:
            losses_of: gives the losses of one pass, `loss/...`, and what is only averaged, by name.
            inputs: what it takes, for each pass.
            passes: how many there are.
            weights: of losses whose weight in the sum is not 1.

        Returns:
            all of them, averaged over the passes.
        """
        losses: Losses = {}
        for number, arguments in enumerate(inputs, start=1):
            # Processes average their gradients once, in the last backward pass.
            alone = number < passes and world_size() > 1
            with losses_of.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
                terms: Losses = losses_of(*arguments)
                weighted = [weights.get(name, 1.0) * term for name, term in terms.items() if name.startswith("loss/")]
                total = torch.stack(weighted).sum()
                (total / passes).backward()
            for name, term in terms.items():
                losses[name] = losses.get(name, 0) + term.detach() / passes
        return losses

    def _apply(self, optimizer: torch.optim.Adam, losses: Losses) -> Update:
        """Let the optimizer make its step, if all losses and gradients are finite and were in all updates before.

        Args:
            optimizer: of the networks whose gradients are ready.
            losses: of this process.
        """
        averages = all_reduce_mean(torch.stack(list(losses.values())))
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        verdict = self.verdicts.judge(averages.sum(), gradients)
        # Gradient scaling's way to have fused Adam skip a step by a flag on the device.
        optimizer.found_inf = self.verdicts.failed  # type: ignore[attr-defined]
        optimizer.step()
        return Update(dict(zip(losses, averages.unbind(), strict=True)), verdict)


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
