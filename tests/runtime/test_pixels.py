"""Pixels: frames as users pass them (views, lists, tensors, images), and the exact conversion to and from floats."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from trivd.config import Config, to_dict
from trivd.models.generator import Generator
from trivd.models.pretrained import load_generator, save_generator
from trivd.prediction.predictor import Predictor
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import as_pixels, to_float, to_uint8

SIZE = 32
CLIP = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
GREY = CLIP[..., :1]


@pytest.fixture(scope="module")
def predictor(make_generator: Callable[..., Generator], tiny_config: Callable[..., Config]) -> Predictor:
    history = {"data": "moving-digits", "step": 0, "config": to_dict(tiny_config(data={"stride": 2}))}
    predictor = Predictor(make_generator(), history)
    predictor.dtype = torch.float32
    return predictor


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def read_only(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    array = array.copy()
    array.setflags(write=False)
    return array


def with_gaps(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([array, array], axis=2)[:, :, 0]


TAKEN: dict[str, tuple[Any, NDArray[np.uint8]]] = {
    "BGR as RGB": (CLIP[..., ::-1], np.ascontiguousarray(CLIP[..., ::-1])),
    "backwards": (CLIP[::-1], np.ascontiguousarray(CLIP[::-1])),
    "mirrored": (CLIP[:, :, ::-1], np.ascontiguousarray(CLIP[:, :, ::-1])),
    "read-only": (read_only(CLIP), CLIP),
    "read-only and backwards": (read_only(CLIP)[::-1], np.ascontiguousarray(CLIP[::-1])),
    "with gaps": (with_gaps(CLIP), CLIP),
    "columns first": (np.asfortranarray(CLIP), CLIP),
    "a list": (list(CLIP), CLIP),
    "a tuple": (tuple(CLIP), CLIP),
    "a list of views": ([frame[::-1] for frame in CLIP], np.ascontiguousarray(CLIP[:, ::-1])),
    "a list of grey frames": (list(GREY[..., 0]), GREY),
    "a list of images": ([Image.fromarray(frame) for frame in CLIP], CLIP),
    "a list of grey images": ([Image.fromarray(frame[..., 0]) for frame in GREY], GREY),
    "a list of images with alpha": ([Image.fromarray(frame).convert("RGBA") for frame in CLIP], CLIP),
    "a list of tensors": (list(torch.from_numpy(CLIP)), CLIP),
    "a tensor": (torch.from_numpy(CLIP), CLIP),
    "a tensor of channels first, moved": (torch.from_numpy(CLIP).movedim(3, 1).contiguous().movedim(1, 3), CLIP),
    "big-endian text of bytes": (CLIP.view(">u1"), CLIP),
    "a subclass": (CLIP.view(np.ma.MaskedArray), CLIP),
}


def cut(given: Any, size: int) -> Any:
    """The upper left corner of frames of any kind."""
    if isinstance(given, list | tuple):
        corner = (0, 0, size, size)
        return [frame.crop(corner) if isinstance(frame, Image.Image) else frame[:size, :size] for frame in given]
    return given[:, :size, :size]


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("size", [SIZE, 24])  # the model's own, and one that is resized
def test_frames_of_any_kind_give_the_futures_of_their_pixels(predictor: Predictor, name: str, size: int) -> None:
    given, pixels = (cut(frames, size) for frames in TAKEN[name])
    pixels = np.ascontiguousarray(pixels)
    assert np.array_equal(as_pixels(given), pixels)
    assert np.array_equal(predictor.predict(given, 2), predictor.predict(pixels, 2))
    assert np.array_equal(predictor.fit(given), predictor.fit(pixels))


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (np.stack([CLIP, CLIP]), ("one clip at a time", "(2, 4, 32, 32, 3)")),
        (torch.from_numpy(CLIP)[None], ("one clip at a time", "(1, 4, 32, 32, 3)")),
        ([CLIP, CLIP], ("one clip at a time",)),
        (CLIP / 255, ("float64", "from 0 to 255", "(255 * frames)")),
        (torch.rand(4, 32, 32, 3), ("float32", "from 0 to 255")),
        (torch.rand(4, 32, 32, 3).bfloat16(), ("float32", "from 0 to 255")),
        (CLIP.astype(np.int64), ("int64", "frames.astype('uint8')")),
        (CLIP > 3, ("bool",)),
        (CLIP[..., 0], ("(4, 32, 32)",)),
        (CLIP[0], ("(32, 32, 3)",)),
        (CLIP.transpose(0, 3, 1, 2), ("(T, H, W, 1 or 3)", "(4, 3, 32, 32)")),
        (np.zeros((4, 32, 32, 4), np.uint8), ("(4, 32, 32, 4)",)),
        (np.zeros((4, 0, 32, 3), np.uint8), ("(4, 0, 32, 3)",)),
        (CLIP[:0], ("needs 2 frames", "there are 0")),
        ([], ("needs 2 frames", "there are 0")),
        ([CLIP[0], CLIP[1, :16]], ("of one size and type", "(16, 32, 3)", "(32, 32, 3)")),
        ([CLIP[0], CLIP[1].astype(np.float32)], ("of one size and type", "float32", "uint8")),
        ([[1, 2], [3]], ("one size",)),
        ([[[1], [2, 3]]], ("list is not",)),
        (["a.png", "b.png"], ("str is not",)),
        ([Image.new("I;16", (32, 32))] * 4, ("I;16", "L or RGB")),
        (None, ("NoneType is not",)),
        (7, ("int64 ()",)),
        ({"frames": CLIP}, ("dict is not",)),
        (iter(CLIP), ("is not",)),
        (np.array([CLIP, None], object), ("ndarray is not",)),
    ],
)
def test_what_is_no_clip_is_named(predictor: Predictor, given: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(TrivdError) as refused:
        predictor.predict(given)
    for part in parts:
        assert part in str(refused.value)


def test_a_path_is_read_as_the_command_reads_it(predictor: Predictor, tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", CLIP)
    expected = predictor.predict(CLIP[[1, 3]])  # the last two, of the stride of the training
    assert np.array_equal(predictor.predict(tmp_path / "clip.npy"), expected)
    assert np.array_equal(predictor.predict(str(tmp_path / "clip.npy")), expected)
    np.save(tmp_path / "short.npy", CLIP[:2])
    for name, message in (("short.npy", "has 2 frames; the model needs 3"), ("none.mp4", "missing")):
        with pytest.raises(TrivdError, match=message):
            predictor.predict(tmp_path / name)


def test_numbers_may_be_numpys(predictor: Predictor) -> None:
    expected = predictor.predict(CLIP, 2, 0.5, 3, 4)
    numbers = (np.int32(2), np.float32(0.5), np.int64(3), np.uint8(4))
    assert np.array_equal(predictor.predict(CLIP, *numbers, label=np.int64(0)), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": float("nan")}, "Truncation is nan; it must be a number of at least 0"),
        ({"truncation": float("inf")}, "Truncation is inf"),
        ({"truncation": "0.8"}, "Truncation is '0.8'"),
        ({"samples": 2.0}, r"samples is 2\.0; it must be a whole number"),
        ({"samples": None}, "samples is None"),
        ({"frames": 2.5}, r"frames is 2\.5"),
        ({"seed": "0"}, "seed is '0'"),
        ({"label": 0.0}, r"label is 0\.0"),
    ],
)
def test_other_values_are_refused(predictor: Predictor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrivdError, match=message):
        predictor.predict(CLIP, **options)


def test_no_seed_draws_other_futures_each_time(predictor: Predictor) -> None:
    first, second = (predictor.predict(CLIP, seed=None) for _ in range(2))
    assert not np.array_equal(first, second)


def test_the_callers_default_type_changes_nothing(predictor: Predictor, tmp_path: Path) -> None:
    expected = predictor.predict(CLIP, 2, 0.8)
    save_generator(predictor.generator, tmp_path / "model", predictor.history)
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(predictor.predict(CLIP, 2, 0.8), expected)
        loaded = Predictor(*load_generator(tmp_path / "model", torch.device("cpu")))
        loaded.dtype = torch.float32
        assert {parameter.dtype for parameter in loaded.generator.parameters()} == {torch.float32}
        assert np.array_equal(loaded.predict(CLIP, 2, 0.8), expected)
        assert np.array_equal(loaded.predict(CLIP, truncation=0), predictor.predict(CLIP, truncation=0))
    finally:
        torch.set_default_dtype(torch.float32)


def test_pixels_are_not_shared_with_what_is_read_only() -> None:
    video = to_float(read_only(CLIP))
    assert torch.equal(video, to_float(CLIP))
    assert torch.equal(to_float(CLIP[::-1]), video.flip(0))


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
