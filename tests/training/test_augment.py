"""Augmentation against DiffAugment's published formulae, written for one pixel at a time, and in a training."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from step_checks import MakeTrainer, batch, discriminator_update, generator_update, rng
from torch import Tensor

from trivd.config import Augmentation
from trivd.runtime.pixels import to_float
from trivd.training import objectives
from trivd.training.augment import Draws, augment, draw_augmentations

KINDS: tuple[Augmentation, ...] = ("translation", "colour", "cutout")


def drawn(seed: int, *kinds: Augmentation, count: int = 2, side: int = 16) -> Draws:
    return draw_augmentations(kinds, count, side, torch.Generator().manual_seed(seed), 1)


def pixels(seen: Tensor) -> Any:
    """Clip, frame, channel, row and column of all pixels."""
    return itertools.product(*map(range, seen.shape))


def translated(seen: Tensor, rows: list[int], columns: list[int]) -> Tensor:
    """`rand_translation`: the pixel x + t of a picture with a border of zeros, clamped to it; t from -side / 8 on."""
    result, side = torch.zeros_like(seen), seen.shape[-1]
    for b, k, c, y, x in pixels(seen):
        there = [min(max(p + t - side // 8 + 1, 0), side + 1) for p, t in ((y, rows[b]), (x, columns[b]))]
        if all(0 < p <= side for p in there):
            result[b, k, c, y, x] = seen[b, k, c, there[0] - 1, there[1] - 1]
    return result


def coloured(seen: Tensor, brightness: list[float], saturation: list[float], contrast: list[float]) -> Tensor:
    """`rand_brightness`, `rand_saturation` and `rand_contrast`, one clip after the other."""
    clips = []
    for clip, first, second, third in zip(seen, brightness, saturation, contrast, strict=True):
        x = clip + (first - 0.5)
        grey = x.mean(dim=1, keepdim=True)
        x = (x - grey) * (second * 2) + grey
        clips.append((x - x.mean()) * (third + 0.5) + x.mean())
    return torch.stack(clips)


def cut_out(seen: Tensor, rows: list[int], columns: list[int]) -> Tensor:
    """`rand_cutout`: the pixels that its grids name, clamped to the picture, are zeros."""
    result, side = seen.clone(), seen.shape[-1]
    size = side // 2
    for b, i, j in itertools.product(range(len(seen)), range(size), range(size)):
        y, x = (min(max(p + o - size // 2, 0), side - 1) for p, o in ((i, rows[b]), (j, columns[b])))
        result[b, :, :, y, x] = 0
    return result


PLAIN: dict[Augmentation, Callable[..., Tensor]] = {"translation": translated, "colour": coloured, "cutout": cut_out}


@given(
    seed=st.integers(0, 10_000),
    kinds=st.lists(st.sampled_from(KINDS), unique=True, max_size=3),
    side=st.integers(4, 9) | st.just(16),
    channels=st.sampled_from([1, 3]),
)
def test_the_formulae_are_diffaugments(seed: int, kinds: list[Augmentation], side: int, channels: int) -> None:
    seen = torch.randn(2, 2, channels, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    draws = drawn(seed, *kinds, side=side)
    assert list(draws) == kinds
    expected = seen
    for kind in kinds:
        expected = PLAIN[kind](expected, *(values.tolist() for values in draws[kind]))
    torch.testing.assert_close(augment(seen, draws), expected, rtol=1e-5, atol=1e-5)  # draws are float32


def test_the_ranges_are_diffaugments() -> None:
    """Each whole number comes, and no other; the others are drawn from [0, 1)."""
    for side, shifts, centres in ((32, 9, 33), (18, 5, 18)):  # half of 18 is odd
        draws = drawn(0, *KINDS, count=2_000, side=side)
        for values in draws["translation"]:
            assert set(values.tolist()) == set(range(shifts))
        for values in draws["cutout"]:
            assert set(values.tolist()) == set(range(centres))
        for values in draws["colour"]:
            assert (values.min() >= 0, values.max() < 1, values.std() > 0.28) == (True, True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: Augmentation) -> None:
    seen = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    draws = drawn(1, kind, side=8)
    assert torch.autograd.gradcheck(lambda x: augment(x, draws), seen, fast_mode=True)


def test_nothing_is_drawn_for_nothing() -> None:
    source = torch.Generator().manual_seed(0)
    before = source.get_state()
    assert draw_augmentations((), 4, 16, source, 2) == {}
    assert torch.equal(source.get_state(), before)


def test_both_updates_show_every_discriminator_augmented_clips(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real and fake, each with a hole of its own at one place in all frames, the given ones included."""
    trainer = make_trainer(training={"augment": ["cutout"]}, discriminator={"decomposition": "mocogan_k8"})
    seen: list[tuple[Tensor, Tensor]] = []

    def record(clips: Tensor, draws: Draws) -> Tensor:
        seen.append((clips.detach(), augment(clips.detach(), draws)))
        return augment(clips, draws)

    monkeypatch.setattr(objectives, "augment", record)
    clips, source = batch(), rng()
    discriminator_update(trainer, [clips], source)
    generator_update(trainer, [clips], source)
    assert [len(before) for before, _ in seen] == [4, 4, 2, 2]  # frames and clips; in D's update real ones and fakes
    holes = []
    for before, after in seen:
        hole = after == 0
        assert torch.equal(after, torch.where(hole, 0, before))
        assert torch.equal(hole, hole[:, :1, :1].expand_as(hole))
        holes += [each[0, 0].numpy().tobytes() for each in hole]
    assert len(set(holes)) == 11  # of 12: two happen to be the same, in different discriminators
    real = to_float(clips.video)
    assert torch.equal(seen[1][0][:2], real)
    assert torch.equal(seen[3][0][:, :2], real[:, :2])
