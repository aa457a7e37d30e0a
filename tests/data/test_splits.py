"""Splits chosen where the data hold out none: a single video is cut in time, and bad videos leave no split empty."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_files import numbered_frames, write_video

from trivd.config import DataConfig, ModelConfig
from trivd.data.clips import VideoClips, open_clips
from trivd.data.datasets.folder import find_videos
from trivd.data.listing import ListingSource
from trivd.data.splits import Split, divide, hashed_splits
from trivd.data.store.prepare import write_store
from trivd.runtime.errors import TrivdError

SMALL = ModelConfig(resolution=32, conditioning_frames=2, predicted_frames=3)
DATA = DataConfig(validation_share=0.3)


def save(path: Path, frames: int) -> Path:
    """A video whose frames' brightness is their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 32, 32, 3)))
    return path


def seen(root: Path, split: Split, data: DataConfig = DATA) -> set[int]:
    """The numbers of all frames that training or evaluation can see."""
    clips = open_clips(root, split, data, SMALL)
    assert isinstance(clips, VideoClips)
    rng = np.random.default_rng(0)
    drawn = [clips.training_clip(index % len(clips), rng) for index in range(300)]
    fixed = [clips.evaluation_clip(index) for index in range(clips.evaluation_clips)]
    return {int(frame[0, 0, 0]) for clip in (*drawn, *fixed) for frame in clip.video}


@pytest.mark.parametrize("kind", ["folder", "file", "train folder", "bad neighbours", "store", "store of the file"])
def test_one_video_is_cut_in_time(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "data"
    path = save(root / ("train/a/long.npy" if kind == "train folder" else "long.npy"), 60)
    if kind == "bad neighbours":
        for number in range(4):
            save(root / f"short{number}.npy", 4)
            (root / f"bad{number}.mp4").write_text("no video")
    data = path if "file" in kind else root
    if "store" in kind:
        write_store(data, tmp_path / "store", resolution=32, channels=3, data=DATA, workers=0, progress=None)
        data = tmp_path / "store"
    assert seen(data, "train") == set(range(42))
    assert seen(data, "validation") == seen(data, "test") == set(range(42, 60))
    summary = open_clips(data, "train", DATA, SMALL).summary
    assert any("cut in time: frames 0 to 41 for training, 42 to 59 for validation" in line for line in summary)


@given(frames=st.integers(2, 400), span=st.integers(1, 30), share=st.floats(0.01, 0.99))
def test_cuts(frames: int, span: int, share: float) -> None:
    if frames < 2 * span:
        with pytest.raises(TrivdError, match=rf"a\.mp4, of {frames} frames; to be cut .* needs {2 * span}"):
            divide(Path("x"), ["a.mp4"], [frames], span, share)
        return
    (train, held_out), _ = divide(Path("x"), ["a.mp4"], [frames], span, share)
    assert (train.split, held_out.split) == ("train", "validation")
    assert train.first == 0
    assert held_out.first == train.frames
    assert held_out.first + held_out.frames == frames
    assert min(train.frames, held_out.frames) >= span
    if span <= share * frames <= frames - span:
        assert abs(held_out.frames - share * frames) <= 0.5


def test_a_video_too_short_to_be_cut(tmp_path: Path) -> None:
    save(tmp_path / "one.npy", 9)
    for split in ("train", "validation"):
        with pytest.raises(TrivdError, match=r"one usable video, one\.npy, of 9 frames; .* it needs 10"):
            open_clips(tmp_path, split, DATA, SMALL)  # type: ignore[arg-type]


def test_bad_videos_leave_no_split_empty(tmp_path: Path) -> None:
    """Whichever of a few videos are damaged: the others are divided, the same way for both splits."""
    names = [f"{number}.npy" for number in range(6)]
    held_out = [name for name, split in zip(names, hashed_splits(names, 0.3), strict=True) if split == "validation"]
    for number, bad in enumerate((held_out, sorted(set(names) - set(held_out)))):
        root = tmp_path / str(number)
        for name in names:
            if name in bad:
                root.mkdir(exist_ok=True)
                (root / name).write_text("damaged")
            else:
                save(root / name, 12)
        found = find_videos(root, 0.3)
        sides = {split: ListingSource(found, split, 32, 3, 5) for split in ("train", "validation")}
        assert sorted(sides["train"].names + sides["validation"].names) == sorted(set(names) - set(bad))
        assert sides["train"].names
        assert sides["validation"].names
        lines = {
            line.rpartition(":")[0]
            for side in sides.values()
            for line in side.summary
            if line.startswith("skipped") and ".npy" in line
        }
        assert lines == {f"skipped {name}" for name in bad}


def test_the_users_own_splits_are_never_divided(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a.npy", 60)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "b.npy").write_text("damaged")
    assert seen(tmp_path, "train") == set(range(60))
    with pytest.raises(TrivdError, match=r"no usable video for the split 'validation'.*not an array, or damaged"):
        open_clips(tmp_path, "validation", DATA, SMALL)


def test_videos_that_are_all_too_short_are_not_called_training_videos(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", 4)
    with pytest.raises(TrivdError) as refusal:
        open_clips(tmp_path, "validation", DATA, SMALL)
    assert "Skipped: 1 too short. Add videos of at least 5 frames" in str(refusal.value)
    assert "train" not in str(refusal.value).removeprefix(str(tmp_path))


def test_a_video_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(20))
    assert open_clips(path, "train", DATA, SMALL).evaluation_clip(0).video.shape == (5, 32, 32, 3)
    (tmp_path / "a.txt").touch()
    with pytest.raises(TrivdError, match=r"a\.txt is not a video, nor a folder of videos"):
        open_clips(tmp_path / "a.txt", "train", DATA, SMALL)
