"""Everything random in a training step, drawn before it begins, so that a step is one function of tensors.

All numbers are drawn on the CPU: they are the same on every device.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trivd.config import Config
from trivd.data.loader import Batch
from trivd.models.discriminators import Discriminators, Places, View
from trivd.models.latents import draw_own_latents, seeded_generator
from trivd.training.augment import Draws, draw_augmentations


class Look(NamedTuple):
    """How a discriminator looks at clips."""

    places: Places  # where
    augmentation: Draws  # of what it sees there


class Pass(NamedTuple):
    """What a forward and backward pass reads."""

    video: Tensor  # real clips (B, C + T, H, W, channels) uint8
    labels: Tensor  # (B,) int64
    z: Tensor  # (B, latent_dim), or (copies * B, latent_dim) for G
    looks: dict[View, Look]  # of the discriminators


class StepInputs(NamedTuple):
    """What a step reads, beside the weights."""

    discriminator: list[list[Pass]]  # of each update, its passes
    generator: list[Pass]
    reconstruction: Tensor  # weight of L1, a scalar
    rate: Tensor  # learning rates as a share of their settings, a scalar
    penalised: bool  # whether R1 is a part of the discriminator updates


def update_rng(seed: int, step: int, update: int) -> torch.Generator:
    """The random numbers of one update: they depend on nothing else, so a resumed run draws the same."""
    return seeded_generator(seed, step, update)


def draw_discriminator_pass(batch: Batch, config: Config, discriminators: Discriminators, rng: torch.Generator) -> Pass:
    """Clips of a discriminator update, z of the futures beside them, and how both are looked at."""
    z = draw_own_latents(len(batch.labels), config.model.latent_dim, rng)
    return Pass(batch.video, batch.labels, z, _draw_looks(2, batch.video, config, discriminators, rng))


def draw_generator_pass(batch: Batch, config: Config, discriminators: Discriminators, rng: torch.Generator) -> Pass:
    """Clips whose conditioning frames G continues, z of its samples, and how these are looked at."""
    copies = config.training.reconstruction_samples
    z = draw_own_latents(copies * len(batch.labels), config.model.latent_dim, rng, copies)
    return Pass(batch.video, batch.labels, z, _draw_looks(copies, batch.video, config, discriminators, rng))


def _draw_looks(
    copies: int, video: Tensor, config: Config, discriminators: Discriminators, rng: torch.Generator
) -> dict[View, Look]:
    model, kinds, clips = config.model, config.training.augment, copies * len(video)
    shape = (clips, video.shape[1], model.image_channels, model.resolution, model.resolution)
    return {
        view: Look(
            discriminators.draw_places(view, shape, rng, copies),
            draw_augmentations(kinds, clips, discriminators.side(view, model.resolution), rng, copies),
        )
        for view in discriminators.views
    }


def draw_step(
    updates: Sequence[Sequence[Batch]], config: Config, discriminators: Discriminators, step: int, share: float
) -> StepInputs:
    """All inputs of a step, on the CPU.

    Args:
        updates: for each discriminator update, its batches, one for each pass. The generator update takes its
            conditioning frames from the last of them. A curriculum cuts their clips.
        config: of the run.
        discriminators: which say what is to be drawn.
        step: number of the step, counted from 0.
        share: of the time that the run may take, spent before it.
    """
    rngs = [update_rng(config.training.seed, step, update) for update in range(len(updates) + 1)]
    recipe = config.training
    position = recipe.position(step, share)
    frames = config.frames_at(position)
    clips = [[batch._replace(video=batch.video[:, :frames]) for batch in batches] for batches in updates]
    reconstruction, rate = (
        torch.tensor(value, dtype=torch.float32)
        for value in (recipe.reconstruction_weight(position), recipe.rate(position))
    )
    return StepInputs(
        [
            [draw_discriminator_pass(batch, config, discriminators, rng) for batch in batches]
            for batches, rng in zip(clips, rngs, strict=False)
        ],
        [draw_generator_pass(batch, config, discriminators, rngs[-1]) for batch in clips[-1]],
        reconstruction,
        rate,
        recipe.has_r1(step),
    )


def tensors_of(value: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dictionaries, in order; one that occurs again is left out."""
    seen: set[int] = set()
    for tensor in _leaves(value):
        if isinstance(tensor, Tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor


def choices_of(value: Any) -> tuple[bool, ...]:
    """What there is beside tensors: inputs that differ in it ask for different work."""
    return tuple(leaf for leaf in _leaves(value) if not isinstance(leaf, Tensor))


def _leaves(value: Any) -> Iterator[Tensor | bool]:
    if isinstance(value, Tensor | bool):
        yield value
    else:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)


def with_tensors(value: Any, tensors: Iterable[Tensor]) -> Any:
    """The same lists, tuples and dictionaries with others in place of the tensors of `tensors_of`, in that order."""
    return _replaced(value, {id(old): new for old, new in zip(tensors_of(value), tensors, strict=True)})


def _replaced(value: Any, others: Mapping[int, Tensor]) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, Tensor):
        return others[id(value)]
    if isinstance(value, dict):
        return {key: _replaced(item, others) for key, item in value.items()}
    items = [_replaced(item, others) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
