"""Peers compute the same as ours, so that times compare; DGMR is read without executing its package."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.dgmr import dgmr_conv_gru, dgmr_generator, find_dgmr
from benchmarks.scripts.i3d import peers_way
from benchmarks.suites.warp import unfold_warp
from trivd.ops.warp import warp
from trivd.runtime.errors import TrivdError

CONV_GRU = """
import torch

class ConvGRU(torch.nn.Module):
    def __init__(self, input_channels, output_channels, kernel_size=3):
        super().__init__()
        self.conv = torch.nn.Conv2d(input_channels, output_channels, kernel_size, padding=1)

    def forward(self, x, hidden_state=None):
        outputs = []
        for step in x:
            hidden_state = self.conv(torch.cat([step, hidden_state], dim=1))
            outputs.append(hidden_state)
        return torch.stack(outputs)
"""


@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    size=st.sampled_from([1, 3, 5]),
)
def test_unfolded_warp_is_ours(batch: int, channels: int, height: int, width: int, size: int) -> None:
    h = torch.randn(batch, channels, height, width, dtype=torch.float64)
    weights = torch.randn(batch, size**2, height, width, dtype=torch.float64)
    torch.testing.assert_close(unfold_warp(h, weights), warp(h, weights), rtol=1e-9, atol=1e-9)


def write_package(folder: Path) -> None:
    """A stand-in for dgmr whose package must not be executed."""
    layers = folder / "dgmr" / "layers"
    layers.mkdir(parents=True)
    (folder / "dgmr" / "__init__.py").write_text("raise ImportError('tensorflow is missing')\n")
    (layers / "__init__.py").write_text("raise ImportError('einops is missing')\n")
    (layers / "ConvGRU.py").write_text(CONV_GRU)
    (folder / "dgmr" / "common.py").write_text("import a_package_that_nobody_has\n")


@pytest.fixture
def _no_dgmr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.dgmr.find_dgmr", lambda: None)


@pytest.mark.usefixtures("_no_dgmr")
def test_without_dgmr_there_is_no_peer() -> None:
    assert dgmr_conv_gru(4) is None
    with pytest.raises(TrivdError, match=r"pip install --no-deps dgmr==1\.4\.4"):
        dgmr_generator(256, 11, 64)


def test_dgmrs_conv_gru_is_found_without_its_dependencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "dgmr", raising=False)
    assert find_dgmr() == tmp_path / "dgmr"
    unit = dgmr_conv_gru(4)
    assert unit is not None
    assert unit(torch.randn(3, 2, 4, 5, 5), torch.randn(2, 4, 5, 5)).shape == (3, 2, 4, 5, 5)
    with pytest.raises(TrivdError, match="a_package_that_nobody_has"):
        dgmr_generator(256, 11, 64)
    monkeypatch.delitem(sys.modules, "dgmr", raising=False)


def test_the_i3d_of_cd_fvd_gets_clips_as_that_package_feeds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = torch.randint(256, (2, 4, 10, 12, 3), dtype=torch.uint8)
    monkeypatch.setattr("benchmarks.scripts.i3d.find_spec", lambda name: None)
    assert peers_way(video) is None
    monkeypatch.undo()
    folder = tmp_path / "cdfvd" / "third_party" / "i3d"
    folder.mkdir(parents=True)
    (folder / "pytorch_i3d.py").write_text(
        "import torch\nclass InceptionI3d(torch.nn.Module):\n"
        "    def __init__(self, classes, in_channels):\n        super().__init__()\n"
        "    def forward(self, x):\n        return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    way = peers_way(video)
    assert way is not None
    frames = video.flatten(0, 1).movedim(-1, 1).double()
    resized = torch.nn.functional.interpolate(frames, size=(224, 224), mode="bilinear", align_corners=False)
    expected = (resized / 127.5 - 1).unflatten(0, (2, 4)).movedim(2, 1)  # (B, C, T, H, W)
    torch.testing.assert_close(way().double(), expected, rtol=0, atol=1e-5)
