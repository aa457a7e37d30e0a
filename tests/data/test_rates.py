"""Clips and stores of videos that are read at one rate (`data.fps`), whatever their own."""

import io
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare_checks import make
from rated_videos import nearest_of_constant, numbers, write_at
from record_files import write_bair
from rich.console import Console
from video_files import numbered_frames

from trivd.config import DataConfig, ModelConfig, from_dict, to_dict
from trivd.data.clips import VideoClips, open_clips
from trivd.data.datasets.layouts import OWN_RATES
from trivd.data.formats.decode import read_frames
from trivd.data.splits import Split
from trivd.data.store.prepare import write_store
from trivd.data.store.source import StoreSource
from trivd.runtime.errors import TrivdError

WEIZMANN = Path(__file__).parents[3] / "shared" / "data" / "weizmann"
SMALL = ModelConfig(resolution=32, conditioning_frames=2, predicted_frames=3)
DATA = DataConfig(validation_share=0.3)
AT_25 = replace(DATA, fps=25.0)
B_FRAMES = {"g": "10", "bf": "2"}


def opened(root: Path, data: DataConfig = AT_25, split: Split = "train") -> VideoClips:
    clips = open_clips(root, split, data, SMALL)
    assert isinstance(clips, VideoClips)
    return clips


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of several rates, and some without time; not to be changed."""
    root = tmp_path_factory.mktemp("mixed") / "videos"
    write_at(root / "train" / "a30.mp4", 36, Fraction(30), **B_FRAMES)
    write_at(root / "train" / "b12.mkv", 12, Fraction(25, 2), **B_FRAMES)
    write_at(root / "train" / "c50.avi", 40, Fraction(50), **B_FRAMES)
    write_at(root / "train" / "d50.h264", 40, Fraction(50), **B_FRAMES)
    np.save(root / "train" / "e.npy", numbered_frames(10))
    (root / "train" / "f").mkdir()
    for number, frame in enumerate(numbered_frames(9)):
        Image.fromarray(frame).save(root / "train" / "f" / f"{number}.png")
    write_at(root / "validation" / "a24.mov", 25, Fraction(24), **B_FRAMES)
    return root


OWN = [  # name, frames, rate; None: no time
    ("a30.mp4", 36, 30),
    ("b12.mkv", 12, Fraction(25, 2)),
    ("c50.avi", 40, 50),
    ("d50.h264", 40, 50),
    ("e.npy", 10, None),
    ("f", 9, None),
]


def test_clips_are_cut_from_frames_at_that_rate(mixed: Path) -> None:
    clips = opened(mixed, replace(AT_25, evaluation_step=2, stride=2))
    number = 0
    for video, (name, count, rate) in enumerate(OWN):
        shown = list(range(count)) if rate is None else nearest_of_constant(count, Fraction(rate), Fraction(25))
        assert clips.source.names[video] == f"train/{name}"
        assert clips.source.lengths[video] == len(shown)
        own = read_frames(mixed / "train" / name, 0, count, 1, short_side=32, channels=3)
        left = (own.shape[2] - 32) // 2
        for start in range(0, len(shown) - 8, 2):
            clip = clips.evaluation_clip(number).video
            assert np.array_equal(clip, own[shown[start : start + 9 : 2], :, left : left + 32])
            number += 1
    assert number == clips.evaluation_clips
    assert clips.fps == 25


def test_training_clips_are_at_that_rate(mixed: Path) -> None:
    clips = opened(mixed)
    shown = nearest_of_constant(36, Fraction(30), Fraction(25))
    own = read_frames(mixed / "train" / "a30.mp4", 0, 36, 1, short_side=32, channels=3)
    crops = [own[shown, :, left : left + 32] for left in range(own.shape[2] - 31)]
    windows = {crop[start : start + 5].tobytes(): start for crop in crops for start in range(len(shown) - 4)}
    drawn = {windows[clips.training_clip(0, np.random.default_rng(seed)).video.tobytes()] for seed in range(99)}
    assert len(drawn) > 20


def test_the_summary_says_at_which_rate_videos_are_read(mixed: Path) -> None:
    said = opened(mixed).summary
    assert "read at 25 frames a second" in said
    assert "1 video of fewer than 25 frames a second: frames are repeated" in said
    assert "1 video without usable time stamps: frames are evenly spaced, at the rate of the header" in said
    assert "2 videos without times (images, arrays or records): frames are taken as they are" in said
    assert opened(mixed, split="validation").summary[1:] == [
        "layout folder",
        "split by the folders train and validation",
        "read at 25 frames a second",
        "1 video of fewer than 25 frames a second: frames are repeated",
    ]
    assert not any("second" in line or "time" in line for line in opened(mixed, DATA).summary)
    assert opened(mixed, DATA).fps is None


def test_kinetics_without_a_rate_is_not_the_papers(tmp_path: Path) -> None:
    names = [f"AAAAAAAAAA{n}_00000{n}_00001{n}" for n in range(2)]
    rows = "".join(
        f"run,{name[:11]},{n},{n + 10},{split}\n"
        for n, (name, split) in enumerate(zip(names, ("train", "test"), strict=True))
    )
    for name in names:
        write_at(tmp_path / "k600" / "train" / f"{name}.mp4", 20, Fraction(30))
    (tmp_path / "k600" / "train.csv").write_text(f"label,youtube_id,time_start,time_end,split\n{rows}")
    for data, says in ((DATA, True), (AT_25, False)):
        console = Console(file=io.StringIO(), width=200)
        destination = tmp_path / f"{data.fps}"
        write_store(tmp_path / "k600", destination, resolution=32, channels=3, data=data, workers=0, progress=console)
        said = console.file.getvalue()  # type: ignore[attr-defined]
        assert (f"no --fps: {OWN_RATES}" in said) == says
        assert ("Writing 2 videos at 25 frames a second into" in said) != says
        assert (OWN_RATES in opened(tmp_path / "k600", data).summary) == says


def test_data_without_times_have_no_rate(tmp_path: Path) -> None:
    write_bair(tmp_path, {"train/traj_0_to_1.tfrecords": [0, 1], "test/traj_0_to_0.tfrecords": [2]}, frames=9)
    own, asked = opened(tmp_path, DATA), opened(tmp_path)
    assert asked.fps is None
    assert set(asked.summary) - set(own.summary) == {
        "2 videos without times (images, arrays or records): frames are taken as they are"
    }
    assert np.array_equal(asked.evaluation_clip(1).video, own.evaluation_clip(1).video)
    assert open_clips("moving-digits", "train", AT_25, SMALL).fps is None


def test_one_video_is_cut_in_frames_at_that_rate(tmp_path: Path) -> None:
    path = write_at(tmp_path / "a.mp4", 60, Fraction(50))
    train, validation = opened(path), opened(path, split="validation")
    assert (train.source.lengths, validation.source.lengths) == ([21], [9])
    assert numbers(validation.evaluation_clip(0).video) == [42, 44, 46, 48, 50]


def test_videos_may_be_too_short_at_that_rate(tmp_path: Path) -> None:
    write_at(tmp_path / "a.mp4", 8, Fraction(50))
    with pytest.raises(TrivdError, match=r"Skipped: 1 too short.*at least 5 frames at 25 a second"):
        opened(tmp_path)


def test_a_store_holds_the_frames_at_that_rate(mixed: Path, tmp_path: Path) -> None:
    report = make(mixed, tmp_path / "store", fps=25)
    assert "2 videos of fewer than 25 frames a second: frames are repeated" in report.notes
    for split in ("train", "validation"):
        folder, store, unasked = (
            opened(mixed, split=split),  # type: ignore[arg-type]
            opened(tmp_path / "store", split=split),  # type: ignore[arg-type]
            opened(tmp_path / "store", DATA, split),  # type: ignore[arg-type]
        )
        assert list(store.source.lengths) == list(folder.source.lengths)
        assert store.fps == unasked.fps == 25
        assert "prepared at 25 frames a second" in store.summary
        for video, length in enumerate(folder.source.lengths):
            whole = folder.source.read(video, 0, length, 1)
            assert np.array_equal(store.source.read(video, 0, length, 1), whole)
            assert np.array_equal(unasked.source.read(video, 1, 2, 3), whole[1:5:3])


def test_a_store_of_another_rate_is_refused(mixed: Path, tmp_path: Path) -> None:
    make(mixed, tmp_path / "own")
    make(mixed, tmp_path / "store", fps=12.5)
    with pytest.raises(
        TrivdError,
        match=r"own was prepared with the videos' own frames but data\.fps is 25; prepare the videos again with "
        r"--fps 25, or drop data\.fps \(trivd train --data\.fps None\)\.",
    ):
        opened(tmp_path / "own")
    with pytest.raises(TrivdError, match=r"store was prepared at 12\.5 frames a second but data\.fps is 25; prepare"):
        opened(tmp_path / "store")
    with pytest.raises(TrivdError, match=r"begun from other videos or settings \(fps\)"):
        make(mixed, tmp_path / "own", fps=25.0)


def test_stores_from_before_rates_have_none(mixed: Path, tmp_path: Path) -> None:
    make(mixed, tmp_path / "store")
    for name in ("index.json", "plan.json"):
        values = json.loads((tmp_path / "store" / name).read_text())
        del values["fps"]
        (tmp_path / "store" / name).write_text(json.dumps(values))
    assert StoreSource(tmp_path / "store", "train", 1, balanced=False).fps is None
    assert "complete already: nothing was left to do" in make(mixed, tmp_path / "store").notes


@pytest.mark.parametrize("fps", ['"25"', "-1.0", "25", "NaN", "[]"])
def test_a_rate_that_is_none_is_damage(tmp_path: Path, fps: str) -> None:
    write_at(tmp_path / "videos" / "a.mp4", 6, Fraction(25))
    make(tmp_path / "videos", tmp_path / "store", fps=25.0)
    index = tmp_path / "store" / "index.json"
    text = index.read_text()
    assert '"fps": 25.0' in text
    index.write_text(text.replace('"fps": 25.0', f'"fps": {fps}'))
    with pytest.raises(TrivdError, match=r"index\.json is damaged"):
        StoreSource(tmp_path / "store", "train", 1, balanced=False)


def test_settings_from_before_rates_have_none() -> None:
    values = to_dict(AT_25)
    assert from_dict(DataConfig, values) == AT_25
    del values["fps"]
    assert from_dict(DataConfig, values) == DATA


def test_real_videos_at_half_their_rate() -> None:
    if not WEIZMANN.is_dir():
        pytest.skip(f"needs the development data in {WEIZMANN}")
    own, same, half = (opened(WEIZMANN, replace(DATA, fps=fps), "validation") for fps in (None, 25.0, 12.5))
    assert own.source.lengths == same.source.lengths
    for video, length in enumerate(own.source.lengths[:4]):
        whole = own.source.read(video, 0, length, 1)
        assert np.array_equal(same.source.read(video, 0, length, 1), whole)
        assert half.source.lengths[video] == (length + 1) // 2
        assert np.array_equal(half.source.read(video, 1, 5, 2), whole[2:22:4])
