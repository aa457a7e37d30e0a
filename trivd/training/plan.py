"""Costs of a training step, without running one: sizes, FLOPs and memory (`trivd train --dry-run`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from trivd.config import Config
from trivd.models.blocks import ResidualBlock, recompute_blocks
from trivd.models.discriminators import Discriminators, View, combine
from trivd.models.generator import Generator
from trivd.runtime.console import show_table
from trivd.training.division import divide
from trivd.training.losses import gradient_penalty, orthogonality_penalty

BYTES = 4  # of a float32


@dataclass(frozen=True)
class Plan:
    """Costs of one training step, for each process."""

    generator_parameters: int  # with the encoder
    discriminator_parameters: dict[str, int]
    discriminator_flops: int  # of all discriminator updates, R1's share in its steps spread over all
    generator_flops: int
    state_bytes: int  # weights, gradients, Adam's two moments, and the moving average of G
    activation_bytes: int  # that the backward pass of the generator update needs, in float32
    discriminator_pixels: int  # per video and update


def make_plan(config: Config, processes: int = 1) -> Plan:
    """Trace a step on the meta device, where tensors have shapes but no values: it takes seconds and no memory.

    Args:
        config: of the run.
        processes: number of processes that share the step.

    Raises:
        TrivdError: they cannot share the batch equally.
    """
    model, recipe, head = config.model, config.training, config.discriminator.head
    division = divide(recipe, processes)
    with torch.device("meta"):
        generator, discriminators = Generator(model), Discriminators(config.discriminator, model)
        if recipe.checkpoint_activations:
            recompute_blocks(generator)
            recompute_blocks(discriminators)
        shape = (model.image_channels, model.resolution, model.resolution)

        def video(clips: int) -> Tensor:
            return torch.empty(clips, model.frames, *shape)

        def draw(copies: int) -> Tensor:
            """`copies` samples of each clip, whose frames are encoded once."""
            clips = division.clips * copies
            z, labels = torch.empty(clips, model.latent_dim), torch.zeros(clips, dtype=torch.int64)
            states = generator.encoder(video(division.clips)[:, : model.conditioning_frames])
            return generator.decode({r: s.repeat(copies, 1, 1, 1) for r, s in states.items()}, z, labels).video

        def seen(view: View, videos: Tensor) -> Tensor:
            places = discriminators.draw_places(view, videos.shape, torch.Generator(device="cpu"))
            return discriminators.cut(view, videos, places)

        def judge(videos: Tensor) -> Tensor:
            labels = torch.zeros(len(videos), dtype=torch.int64)
            scores = (discriminators[view](seen(view, videos), labels) for view in discriminators.views)
            return torch.stack([combine(score, head).mean() for score in scores]).sum()

        def penalise(videos: Tensor) -> Tensor:
            labels = torch.zeros(len(videos), dtype=torch.int64)
            return torch.stack(
                [
                    gradient_penalty(discriminators[view], seen(view, videos), labels, head)
                    for view in discriminators.views
                ]
            ).sum()

        def discriminator_update(penalised: bool) -> None:
            with torch.no_grad():
                draw(1)
            judge(video(2 * division.clips)).backward()
            if penalised:
                penalise(video(division.clips)).backward()

        def generator_update() -> None:
            fake = draw(recipe.reconstruction_samples)
            given = video(len(fake))[:, : model.conditioning_frames]
            (judge(torch.cat([given, fake], dim=1)) + orthogonality_penalty(generator)).backward()

        update_flops = flops(lambda: discriminator_update(False))
        if recipe.r1 > 0:
            update_flops += (flops(lambda: discriminator_update(True)) - update_flops) // recipe.r1_every
        discriminators.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            activations = saved_bytes(generator_update, [generator, discriminators])
    parameters: dict[str, int] = {view: _count(discriminators[view]) for view in discriminators.views}
    return Plan(
        generator_parameters=_count(generator),
        discriminator_parameters=parameters,
        discriminator_flops=update_flops * recipe.discriminator_updates * division.passes,
        generator_flops=counter.get_total_flops() * division.passes,
        state_bytes=BYTES * (5 * _count(generator) + 4 * sum(parameters.values())),
        activation_bytes=activations,
        discriminator_pixels=discriminators.pixels(model),
    )


def print_plan(config: Config, processes: int, console: Console) -> None:
    """Print the costs of a step for each of the processes."""
    plan, recipe, division = make_plan(config, processes), config.training, divide(config.training, processes)
    rows = [
        ("parameters of G with E", f"{plan.generator_parameters / 1e6:,.2f} M"),
        *(
            (f"parameters of discriminator {view}", f"{count / 1e6:,.2f} M")
            for view, count in plan.discriminator_parameters.items()
        ),
        ("pixels per video that the discriminators see", f"{plan.discriminator_pixels:,}"),
        ("global batch", division.text(processes)),
        (f"FLOPs of {recipe.discriminator_updates} D updates", f"{plan.discriminator_flops / 1e9:,.1f} G"),
        ("FLOPs of the G update", f"{plan.generator_flops / 1e9:,.1f} G"),
        ("FLOPs of a step", f"{(plan.discriminator_flops + plan.generator_flops) / 1e9:,.1f} G"),
        ("memory of weights, gradients, Adam, EMA", f"{plan.state_bytes / 2**30:,.2f} GiB"),
        ("memory of activations, at most (float32)", f"{plan.activation_bytes / 2**30:,.2f} GiB"),
    ]
    what = "of a step" if processes == 1 else "of a step, for each process"
    show_table(console, (what, "size"), rows, f"{config.model.unit}, {config.discriminator.decomposition}")


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def flops(work: Callable[[], object]) -> int:
    """FLOPs of convolutions and matrix products in `work`; a multiplication with its addition counts as two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def saved_bytes(work: Callable[[], object], networks: Sequence[nn.Module] = ()) -> int:
    """Bytes that autograd keeps for the backward pass of `work`, each storage once; works on the meta device too.

    Args:
        work: a forward and backward pass.
        networks: whose recomputed residual blocks count with their inputs, which are kept for them.
    """
    storages: set[torch.UntypedStorage] = set()

    def keep(tensor: Tensor) -> Tensor:
        storages.add(tensor.untyped_storage())
        return tensor

    def keep_input(block: nn.Module, inputs: tuple[Any, ...]) -> None:
        keep(inputs[0])

    hooks = [
        block.register_forward_pre_hook(keep_input)
        for network in networks
        for block in network.modules()
        if isinstance(block, ResidualBlock) and block.recompute
    ]
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    for hook in hooks:
        hook.remove()
    return sum(storage.nbytes() for storage in storages)
