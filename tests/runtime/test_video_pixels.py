"""The conversion between the two forms of a video is exact."""

import numpy as np
import pytest
import torch

from trivd.runtime.pixels import to_float, to_uint8


def test_every_value_survives_the_round_trip() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 2, 16, 8, 1).repeat(3, axis=-1)  # (B, T, H, W, C)
    video = to_float(values)
    assert video.shape == (1, 2, 3, 16, 8)
    assert (video.min(), video.max()) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_uint8(video), values)
    torch.testing.assert_close(to_float(torch.from_numpy(values)), video)


def test_values_are_rounded_and_clipped() -> None:
    video = torch.tensor([-1.2, -1.0, 0.9999, 1.0, 3.0]).reshape(1, 1, 5)
    np.testing.assert_array_equal(to_uint8(video)[0, :, 0], [0, 0, 255, 255, 255])


def test_channels_move_last() -> None:
    video = torch.full((3, 4, 6), -1.0)
    video[2] = 1.0
    assert to_uint8(video).shape == (4, 6, 3)
    np.testing.assert_array_equal(to_uint8(video)[0, 0], [0, 0, 255])


def test_only_pixels_are_converted() -> None:
    with pytest.raises(TypeError, match="uint8"):
        to_float(torch.zeros(4, 4, 3))
