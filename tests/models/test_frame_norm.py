"""Batch normalisation of each time step, against torch's own."""

import pytest
import torch
from agreement import assert_same, plainly, scramble, use_batch_statistics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from reference import blocks as plain_blocks
from trivd.models.frame_norm import FrameNormReLU, affine_maps
from trivd.models.layers import SNLinear


def call(norm: FrameNormReLU, x: Tensor, condition: Tensor) -> Tensor:
    return norm(x, affine_maps(norm, condition)[norm])


def run_norm(norm: FrameNormReLU, x: Tensor, condition: Tensor) -> Tensor:
    norm.train()
    for layer in norm.children():
        layer.eval()  # the spectral norms keep their estimates
    return call(norm, x, condition)


@pytest.mark.parametrize("conditional", [False, True])
@given(
    frames=st.integers(1, 3),
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    size=st.integers(2, 5),
    seed=st.integers(0, 999),
)
@settings(max_examples=8)
def test_frame_norm_is_batch_norm_of_each_step(
    conditional: bool, frames: int, batch: int, channels: int, size: int, seed: int
) -> None:
    torch.manual_seed(seed)
    norm = scramble(FrameNormReLU(frames, channels, 5 if conditional else None))
    plain = plain_blocks.FrameNorm(frames, channels, 5 if conditional else None)
    expected = plainly(plain, norm)
    use_batch_statistics(plain)
    x = torch.randn(frames, batch, channels, size, size + 1, dtype=torch.float64) * 3 + 2
    x.requires_grad_()
    condition = torch.randn(batch, 5, dtype=torch.float64, requires_grad=True)
    sources = [x, *norm.parameters(), *([condition] if conditional else [])]
    assert_same([run_norm(norm, x, condition)], [F.relu(expected(x, condition))], sources)


@pytest.mark.parametrize("conditional", [False, True])
def test_frames_do_not_share_statistics(conditional: bool) -> None:
    norm = scramble(FrameNormReLU(3, 4, 5 if conditional else None))
    x, condition = torch.randn(3, 2, 4, 5, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    changed = x.clone()
    changed[1] = 10 * torch.randn_like(x[1])
    before, after = run_norm(norm, x, condition), run_norm(norm, changed, condition)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])


def test_unconditional_norm_starts_as_plain_normalisation() -> None:
    norm = FrameNormReLU(2, 4, None)
    x = 5 * torch.randn(2, 8, 4, 6, 6) + 3
    mean, variance = x.mean((1, 3, 4), keepdim=True), x.var((1, 3, 4), correction=0, keepdim=True)
    expected = F.relu((x - mean) / (variance + 1e-5).sqrt())
    torch.testing.assert_close(call(norm, x, torch.zeros(8, 1)), expected)


def test_conditional_scale_is_one_plus_its_affine_map() -> None:
    norm = FrameNormReLU(1, 4, 5).eval()
    scale, offset = affine_maps(norm, torch.zeros(3, 5))[norm]
    assert torch.equal(scale, torch.ones(3, 4))
    assert torch.equal(offset, torch.zeros(3, 4))


def test_every_norm_of_a_module_gets_its_own_affine_map() -> None:
    norms = nn.ModuleList([FrameNormReLU(1, 4, 5), FrameNormReLU(1, 3, None), FrameNormReLU(1, 2, 5)])
    scramble(norms)
    condition = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    maps = affine_maps(norms, condition)
    assert list(maps) == list(norms)
    actual = [part for norm in norms for part in maps[norm]]
    expected = []
    for norm in norms:
        if isinstance(norm.scale, SNLinear):
            expected += [
                one + condition @ layer.normalized_weight().T + layer.bias
                for one, layer in ((1, norm.scale), (0, norm.offset))
            ]
        else:
            expected += [norm.scale, norm.offset]
    assert_same(actual, expected, [condition, *norms.parameters()])


@pytest.mark.parametrize("training", [False, True])
def test_standing_statistics_are_averages_over_batches(training: bool) -> None:
    norm, plain = FrameNormReLU(2, 3, None).double().train(training), plain_blocks.FrameNorm(2, 3, None).double()
    batches = [torch.randn(2, 4, 3, 5, 5, dtype=torch.float64) * (i + 1) + i for i in range(5)]
    condition = torch.zeros(4, 1, dtype=torch.float64)
    norm.collect(True)
    for batch in batches[:2]:
        call(norm, batch, condition)
    norm.collect(True)  # starts afresh
    for batch in batches[2:]:
        collected = call(norm, batch, condition)
        expected = F.relu(plain(batch, condition))  # the batch's own statistics are used meanwhile
        torch.testing.assert_close(collected, expected)
    norm.collect(False)
    norm.eval()
    mean = torch.stack([batch.mean((1, 3, 4)) for batch in batches[2:]]).mean(0)
    variance = torch.stack([batch.var((1, 3, 4), correction=0) for batch in batches[2:]]).mean(0)
    torch.testing.assert_close((norm.standing_mean, norm.standing_variance), (mean, variance))
    x = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64)
    expected = (x - mean[:, None, :, None, None]) / (variance[:, None, :, None, None] + 1e-5).sqrt()
    torch.testing.assert_close(call(norm, x, condition[:1]), F.relu(expected))
    torch.testing.assert_close(norm.standing_mean, mean)  # use does not move them


def test_evaluation_is_nan_before_statistics_were_collected() -> None:
    norm = FrameNormReLU(2, 3, None)
    x, condition = torch.randn(2, 4, 3, 5, 5), torch.zeros(4, 1)
    assert not call(norm, x, condition).isnan().any()  # training does not need them, nor makes them
    assert call(norm.eval(), x, condition).isnan().all()


def test_statistics_of_bfloat16_features_are_float32() -> None:
    norm = FrameNormReLU(2, 3, None)
    x = (torch.randn(2, 16, 3, 16, 16) + 40).bfloat16()  # squares would lose everything
    condition = torch.zeros(16, 1)
    out = call(norm, x, condition)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, call(norm, x.float(), condition).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("conditional", [False, True])
def test_gradients_of_bfloat16_features_follow_float32(conditional: bool) -> None:
    norm = FrameNormReLU(2, 3, 4 if conditional else None)
    condition, exact = torch.randn(8, 4), torch.randn(2, 8, 3, 8, 8, requires_grad=True)
    rounded = exact.detach().bfloat16().requires_grad_()
    given_features = rounded.detach().clone()
    direction = torch.randn(exact.shape)
    gradients = [
        torch.autograd.grad((run_norm(norm, x, condition).float() * direction).sum(), [x, *norm.parameters()])
        for x in (exact, rounded)
    ]
    assert torch.equal(rounded, given_features)
    for wanted, gradient in zip(*gradients, strict=True):
        assert (gradient - wanted).norm() < 0.02 * wanted.norm() + 1e-6
