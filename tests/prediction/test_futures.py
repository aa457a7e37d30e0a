"""The files of a prediction, read back: what was given, what was drawn, and the truth where the clip has it."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from rated_videos import numbers, write_at

from trivd.config import Config, MotionLevels, to_dict
from trivd.data.formats.decode import probe, read_frames
from trivd.models.generator import Generator
from trivd.pictures.draw import flow_to_color, sample_grid
from trivd.prediction.futures import write_futures
from trivd.prediction.predictor import Predictor
from trivd.prediction.sampling import Sampling
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import Pixels

MakeConfig = Callable[..., Config]
MakeGenerator = Callable[..., Generator]


def numbered(count: int = 12, size: int = 32) -> Pixels:
    """Frames whose brightness is ten times their number, over a slope."""
    slope = np.linspace(0, 100, size).astype(np.uint8)
    return (
        (10 * np.arange(count, dtype=np.uint8)[:, None, None, None] + slope[:, None, None]).repeat(size, 2).repeat(3, 3)
    )


def make(
    tiny_config: MakeConfig, make_generator: MakeGenerator, stride: int = 1, fps: float | None = None, **model: Any
) -> Predictor:
    config = to_dict(tiny_config(data={"stride": stride, "fps": fps}, model=model))
    predictor = Predictor(make_generator(**model), {"data": "", "step": 0, "config": config})
    predictor.dtype = torch.float32
    return predictor


@pytest.fixture
def predictor(tiny_config: MakeConfig, make_generator: MakeGenerator) -> Predictor:
    return make(tiny_config, make_generator)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    np.save(tmp_path / "clip.npy", numbered())
    return tmp_path / "clip.npy"


def write(predictor: Predictor, clip: Path, out: Path, frames: int | None = None, **options: Any) -> list[str]:
    return list(write_futures(predictor, clip, out, Sampling(2, frames=frames), **options))


@pytest.mark.parametrize(
    ("start", "given", "truth"),
    [(None, [10, 11], []), (0, [0, 1], [2, 3, 4]), (7, [7, 8], [9, 10, 11]), (9, [9, 10], [11]), (10, [10, 11], [])],
)
def test_the_given_frames_and_the_truth(
    predictor: Predictor, clip: Path, start: int | None, given: list[int], truth: list[int]
) -> None:
    past, future = predictor.read(clip, start, 3)
    assert np.array_equal(past, numbered()[given])
    assert np.array_equal(future, numbered()[truth])


def test_the_stride_of_the_training_is_kept(tiny_config: MakeConfig, make_generator: MakeGenerator, clip: Path) -> None:
    predictor = make(tiny_config, make_generator, stride=3)
    past, future = predictor.read(clip, None, 3)
    assert np.array_equal(past, numbered()[[8, 11]])
    assert len(future) == 0
    past, future = predictor.read(clip, 1, 3)
    assert np.array_equal(past, numbered()[[1, 4]])
    assert np.array_equal(future, numbered()[[7, 10]])


def test_the_rate_of_the_training_is_kept(
    tiny_config: MakeConfig, make_generator: MakeGenerator, tmp_path: Path
) -> None:
    clip = write_at(tmp_path / "clip.mp4", 24, Fraction(50))
    predictor = make(tiny_config, make_generator, fps=25.0, stride=2)
    past, future = predictor.read(clip, 4, 3)
    assert numbers(np.concatenate([past, future])) == [8, 12, 16, 20]
    with pytest.raises(TrivdError, match="0 to 9"):
        predictor.read(clip, 10, 3)
    assert f"{clip}: 50 frames a second, read at 25 as in training." in write(predictor, clip, tmp_path / "out")
    np.save(tmp_path / "clip.npy", numbered())
    said = write(predictor, tmp_path / "clip.npy", tmp_path / "other")
    assert any(
        line.endswith("clip.npy has no times; its frames are taken as if there were 25 a second, as in training.")
        for line in said
    )


@pytest.mark.parametrize("start", [-1, 11, 100])
def test_a_start_without_enough_frames_is_refused(predictor: Predictor, clip: Path, start: int) -> None:
    with pytest.raises(TrivdError, match=rf"--start {start} leaves fewer than 2 frames .* 0 to 10"):
        predictor.read(clip, start, 3)


def test_a_clip_that_is_too_short_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", numbered(1))
    with pytest.raises(TrivdError, match="has 1 frames; the model needs 2"):
        predictor.read(tmp_path / "one.npy", None, 3)


@pytest.mark.parametrize("frames", [0, -1])
@pytest.mark.parametrize("given", [1, 2])
def test_futures_without_frames_are_refused(
    tiny_config: MakeConfig, make_generator: MakeGenerator, clip: Path, tmp_path: Path, given: int, frames: int
) -> None:
    predictor = make(tiny_config, make_generator, conditioning_frames=given)
    with pytest.raises(TrivdError, match=f"{frames} frames"):
        write(predictor, clip, tmp_path / "out", frames=frames)
    assert not (tmp_path / "out").exists()


def test_every_file_is_written_and_shows_the_futures(predictor: Predictor, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = write(predictor, clip, out, start=0, npz=True)
    expected = {f"sample-{n}.{kind}" for n in (1, 2) for kind in ("mp4", "gif")}
    expected |= {"grid.png", "motion.png", "motion-arrows.gif", "motion-legend.png", "futures.npz"}
    assert {path.name for path in out.iterdir()} == expected
    assert all(any(name.partition(".")[0].partition("-")[0] in line for line in said) for name in expected)
    with np.load(out / "futures.npz") as arrays:
        past, futures = arrays["past"], arrays["futures"]
    assert np.array_equal(past, numbered()[:2])
    assert futures.dtype == np.uint8
    assert np.array_equal(futures, predictor.predict(numbered()[:2], samples=2))
    for sample in range(2):
        whole = np.concatenate([past, futures[sample]])
        shown = read_frames(out / f"sample-{sample + 1}.gif", 0, 5, 1, short_side=None, channels=3)
        small = shown[:, 2::4, 2::4].astype(int)  # GIFs are enlarged four times, hard-edged
        assert small.shape == whole.shape
        assert np.abs(small - whole).mean() < 16  # 256 colours
        assert probe(out / f"sample-{sample + 1}.mp4").frames == 5
    with av.open(str(out / "sample-1.mp4")) as container:
        assert container.streams.video[0].average_rate == 8


def rows(predictor: Predictor, clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    """What is put into grid.png."""
    seen: list[Any] = []
    import trivd.prediction.futures as module

    original = module.sample_grid
    monkeypatch.setattr(module, "sample_grid", lambda r, given: seen.append((r, given)) or original(r, given))
    write(predictor, clip, out, **options)
    return seen[0]


def test_the_truth_stands_beside_the_samples(
    predictor: Predictor, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, given = rows(predictor, clip, tmp_path / "out", monkeypatch, start=8)
    assert given == 2
    assert [name for name, _ in grid] == ["sample 1", "sample 2", "truth"]
    truth = grid[-1][1]
    assert np.array_equal(truth[:4], numbered()[8:12])
    assert (truth[4:] == 255).all()  # the clip has ended
    assert all(len(video) == 5 for _, video in grid)


def test_without_truth_there_are_samples_alone(
    predictor: Predictor, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, _ = rows(predictor, clip, tmp_path / "out", monkeypatch)
    assert [name for name, _ in grid] == ["sample 1", "sample 2"]
    assert np.array_equal(grid[0][1][:2], numbered()[10:])


def test_units_that_do_not_warp_show_no_motion(
    tiny_config: MakeConfig, make_generator: MakeGenerator, clip: Path, tmp_path: Path
) -> None:
    said = write(make(tiny_config, make_generator, unit="conv_gru"), clip, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").glob("motion*")} == set()
    assert not any("motion" in line for line in said)


@pytest.mark.parametrize(("motion", "said"), [(None, "levels 8 + 16"), (1, "level 16"), ((8,), "level 8")])
def test_the_motion_levels_may_be_chosen(
    tiny_config: MakeConfig,
    make_generator: MakeGenerator,
    clip: Path,
    tmp_path: Path,
    motion: MotionLevels | None,
    said: str,
) -> None:
    predictor = make(tiny_config, make_generator, recurrent_resolutions=(8, 16))
    assert any(f"sample 1, {said} (" in line for line in write(predictor, clip, tmp_path / "out", motion=motion))
    past, _ = predictor.read(clip, None, 0)
    flow = predictor.draw(past, Sampling(2), 2 if motion is None else motion).motion
    assert flow is not None
    rows = [("sample 1", predictor.predict(past, 2)[0]), ("motion", flow_to_color(-flow[:, 0]))]
    with Image.open(tmp_path / "out" / "motion.png") as picture:
        assert np.array_equal(np.asarray(picture), sample_grid(rows, 0))


@pytest.mark.parametrize(
    ("unit", "motion", "said"), [("tsru_p", (32,), "recurrent units: 8, 16"), ("conv_gru", 1, "does not warp")]
)
def test_motion_that_the_model_lacks_is_refused(
    tiny_config: MakeConfig,
    make_generator: MakeGenerator,
    clip: Path,
    tmp_path: Path,
    unit: str,
    motion: MotionLevels,
    said: str,
) -> None:
    predictor = make(tiny_config, make_generator, unit=unit, recurrent_resolutions=(8, 16))
    with pytest.raises(TrivdError, match=said):
        write(predictor, clip, tmp_path / "out", motion=motion)
    assert not (tmp_path / "out").exists()


def test_resizing_is_said(predictor: Predictor, clip: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.zeros((4, 48, 64, 3), np.uint8))
    first, *_ = write(predictor, tmp_path / "large.npy", tmp_path / "out")
    assert "64 x 48 pixels, resized and centre-cropped to the model's 32 x 32." in first
    assert not any("resized" in line for line in write(predictor, clip, tmp_path / "other"))


def test_grey_models_write_grey_videos(
    tiny_config: MakeConfig, make_generator: MakeGenerator, clip: Path, tmp_path: Path
) -> None:
    predictor = make(tiny_config, make_generator, image_channels=1)
    write(predictor, clip, tmp_path / "out", npz=True)
    with np.load(tmp_path / "out" / "futures.npz") as arrays:
        assert arrays["futures"].shape == (2, 3, 32, 32, 1)
    assert probe(tmp_path / "out" / "sample-1.mp4").frames == 5
