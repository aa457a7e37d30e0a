"""Crops on a GPU against Python's slices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from triton_checks import DEVICES

from trivd.ops import crop


@pytest.mark.parametrize("device", DEVICES)
@given(
    sizes=st.tuples(*(st.integers(1, n) for n in (4, 3, 3, 9, 11))),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    data=st.data(),
)
@settings(max_examples=20)
def test_windows_are_slices(
    device: torch.device, sizes: tuple[int, ...], dtype: torch.dtype, data: st.DataObject
) -> None:
    batch, *_, height, width = sizes
    h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    tops = data.draw(st.lists(st.integers(0, height - h), min_size=batch, max_size=batch))
    lefts = data.draw(st.lists(st.integers(0, width - w), min_size=batch, max_size=batch))
    video = torch.randn(sizes).to(device, dtype).requires_grad_()
    places = [torch.tensor(values, device=device) for values in (tops, lefts)]
    starts = enumerate(zip(tops, lefts, strict=True))
    expected = torch.stack([video[b, ..., t : t + h, x : x + w] for b, (t, x) in starts])
    gradient = torch.randn_like(expected)
    (for_video,) = torch.autograd.grad(expected, video, gradient)

    def check(window: Tensor, back: Tensor) -> None:
        assert torch.equal(window, expected)
        assert torch.equal(back, for_video)

    kernels, backward = crop._crop.compiled, crop._crop_backward.compiled
    assert kernels is not None
    assert backward is not None
    check(kernels(video.detach(), *places, h, w), backward(gradient, *places, height, width))
    ours = crop.crop(video, *places, h, w)  # the device's own
    check(ours, torch.autograd.grad(ours, video, gradient)[0])


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    video, places = torch.zeros(2, 3, 1, 5, 6), torch.zeros(2, dtype=torch.int64)
    for arguments in ((video[0], places, places), (video, places[:1], places), (video, places, places[:1])):
        with pytest.raises(ValueError, match="shapes"):
            crop.crop(*arguments, 2, 3)
