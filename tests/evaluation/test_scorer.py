"""Columns of clips: whatever the batches, the same as clip by clip with plain code."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from stand_ins import Means
from torch import Tensor

from trivd.data.clips import Clip
from trivd.evaluation.collecting import Columns, collect
from trivd.evaluation.metrics.frame_scores import psnr, ssim
from trivd.evaluation.metrics.sharpness import motion_magnitude, sharpness
from trivd.evaluation.scorer import ModelForecaster, Scorer, best_of_counts, clip_latents
from trivd.models.generator import Generator
from trivd.runtime.pixels import to_float

CLIPS, SAMPLES, SEED = 5, 3, 11
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


class Noise:
    """Random clips with three classes."""

    split = "validation"
    classes = ("a", "b", "c")
    fps = None
    summary = ("noise",)

    def __init__(self) -> None:
        self.videos = np.random.default_rng(2).integers(256, size=(CLIPS, 5, 32, 32, 3), dtype=np.uint8)
        self.labels = [0, 2, 1, 2, 0]
        self.evaluation_clips = CLIPS

    def __len__(self) -> int:
        return CLIPS

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return self.evaluation_clip(index)

    def evaluation_clip(self, index: int) -> Clip:
        return Clip(self.videos[index], self.labels[index])


@pytest.fixture(scope="module")
def generator(make_generator: Callable[..., Generator]) -> Generator:
    return make_generator(classes=3)


def forecaster(generator: Generator, truncation: float | None = None) -> ModelForecaster:
    return ModelForecaster(generator, torch.float32, SEED, truncation)


def scorer(count_conditioning: bool = True) -> Scorer:
    return Scorer(Noise(), 2, Means(), count_conditioning, torch.device("cpu"))


def several(generator: Generator, size: int, truncation: float | None = None, run: int = 0) -> Columns:
    model = forecaster(generator, truncation)
    return collect(
        lambda numbers: scorer().several(model, run, SAMPLES, best_of_counts(SAMPLES), numbers), range(CLIPS), size
    )


def futures_of(generator: Generator, clip: int, samples: int, run: int = 0) -> list[Tensor]:
    """Futures (1, T, 3, H, W), each drawn on its own."""
    video, label = Noise().evaluation_clip(clip)
    z = clip_latents(clip, samples, 4, SEED + run, None)
    with torch.no_grad():
        return [generator(to_float(video)[None, :2], z[i : i + 1], torch.tensor([label])).video for i in range(samples)]


@pytest.mark.parametrize(("size", "run"), [(1, 0), (2, 1), (5, 0)])
def test_several_futures_are_scored_as_by_a_plain_loop(generator: Generator, size: int, run: int) -> None:
    columns = several(generator, size, run=run)
    for clip in range(CLIPS):
        truth = to_float(Noise().videos[clip])[None, 2:]
        futures = futures_of(generator, clip, SAMPLES, run)
        for name, score in (("psnr", psnr), ("ssim", ssim)):
            each = [score(future, truth)[0] for future in futures]
            best = max(each, key=lambda per_frame: per_frame.mean().item())
            torch.testing.assert_close(columns[f"{name}/single"][clip], sum(each) / SAMPLES, **CLOSE)
            torch.testing.assert_close(columns[f"{name}/best 3"][clip], best, **CLOSE)
            torch.testing.assert_close(columns[f"{name}/mean"][clip], score(sum(futures) / SAMPLES, truth)[0], **CLOSE)
        pairs = [(futures[i] - futures[j])[0] for i in range(SAMPLES) for j in range(i)]
        distance = torch.stack(pairs).mul(127.5).square().mean(dim=(0, 2, 3, 4)).sqrt()
        torch.testing.assert_close(columns["diversity"][clip].float(), distance, **CLOSE)


def test_one_future_is_the_first_of_several(generator: Generator) -> None:
    columns = collect(lambda numbers: scorer().single(forecaster(generator), 0, numbers), range(CLIPS), 2)
    for clip in range(CLIPS):
        past, truth = to_float(Noise().videos[clip])[None, :2], to_float(Noise().videos[clip])[None, 2:]
        (future,) = futures_of(generator, clip, 1)
        for name, score in (("psnr", psnr(future, truth)), ("ssim", ssim(future, truth))):
            torch.testing.assert_close(columns[f"model/{name}"][clip], score[0], **CLOSE)
        torch.testing.assert_close(columns["model/sharpness"][clip], sharpness(future)[0], **CLOSE)
        torch.testing.assert_close(columns["model/motion"][clip], motion_magnitude(future, past[:, -1])[0], **CLOSE)
        frames = torch.cat([past, future], dim=1)[0].add(1).mul(127.5).round()
        torch.testing.assert_close(columns["model/embedding"][clip], frames.mean(dim=(1, 2, 3)), **CLOSE)
        torch.testing.assert_close(columns["model/logits"][clip], frames.mean(dim=(0, 2, 3)), **CLOSE)


@pytest.mark.parametrize("count_conditioning", [True, False])
def test_the_reference_is_the_truth_and_a_copy(count_conditioning: bool) -> None:
    columns = collect(scorer(count_conditioning).reference, range(CLIPS), 2)
    videos = Noise().videos.astype(np.float64)
    copied = np.concatenate([videos[:, :2], videos[:, [1, 1, 1]]], axis=1)
    first = 0 if count_conditioning else 2
    for who, pixels in (("truth", videos), ("copy", copied)):
        expected = torch.from_numpy(pixels[:, first:].mean(axis=(2, 3, 4))).float()
        torch.testing.assert_close(columns[f"{who}/embedding"], expected)
        assert columns[f"{who}/sharpness"].shape == (CLIPS, 3)
    assert (columns["copy/motion"] == 0).all()
    changes = np.abs(np.diff(videos[:, 1:] @ [0.299, 0.587, 0.114], axis=1)).mean(axis=(2, 3))
    torch.testing.assert_close(columns["truth/motion"], torch.from_numpy(changes).float(), rtol=1e-4, atol=1e-3)
    error = np.square(copied[:, 2:] - videos[:, 2:]).mean(axis=(2, 3, 4))
    torch.testing.assert_close(columns["copy/psnr"], torch.from_numpy(10 * np.log10(255**2 / error)).float())


def test_columns_do_not_depend_on_the_batch_size(generator: Generator) -> None:
    wanted = several(generator, 5)
    for size in (1, 2, 3):
        for name, column in several(generator, size).items():
            torch.testing.assert_close(column, wanted[name], rtol=1e-4, atol=1e-4, msg=name)


def test_truncation_reaches_the_latents(generator: Generator) -> None:
    constant = several(generator, 5, truncation=0.0)
    torch.testing.assert_close(constant["ssim/single"], constant["ssim/best 3"])  # all samples are the same
    assert constant["diversity"].max() < 1e-3
    free = several(generator, 5)
    assert (free["ssim/best 3"].mean(dim=1) > free["ssim/single"].mean(dim=1)).all()
    assert free["diversity"].min() > 0.1


def test_batches_are_announced() -> None:
    done: list[int] = []

    def part(numbers: Sequence[int]) -> Columns:
        return {"number": torch.tensor(numbers)}

    assert collect(part, [3, 1, 4, 1, 5], 2, done.append)["number"].tolist() == [3, 1, 4, 1, 5]
    assert done == [2, 2, 1]


@pytest.mark.parametrize(
    ("samples", "counts"),
    [(1, ()), (2, (2,)), (10, (10,)), (11, (10, 11)), (100, (10, 100)), (150, (10, 100, 150))],
)
def test_best_of_counts_are_those_of_figure_5(samples: int, counts: tuple[int, ...]) -> None:
    assert best_of_counts(samples) == counts


def test_latents_belong_to_a_clip() -> None:
    drawn = [clip_latents(clip, 3, 4, seed, None) for clip in range(3) for seed in range(3)]
    assert len({z.numpy().tobytes() for z in drawn}) == 9
    assert torch.equal(clip_latents(1, 3, 4, 2, None), clip_latents(1, 3, 4, 2, None))
    assert clip_latents(0, 50, 4, 0, 0.5).abs().max() <= 0.5
