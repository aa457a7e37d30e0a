"""The features of moving-digits: honest about what they are, exact about their input, and worse for worse videos."""

import hashlib
import importlib.util
import io
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from torch import Tensor

from benchmarks.scripts.digits_clips import gaussian_blur
from trivd.data.datasets.digits import MovingDigits
from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.networks import digits as digits_network
from trivd.evaluation.networks.digits import QUANTITIES, DigitsNetwork, load_digits_network, network_input
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import to_float

ROOT = Path(__file__).parents[3]
WEIGHTS = Path(digits_network.__file__).with_name(digits_network.WEIGHTS)
RESULTS = ROOT / "benchmarks/results/2026-11-22-digits-network.json"
CLIPS = 192  # in a set
FRAMES, GIVEN = 11, 3  # of a clip, as in the `quickstart` preset, and those that a prediction starts from


@pytest.fixture(scope="module")
def network() -> DigitsNetwork:
    return load_digits_network(torch.device("cpu"))


@pytest.fixture(scope="module")
def training() -> ModuleType:
    """benchmarks/scripts/train_digits_network.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(
        "train_digits_network", ROOT / "benchmarks/scripts/train_digits_network.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@cache
def real(first: int, stride: int = 1) -> Tensor:
    """`CLIPS` validation clips from number `first` on."""
    data = MovingDigits("validation", frames=FRAMES, stride=stride, resolution=32, channels=3, digits=2, clips=10_000)
    return torch.from_numpy(np.stack([data.clip(first + number) for number in range(CLIPS)]))


def noise_clips(batch: int = 2, frames: int = 6, size: int = 64, channels: int = 3, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, frames, size, size, channels), dtype=torch.uint8, generator=rng)


# What it is


def test_it_is_named_as_what_it_is(network: DigitsNetwork) -> None:
    feature_network: FeatureNetwork = network
    assert feature_network.distance == "FVD (moving-digits)"
    assert feature_network.inception == "IS (moving-digits)"
    sha256 = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert feature_network.about == f"moving-digits classifier {sha256[:8]}"


def test_the_weights_are_small_and_say_how_they_were_made() -> None:
    assert WEIGHTS.stat().st_size < 3_000_000
    with safe_open(WEIGHTS, "pt") as file:
        metadata = file.metadata()
    record = json.loads(RESULTS.read_text())
    for name in ("date", "command", "training_seconds", "held_out", "settings"):
        assert metadata[name] == record[name] or json.loads(metadata[name]) == record[name]
    assert record["command"].startswith("python benchmarks/train_digits_network.py")


# What it takes


@given(batch=st.integers(1, 3), frames=st.integers(5, 9), size=st.integers(32, 96), channels=st.sampled_from([1, 3]))
@settings(max_examples=10)
def test_features_of_any_clips(batch: int, frames: int, size: int, channels: int) -> None:
    embedding, logits = load_digits_network(torch.device("cpu"))(noise_clips(batch, frames, size, channels))
    assert embedding.shape == (batch, 138)
    assert logits.shape == (batch, 10)
    assert embedding.dtype == logits.dtype == torch.float32
    assert torch.isfinite(embedding).all()


@pytest.mark.parametrize("size", [32, 64, 100, 256])
def test_frames_are_resized_as_pillow_does(size: int) -> None:
    clips = noise_clips(1, 5, size)
    expected = np.stack(
        [np.asarray(Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR)) for frame in clips[0].numpy()]
    )
    pixels = (network_input(clips)[0].permute(1, 2, 3, 0) + 1) * 127.5  # Pillow rounds after each of two passes
    assert np.abs(pixels.numpy() - expected).max() <= 1.01


def test_frames_of_the_right_size_are_not_touched() -> None:
    clips = noise_clips()
    assert torch.equal(network_input(clips).transpose(1, 2), to_float(clips))


def test_grey_is_seen_as_equal_colours(network: DigitsNetwork) -> None:
    grey = noise_clips(channels=1)
    assert torch.equal(network(grey).embedding, network(grey.expand(-1, -1, -1, -1, 3)).embedding)


def test_a_clip_does_not_depend_on_its_batch_nor_on_autocast(network: DigitsNetwork) -> None:
    clips = noise_clips(3)
    together = network(clips).embedding
    assert torch.equal(together, network(clips).embedding)
    alone = torch.cat([network(clip[None]).embedding for clip in clips])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(together, network(clips).embedding)


@pytest.mark.parametrize(
    ("clips", "reason"),
    [
        (noise_clips().float(), "uint8"),
        (noise_clips(frames=4), "at least 5"),
        (noise_clips(size=31), "31 x 31"),
        (noise_clips(1, 5, 257), "257 x 257"),
        (noise_clips(size=64)[:, :, :48], "48 x 64"),
        (noise_clips().repeat(1, 1, 1, 1, 2), "1 or 3"),
    ],
)
def test_what_would_give_a_wrong_number_is_refused(network: DigitsNetwork, clips: Tensor, reason: str) -> None:
    with pytest.raises(TrivdError, match=reason):
        network(clips)


# What it knows


def test_the_blocks_of_the_embedding_weigh_about_alike(network: DigitsNetwork) -> None:
    content, motion, texture = network(real(0)).embedding.split((10, 64, 64), dim=1)
    for block in (content, motion, texture):
        assert 0.6 < block.var(dim=0).sum() < 1.6


def test_it_reads_digits_and_motion(network: DigitsNetwork, training: ModuleType) -> None:
    figures = training.held_out_figures(network, clips=96, frames=16, resolution=64, digits=1)
    assert figures["nearest_digit_accuracy"] > 0.9
    assert figures["direction_of_digits_within_22.5_degrees"] > 0.8
    assert figures["direction_of_background_within_22.5_degrees"] > 0.9


# What its distance measures: real clips 0 to CLIPS are compared with others, which are changed


Distance = Callable[[Tensor], float]


@pytest.fixture(scope="module")
def distance(network: DigitsNetwork) -> Distance:
    """Fréchet distance of videos to real clips."""

    def embeddings(videos: Tensor) -> Tensor:
        return torch.cat([network(batch).embedding for batch in videos.split(32)])

    reference = embeddings(real(0))
    return lambda videos: frechet_distance(reference, embeddings(videos))


@pytest.fixture(scope="module")
def floor(distance: Distance) -> float:
    """Distance of other real clips: what finite sets leave."""
    return distance(real(CLIPS))


def predicted(change: Callable[[Tensor], Tensor]) -> Tensor:
    """Real clips with `change` applied to the frames (N, 8, H, W, C) that a model would predict."""
    clips = real(CLIPS)
    return torch.cat([clips[:, :GIVEN], change(clips[:, GIVEN:])], dim=1)


def blurred(video: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of whole clips in the frequency domain, periodic at the borders."""
    frequency = torch.fft.fftfreq(video.shape[2])
    transfer = torch.exp(-2 * (torch.pi * sigma * frequency).square())
    spectrum = torch.fft.fft2(video.float(), dim=(2, 3)) * (transfer[:, None] * transfer)[..., None]
    return torch.fft.ifft2(spectrum, dim=(2, 3)).real.round().clamp(0, 255).to(torch.uint8)


def noisy(video: Tensor, deviation: float) -> Tensor:
    noise = deviation * torch.randn(video.shape, generator=torch.Generator().manual_seed(1))
    return (video + noise).round().clamp(0, 255).to(torch.uint8)


def test_blur_and_noise_count_the_more_the_stronger_they_are(distance: Distance, floor: float) -> None:
    by_blur = [distance(predicted(lambda video, s=sigma: blurred(video, s))) for sigma in (0.5, 1.0, 2.0)]
    assert floor < by_blur[0] < by_blur[1] < by_blur[2]
    assert by_blur[2] > 5 * floor
    by_noise = [distance(predicted(lambda video, s=sigma: noisy(video, s))) for sigma in (10.0, 30.0)]
    assert floor < by_noise[0] < by_noise[1]
    assert by_noise[1] > 5 * floor


def test_copying_the_last_given_frame_is_far_from_real(distance: Distance, floor: float) -> None:
    frozen = real(CLIPS).clone()
    frozen[:, 8:] = frozen[:, 7:8]  # only the last frames
    copy = real(CLIPS).clone()
    copy[:, GIVEN:] = copy[:, GIVEN - 1 : GIVEN]
    assert floor < distance(frozen) < distance(copy)
    assert distance(copy) > 5 * floor


def test_shuffled_frames_are_far_from_real(distance: Distance, floor: float) -> None:
    order = torch.randperm(FRAMES - GIVEN, generator=torch.Generator().manual_seed(2))
    assert distance(predicted(lambda video: video[:, order])) > 5 * floor


def test_another_content_counts(distance: Distance, floor: float) -> None:
    assert distance(real(CLIPS, stride=2)) > 5 * floor
    data = MovingDigits("validation", frames=FRAMES, stride=1, resolution=32, channels=3, digits=2, clips=10_000)
    low = [number for number in range(CLIPS, 4 * CLIPS) if data.label(number) < 3][:CLIPS]
    few_classes = torch.from_numpy(np.stack([data.clip(number) for number in low]))
    assert distance(few_classes) > 1.3 * floor


# How it was trained


def test_truth_agrees_with_the_flow(training: ModuleType) -> None:
    """One digit over a background: both velocities can be read off the data set's optical flow."""
    data = MovingDigits("train", frames=5, stride=2, resolution=64, channels=3, digits=1, clips=20)
    for index in range(20):
        truth = training.truth_of(data, index)
        flow = data.flow(index).flow  # (T-1, 2, H, W)
        pan = np.stack([truth.quantities[0, QUANTITIES.index(name)] for name in ("pan_x", "pan_y")])
        on_digit = np.abs(flow - pan[:, None, None]).max(axis=1) > 1e-3  # (T-1, H, W)
        moves = [frame[:, mask].mean(axis=1) for frame, mask in zip(flow, on_digit, strict=True)]
        assert truth.quantities[0, :2].numpy() == pytest.approx(-np.mean(moves, axis=0), abs=1e-3)
        assert truth.nearest.item() == data.label(index)
        time, row, column = (int(place) for place in (truth.cells[0] != training.EMPTY).nonzero()[0])
        assert truth.cells[0, time, row, column] == data.label(index)
        rows, columns = on_digit[0].nonzero()  # where the digit is in frame 1; the cells' first frame is 0
        step = truth.cells_velocity[0, :, 0, row, column].numpy()
        centre = np.array([columns.mean(), rows.mean()]) - step
        assert np.abs(centre - 16 * np.array([column + 0.5, row + 0.5])).max() < 8 + 4  # ink is not symmetric


def test_folding_batch_norm_changes_nothing(training: ModuleType) -> None:
    trained = training.NormalisedClassifier()
    for norm in trained.norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias)
    clips = network_input(noise_clips(4))
    for _ in range(5):
        trained(clips)  # moves the statistics
    folded = trained.folded()
    for name, reading in trained(clips)._asdict().items():
        torch.testing.assert_close(getattr(folded(clips), name), reading, rtol=1e-3, atol=1e-4)


def test_training_can_be_repeated_and_writes_what_can_be_loaded(training: ModuleType) -> None:
    options = training.Settings(steps=3, batch_size=2, log_every=3)
    first, second = (training.train(options, Console(file=io.StringIO())) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = training.train(training.Settings(steps=3, batch_size=2, seed=1), Console(file=io.StringIO()))
    assert not torch.equal(first.nearest.weight, other.nearest.weight)


def test_blur_of_the_training_is_gaussian() -> None:
    """Away from the border it is the product of frequencies that the test's own blur is."""
    image = F.pad(torch.rand(1, 40, 40), (12,) * 4)
    expected = torch.fft.ifft2(
        torch.fft.fft2(image)
        * torch.exp(-2 * (torch.pi * 1.5 * torch.fft.fftfreq(64)).square())[:, None]
        * torch.exp(-2 * (torch.pi * 1.5 * torch.fft.fftfreq(64)).square())
    ).real
    torch.testing.assert_close(gaussian_blur(image, 1.5), expected, rtol=0, atol=1e-4)
