"""Arrays: those that are surely one video are read as they are, and of others it is said what they seem to be."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trivd.data.formats.decode import UnreadableVideo, probe, read_frames

VIDEO = np.random.default_rng(0).integers(256, size=(5, 12, 16, 3), dtype=np.uint8)


def read(path: Path, channels: int = 3) -> NDArray[np.uint8]:
    return read_frames(path, 0, probe(path).frames, 1, short_side=None, channels=channels)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("array", [VIDEO, np.asfortranarray(VIDEO), VIDEO[:, ::-1]], ids=["C", "Fortran", "view"])
def test_videos_are_read_as_they_are(tmp_path: Path, suffix: str, array: NDArray[np.uint8]) -> None:
    path = tmp_path / f"a.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, array)
    assert np.array_equal(read(path), array)


@pytest.mark.parametrize(
    "array", [VIDEO[..., 0], VIDEO[..., :1], VIDEO[:2, ..., 0]], ids=["grey", "one channel", "two"]
)
def test_grey_videos(tmp_path: Path, array: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(read(tmp_path / "a.npy", channels=1)[..., 0], array.reshape(array.shape[:3]))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((), "array is not"),
        ((64,), "array is not"),
        ((64, 64), "but (like )?one picture"),
        ((64, 64, 3), "but (like )?one picture"),
        ((480, 640, 4), "but (like )?one picture"),
        ((3, 64, 64), r"one picture \(C, H, W\).*\(T, H, W, 1\)"),
        ((9, 3, 64, 64), r"transpose\(0, 2, 3, 1\)"),
        ((9, 1, 64, 64), r"transpose\(0, 2, 3, 1\)"),
        ((3, 9, 64, 64), r"transpose\(1, 2, 3, 0\)"),
        ((9, 64, 64, 4), r"array\[\.\.\., :3\]"),
        ((9, 64, 64, 2), "array is not"),
        ((20, 100, 64, 64), "array is not"),
        ((2, 9, 64, 64, 3), "but several"),
        ((1, 1, 9, 64, 64, 3), "array is not"),
        ((0, 64, 64, 3), "empty"),
    ],
)
def test_other_shapes_are_named(tmp_path: Path, shape: tuple[int, ...], said: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(UnreadableVideo, match=said):
        probe(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        ("float32", r"float32: save \(255 \* array\)"),
        (">f8", r"f8: save \(255 \* array\)"),
        ("bool", r"bool: save 255 \* array"),
        ("int64", r"int64: save array\.astype\('uint8'\) if"),
        (">u2", r"u2: save array\.astype\('uint8'\) if"),
        ("complex64", "complex64"),
        ("U3", "U3"),
    ],
)
def test_other_types_are_named(tmp_path: Path, dtype: str, said: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 16, 16, 3), dtype))
    with pytest.raises(UnreadableVideo, match=f"array is not uint8 .*{said}"):
        probe(tmp_path / "a.npy")


def test_arrays_of_objects_are_not_read(tmp_path: Path) -> None:
    objects = np.array([VIDEO, None], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", objects, allow_pickle=True)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(UnreadableVideo, match="Python objects"):
            probe(tmp_path / name)


def test_of_several_arrays_the_one_that_is_called_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", label=3, video=VIDEO, actions=np.zeros((5, 4)))
    assert np.array_equal(read(tmp_path / "a.npz"), VIDEO)
    for name, arrays in {
        "future": {"futures": VIDEO[None], "past": VIDEO},
        "b": {"frames": VIDEO, "video": VIDEO},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(UnreadableVideo, match=rf"not one array \(it holds {', '.join(arrays)}; save the video"):
            probe(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "none.npz")
    with pytest.raises(UnreadableVideo, match="it holds none"):
        probe(tmp_path / "none.npz")
