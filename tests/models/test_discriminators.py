"""What discriminators see, how they answer, and how the answers combine, each against the paper's own words."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from agreement import assert_same, average_pool, plainly, scramble, settle
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reference import discriminators as plain_forms
from reference.discriminators import Discriminators as PlainDiscriminators
from reference.discriminators import draw_view as plain_draw_view
from trivd.config import Config, Decomposition, DiscriminatorConfig, ModelConfig
from trivd.models.discriminators import Discriminator, Discriminators, Scores, View, combine, cut_view, draw_places
from trivd.ops import upsample

ModelFactory = Callable[..., ModelConfig]

# Table 1: frame-level (F), downsampled frame-level (dF), clipped (clV), downsampled (dV), cropped video (crV).
TABLE_1 = {
    "clip": {"clV"},
    "downsampled": {"dV"},
    "cropped": {"crV"},
    "cropped_downsampled": {"dV", "crV"},
    "mocogan_k1": {"F", "clV"},
    "mocogan_k8": {"F", "clV"},
    "dvd_gan_fp": {"F", "dV"},
    "faster": {"dF", "crV"},
    "stronger": {"dF", "dV", "crV"},
}
COLUMNS = {"frames": "F", "small_frames": "dF", "clip": "clV", "small_clip": "dV", "crop": "crV"}


def numbered(batch: int, frames: int, height: int, width: int) -> Tensor:
    """A video (B, T, 1, H, W) in which every value occurs once: its own index."""
    return torch.arange(batch * frames * height * width, dtype=torch.float64).view(batch, frames, 1, height, width)


def draw_view(view: View, video: Tensor, *, scale: int, rng: torch.Generator, **drawn: int) -> Tensor:
    """What a discriminator sees of videos, at places that are drawn for it."""
    return cut_view(view, video, draw_places(view, video.shape, scale=scale, rng=rng, **drawn), scale)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- Decompositions


@pytest.mark.parametrize("name", get_args(Decomposition))
def test_decompositions_are_the_rows_of_table_1(name: str, tiny_model: ModelFactory) -> None:
    discriminators = Discriminators(DiscriminatorConfig(decomposition=name, frames=2), tiny_model())
    assert len(discriminators) == len(TABLE_1[name])
    assert {COLUMNS[view] for view in discriminators} == TABLE_1[name]
    for view, discriminator in discriminators.items():
        assert discriminator.temporal == (0 if COLUMNS[view] in ("F", "dF") else 2)
    assert set(get_args(Decomposition)) == set(TABLE_1)


@pytest.mark.parametrize("name", TABLE_1)
@given(
    k=st.integers(1, 8),
    c=st.integers(1, 5),
    extra=st.integers(0, 4),
    size=st.sampled_from([32, 64, 128, 256]),
    s=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=5)
def test_pixels_per_video(name: str, k: int, c: int, extra: int, size: int, s: int, tiny_model: ModelFactory) -> None:
    """3.1: K H W + T H/s W/s for DVD-GAN-FP, (K + T) H/s W/s for `faster`, where T is the whole clip."""
    model = tiny_model(resolution=size, conditioning_frames=c, predicted_frames=k + extra)
    t, h, w = c + k + extra, size, size
    small = (h // s) * (w // s)
    if name == "mocogan_k1":
        drawn, config = 1, DiscriminatorConfig(decomposition=name, downsampling=s)
    else:
        drawn, config = k, DiscriminatorConfig(decomposition=name, frames=k, downsampling=s)
    expected = {
        "clip": t * h * w,
        "downsampled": t * small,
        "cropped": t * small,
        "cropped_downsampled": 2 * t * small,
        "mocogan_k1": drawn * h * w + t * h * w,
        "mocogan_k8": drawn * h * w + t * h * w,
        "dvd_gan_fp": drawn * h * w + t * small,
        "faster": (drawn + t) * small,
        "stronger": (drawn + t) * small + t * small,
    }
    assert Discriminators(config, model).pixels(model) == expected[name]


# --- Views


@given(
    view=st.sampled_from(["frames", "small_frames"]),
    batch=st.integers(1, 4),
    conditioning=st.integers(0, 4),
    generated=st.integers(1, 8),
    seed=st.integers(0, 999),
    data=st.data(),
)
@settings(max_examples=30)
def test_frames_are_distinct_generated_frames(
    view: str, batch: int, conditioning: int, generated: int, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, generated), "K")
    video = numbered(batch, conditioning + generated, 4, 6)
    seen = draw_view(view, video, conditioning=conditioning, frames=k, scale=2, rng=generator(seed))
    small = view == "small_frames"
    assert seen.shape == (batch, k, 1, *((2, 3) if small else (4, 6)))
    every = average_pool(video) if small else video
    for b in range(batch):
        drawn = [next(t for t in range(every.shape[1]) if torch.equal(every[b, t], frame)) for frame in seen[b]]
        assert len(set(drawn)) == k
        assert min(drawn) >= conditioning


def test_each_sample_draws_its_own_frames_evenly() -> None:
    video = numbered(3000, 8, 1, 1)
    seen = draw_view("frames", video, conditioning=2, frames=3, scale=2, rng=generator()).flatten(1) - video[
        :, :1
    ].flatten(1)
    times = torch.bincount(seen.flatten().long(), minlength=8)
    assert (times[:2] == 0).all()
    assert ((times[2:] - 1500).abs() < 140).all()  # 5 standard deviations of Binomial(3000, 1/2)
    subsets = {tuple(sorted(row.tolist())) for row in seen}
    assert len(subsets) == 20  # all the ways to choose 3 of 6
    first = torch.bincount(seen[:, 0].long(), minlength=8)[2:]
    assert ((first - 500).abs() < 105).all()  # no frame is first more often


@given(
    batch=st.integers(1, 4),
    frames=st.integers(1, 4),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    scale=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 999),
)
@settings(max_examples=30)
def test_crop_is_one_window_for_all_frames(
    batch: int, frames: int, height: int, width: int, scale: int, seed: int
) -> None:
    video = numbered(batch, frames, height, width)
    seen = draw_view("crop", video, conditioning=1, frames=1, scale=scale, rng=generator(seed))
    h, w = height // scale, width // scale
    assert seen.shape == (batch, frames, 1, h, w)
    for b in range(batch):
        offset = int(seen[b, 0, 0, 0, 0] - video[b, 0, 0, 0, 0])
        top, left = divmod(offset, width)
        assert torch.equal(seen[b], video[b, :, :, top : top + h, left : left + w])


def test_crops_cover_all_offsets_evenly() -> None:
    """6 x 8 pixels cut to 3 x 4: 4 x 5 places, the corners included, and tops do not go with lefts."""
    video = numbered(1, 1, 6, 8).expand(8000, 1, 1, 6, 8)
    corner = draw_view("crop", video, conditioning=0, frames=1, scale=2, rng=generator())[:, 0, 0, 0, 0].long()
    counts = torch.bincount(corner, minlength=48).view(6, 8)
    assert counts[4:].sum() == counts[:, 5:].sum() == 0
    assert ((counts[:4, :5] - 400).abs() < 100).all()  # 5 standard deviations of Binomial(8000, 1/20)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_small_views_are_means_of_squares(scale: int) -> None:
    video = torch.randn(2, 5, 3, 8, 12, dtype=torch.float64, requires_grad=True)
    small = draw_view("small_clip", video, conditioning=2, frames=2, scale=scale, rng=generator())
    assert_same([small], [average_pool(video, scale)], [video])
    frames = draw_view("frames", video, conditioning=2, frames=2, scale=scale, rng=generator(3))
    small_frames = draw_view("small_frames", video, conditioning=2, frames=2, scale=scale, rng=generator(3))
    torch.testing.assert_close(small_frames, average_pool(frames, scale))


def test_clip_is_the_whole_video() -> None:
    video = numbered(2, 5, 4, 4)
    assert torch.equal(draw_view("clip", video, conditioning=2, frames=2, scale=2, rng=generator()), video)


@pytest.mark.parametrize("view", ["frames", "small_frames", "crop"])
def test_draws_repeat_with_the_generators_seed(view: str) -> None:
    video = numbered(8, 9, 8, 8)
    first, same, other = (
        draw_view(view, video, conditioning=1, frames=3, scale=2, rng=generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    rng = generator(1)
    draw_view(view, video, conditioning=1, frames=3, scale=2, rng=rng)
    assert not torch.equal(draw_view(view, video, conditioning=1, frames=3, scale=2, rng=rng), first)  # it moves on


def test_mocogan_with_one_frame_ignores_k(tiny_model: ModelFactory) -> None:
    model = tiny_model(predicted_frames=4)
    for name, k in (("mocogan_k1", 1), ("mocogan_k8", 3)):
        discriminators = Discriminators(DiscriminatorConfig(decomposition=name, frames=3), model)
        (frames,) = discriminators.draw_places("frames", (2, 6, 1, 32, 32), generator())
        assert frames.shape == (2, k)


# --- Heads


@given(batch=st.integers(1, 5), frames=st.integers(1, 5), seed=st.integers(0, 999))
@settings(max_examples=10)
def test_mixed_projection_is_equation_15(batch: int, frames: int, seed: int) -> None:
    torch.manual_seed(seed)
    r_x, r_xy = (torch.randn(batch, frames, dtype=torch.float64, requires_grad=True) for _ in range(2))
    outputs = combine(Scores(r_x, r_xy), "mixed_projection")
    plain = plain_forms.combine(plain_forms.Scores(r_x, r_xy), "mixed_projection")
    assert outputs.shape == (batch, batch, frames)  # D = B x B x T
    expected = torch.stack(
        [
            torch.stack(
                [
                    torch.stack([r_x[b, t] + sum(r_xy[other, u] for u in range(frames)) for t in range(frames)])
                    for other in range(batch)
                ]
            )
            for b in range(batch)
        ]
    )
    assert_same([outputs, plain], [expected] * 2, [r_x, r_xy])


def test_projection_is_one_scalar_per_sample() -> None:
    r_x, r_xy = torch.randn(3, 4), torch.randn(3, 4)
    expected = torch.stack([sum(r_x[b, t] + r_xy[b, t] for t in range(4)) for b in range(3)])
    torch.testing.assert_close(combine(Scores(r_x, r_xy), "projection"), expected)
    torch.testing.assert_close(plain_forms.combine(plain_forms.Scores(r_x, r_xy), "projection"), expected)


def test_scores_split_by_sample() -> None:
    scores = Scores(torch.randn(5, 2), torch.randn(5, 2))
    first, rest = scores.split(2)
    for parts, whole in zip(zip(first, rest, strict=True), scores, strict=True):
        assert torch.equal(torch.cat(parts), whole)
        assert len(parts[0]) == 2


# --- Discriminators


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("pool_time", [False, True])
@pytest.mark.parametrize(
    ("name", "classes"), [("stronger", 0), ("faster", 3), ("dvd_gan_fp", 3), ("mocogan_k1", 0), ("clip", 3)]
)
def test_discriminators_are_appendix_a(
    name: Decomposition, classes: int, pool_time: bool, training: bool, tiny_config: Callable[..., Config]
) -> None:
    """Their plain form, gradients included; in training with exact singular vectors, which power iterations keep."""
    config = tiny_config(
        model={"classes": classes}, discriminator={"decomposition": name, "temporal_pooling": pool_time}
    )
    ours, plain = scramble(Discriminators(config.discriminator, config.model)), PlainDiscriminators(config)
    settle(ours).train(training)
    assert list(plain) == list(ours)
    labels, video = torch.tensor([2, 0, 1]), 2 * torch.rand(3, config.model.frames, 3, 32, 32).double() - 1
    for view, network in ours.items():
        seen = ours.cut(view, video, ours.draw_places(view, video.shape, generator())).requires_grad_()
        assert torch.equal(seen, plain_draw_view(view, video, config, generator()))
        expected = plainly(plain[view], network)(seen, labels)
        assert_same(network(seen, labels), expected, [seen, *network.parameters()], deep=True)


@pytest.mark.parametrize(("temporal", "three_dimensional"), [(False, 0), (True, 2)])
def test_discriminator_has_five_blocks(temporal: bool, three_dimensional: int, monkeypatch: pytest.MonkeyPatch) -> None:
    discriminator = Discriminator(3, 2, 0, temporal=temporal)
    pools = []
    pool = upsample.average_pool
    for module in ("trivd.models.blocks", "trivd.ops.average"):  # without ReLU, and with it
        monkeypatch.setattr(f"{module}.average_pool", lambda x, time: pools.append(x.dim()) or pool(x, time))
    discriminator(torch.zeros(1, 2, 3, 32, 32), torch.zeros(1, dtype=torch.int64))
    assert pools == [5] * three_dimensional + [4] * (4 - three_dimensional)  # of the shortcuts
    assert len(discriminator.blocks) == 5
    for index, block in enumerate(discriminator.blocks):
        size = 3 if index < three_dimensional else 2
        convolutions = [p for p in block.parameters() if p.dim() > 1]
        assert len(convolutions) == 3
        assert {p.dim() - 2 for p in convolutions} == {size}
    widths = [block.conv2.weight.shape[0] for block in discriminator.blocks]
    assert widths == [2, 4, 8, 16, 32]


@pytest.mark.parametrize(("temporal", "reach"), [(False, 0), (True, 4)])
def test_how_far_a_discriminator_sees_in_time(temporal: bool, reach: int) -> None:
    """Frame discriminators judge each frame alone; four 3D convolutions of size 3 reach four frames, both ways."""
    discriminator = scramble(Discriminator(3, 4, 0, temporal=temporal), torch.float32)
    labels = torch.zeros(1, dtype=torch.int64)
    video = torch.rand(1, 12, 3, 16, 16) * 2 - 1
    changed = video.clone()
    changed[:, 5] = -changed[:, 5]
    for before, after in zip(discriminator(video, labels), discriminator(changed, labels), strict=True):
        differs = ((before - after).abs() > 1e-6).squeeze(0).nonzero().flatten().tolist()
        assert differs == list(range(5 - reach, 5 + reach + 1))


@given(frames=st.integers(1, 20), channels=st.sampled_from([1, 3]))
@settings(max_examples=10)
def test_time_is_halved_in_both_3d_blocks(frames: int, channels: int) -> None:
    """T of Eq 15 is that of the features (E.1): 4 of 16; frame discriminators keep every frame."""
    labels, video = torch.zeros(2, dtype=torch.int64), torch.rand(2, frames, channels, 16, 16)
    for temporal, expected in ((True, max(1, max(1, frames // 2) // 2)), (False, frames)):
        discriminator = Discriminator(channels, 2, 0, temporal=temporal, pool_time=True)
        assert [score.shape for score in discriminator(video, labels)] == [(2, expected)] * 2


@pytest.mark.parametrize(
    ("given_frames", "predicted", "changes", "short"),
    [(1, 2, {}, True), (1, 3, {}, False), (1, 2, {"temporal_pooling": False}, False)],
)
def test_clips_too_short_to_be_halved_twice_are_named(
    given_frames: int, predicted: int, changes: dict[str, bool], short: bool, tiny_model: ModelFactory
) -> None:
    model = tiny_model(conditioning_frames=given_frames, predicted_frames=predicted)
    sentence = Discriminators(DiscriminatorConfig(frames=2, **changes), model).short_clips(model)
    assert ("Clips of 3 frames are too short" in sentence) == short == bool(sentence)


def test_samples_are_judged_alone_and_labels_touch_the_joint_score_only() -> None:
    discriminator = scramble(Discriminator(1, 2, 3, temporal=True), torch.float32)
    video = torch.rand(3, 4, 1, 16, 16)
    scores, others = discriminator(video, torch.tensor([0, 1, 2])), discriminator(video, torch.tensor([0, 2, 1]))
    assert torch.equal(scores.video, others.video)
    assert torch.equal(scores.joint[0], others.joint[0])
    assert not torch.isclose(scores.joint[1:], others.joint[1:]).any()
    alone = discriminator(video[1:2], torch.tensor([1]))
    torch.testing.assert_close(alone, Scores(scores.video[1:2], scores.joint[1:2]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", get_args(Decomposition))
def test_every_discriminator_trains(name: str, tiny_model: ModelFactory) -> None:
    """Gradients reach every weight, and the generated pixels."""
    model = tiny_model(predicted_frames=3, classes=2)
    discriminators = Discriminators(DiscriminatorConfig(decomposition=name, frames=3), model)
    video = (torch.rand(2, 5, 3, 32, 32) * 2 - 1).requires_grad_()
    rng = generator()
    places = {v: discriminators.draw_places(v, video.shape, rng) for v in discriminators.views}
    outputs = [
        combine(discriminator(discriminators.cut(v, video, places[v]), torch.tensor([0, 1])), "mixed_projection")
        for v, discriminator in discriminators.items()
    ]
    sum(output.square().mean() for output in outputs).backward()
    for path, parameter in discriminators.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
        assert parameter.grad.any(), path
    assert video.grad[:, 2:].any()


def test_discriminator_in_bfloat16_agrees_with_float32() -> None:
    discriminator = scramble(Discriminator(3, 4, 0, temporal=True), torch.float32)
    video, labels = torch.rand(2, 4, 3, 16, 16), torch.zeros(2, dtype=torch.int64)
    exact = torch.cat(discriminator(video, labels))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = torch.cat(discriminator(video, labels))
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.05
