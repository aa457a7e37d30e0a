"""Scores over batches of clips: whatever the batches, the same as clip by clip with plain code."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from trivd.data.loader import Batch
from trivd.evaluation.frames import FrameCurves, psnr, ssim
from trivd.evaluation.scores import Comparison, clip_latents, compare_with_copy
from trivd.models.generator import Generator
from trivd.video import to_float

CLIPS, SAMPLES, SEED = 5, 3, 11


def videos() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(2)
    return torch.randint(256, (CLIPS, 5, 32, 32, 3), generator=rng, dtype=torch.uint8), torch.tensor([0, 2, 1, 2, 0])


def batches(size: int) -> Iterator[Batch]:
    video, labels = videos()
    for first in range(0, CLIPS, size):
        yield Batch(video[first : first + size], labels[first : first + size])


@pytest.fixture(scope="module")
def generator(make_generator: Callable[..., Generator]) -> Generator:
    return make_generator(classes=3)


def compare(generator: Generator, size: int, truncation: float | None = None, **options: object) -> Comparison:
    return compare_with_copy(generator, batches(size), SAMPLES, truncation, SEED, torch.float32, **options)  # type: ignore[arg-type]


def curves(comparison: Comparison) -> dict[str, Tensor]:
    return {
        f"{who} {score} {name}": getattr(getattr(scores, score), name)
        for who, scores in (("model", comparison.model), ("copy", comparison.copy))
        for score in ("psnr", "ssim")
        for name in FrameCurves.__dataclass_fields__
    }


@pytest.mark.parametrize("size", [1, 2, 5])
def test_scores_are_those_of_a_plain_loop(generator: Generator, size: int) -> None:
    done: list[int] = []
    comparison = compare(generator, size, advance=done.append)
    assert sum(done) == CLIPS
    video, labels = videos()
    for clip in range(CLIPS):
        whole = to_float(video[clip : clip + 1])
        given, truth = whole[:, :2], whole[:, 2:]
        z = clip_latents(clip, SAMPLES, 4, SEED, None)
        with torch.no_grad():
            futures = [generator(given, z[i : i + 1], labels[clip : clip + 1]).video for i in range(SAMPLES)]
        for score, result in ((psnr, comparison.model.psnr), (ssim, comparison.model.ssim)):
            each = [score(future, truth)[0] for future in futures]
            best = max(each, key=lambda per_frame: per_frame.mean().item())
            close = {"rtol": 1e-3, "atol": 1e-4}
            torch.testing.assert_close(result.single[clip], sum(each) / SAMPLES, **close)
            torch.testing.assert_close(result.best[clip], best, **close)
            torch.testing.assert_close(result.mean_prediction[clip], score(sum(futures) / SAMPLES, truth)[0], **close)


def test_copying_repeats_the_last_given_frame(generator: Generator) -> None:
    comparison = compare(generator, 2)
    whole = to_float(videos()[0])
    copied = torch.stack([whole[:, 1]] * 3, dim=1)
    for score, result in ((psnr, comparison.copy.psnr), (ssim, comparison.copy.ssim)):
        expected = score(copied, whole[:, 2:])
        assert expected.shape == (CLIPS, 3)  # predicted frames alone count
        for name in FrameCurves.__dataclass_fields__:
            torch.testing.assert_close(getattr(result, name), expected)


def test_scores_do_not_depend_on_the_batch_size(generator: Generator) -> None:
    wanted = curves(compare(generator, 5))
    for size in (1, 2, 3):
        for name, scores in curves(compare(generator, size)).items():
            torch.testing.assert_close(scores, wanted[name], rtol=1e-4, atol=1e-4, msg=name)


def test_truncation_reaches_the_latents(generator: Generator) -> None:
    constant = compare(generator, 5, truncation=0.0).model.ssim
    torch.testing.assert_close(constant.single, constant.best)  # all samples are the same
    free = compare(generator, 5).model.ssim
    assert (free.best.mean(dim=1) > free.single.mean(dim=1)).all()


def test_latents_belong_to_a_clip() -> None:
    drawn = [clip_latents(clip, 3, 4, seed, None) for clip in range(3) for seed in range(3)]
    assert len({z.numpy().tobytes() for z in drawn}) == 9
    assert torch.equal(clip_latents(1, 3, 4, 2, None), clip_latents(1, 3, 4, 2, None))
    assert clip_latents(0, 50, 4, 0, 0.5).abs().max() <= 0.5
