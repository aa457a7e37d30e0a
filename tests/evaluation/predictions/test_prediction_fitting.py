"""Predictions that do not fit the truth at once: missing ones, several lengths, sizes, rates and numbers of samples."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trivd.data.formats.frames import FrameConverter
from trivd.evaluation.predictions.fitting import Cut, Fit, squared
from trivd.evaluation.predictions.folders import clips_in_common, short_names
from trivd.evaluation.predictions.subject import PredictionFiles
from trivd.evaluation.scorer import Clips
from trivd.pictures.draw import save_mp4
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import to_pixels

GIVEN = 2
Video = NDArray[np.uint8]


def video(seed: int, frames: int, height: int = 16, width: int = 16) -> Video:
    return np.random.default_rng(seed).integers(256, size=(frames, height, width, 3), dtype=np.uint8)


def folder(path: Path, **videos: Video) -> Path:
    path.mkdir()
    for name, frames in videos.items():
        np.save(path / f"{name}.npy", frames)
    return path


def scored(files: PredictionFiles) -> tuple[list[Video], Video]:
    """The true clips, and the first prediction of each, (clips, T, H, W, C)."""
    clips = Clips([*range(len(files))], torch.zeros(0), torch.zeros(0), torch.zeros(0))
    predicted = to_pixels(next(files.futures(clips, 1, 0))).numpy()
    return [files.evaluation_clip(number).video for number in range(len(files))], predicted


def test_true_videos_without_a_prediction_are_left_out_and_named(tmp_path: Path) -> None:
    truth = folder(tmp_path / "t", a=video(0, 5), b=video(1, 5), c=video(2, 5))
    first = folder(tmp_path / "p", a=video(3, 5), c=video(4, 5))
    second = folder(tmp_path / "q", b=video(5, 5), c=video(6, 5))
    files = PredictionFiles(first, truth, GIVEN)
    assert files.notes == ["Left out: 1 of 3 true videos, as not all folders of predictions have them: b."]
    assert np.array_equal(scored(files)[1][1], video(4, 5)[GIVEN:])
    common = clips_in_common([first, second], truth)
    assert common == ["c"]
    both = [PredictionFiles(path, truth, GIVEN, only=common) for path in (first, second)]
    assert [scored(files)[0][0][0, 0, 0, 0] for files in both] == [video(2, 5)[0, 0, 0, 0]] * 2
    assert both[0].notes == ["Left out: 2 of 3 true videos, as not all folders of predictions have them: a, b."]
    with pytest.raises(TrivdError, match="have no name in common"):
        clips_in_common([first, folder(tmp_path / "r", b=video(5, 5))], truth)
    with pytest.raises(TrivdError, match=r"t has no z \(1 of 1 names in .* are there alone\)"):
        PredictionFiles(folder(tmp_path / "z", z=video(0, 5)), truth, GIVEN)


@pytest.mark.parametrize(("cut", "lengths", "first"), [("whole", (7, 9), 2), ("futures", (5, 7), 0)])
def test_lengths_are_cut_to_the_shortest(tmp_path: Path, cut: Cut, lengths: tuple[int, int], first: int) -> None:
    truth = folder(tmp_path / "t", a=video(0, 10), b=video(1, 8))
    predictions = folder(tmp_path / "p", a=video(2, lengths[0]), b=video(3, lengths[1]))
    with pytest.raises(TrivdError, match="give --cut whole or --cut futures"):
        PredictionFiles(predictions, truth, GIVEN)
    files = PredictionFiles(predictions, truth, GIVEN, fit=Fit(cut))
    true, predicted = scored(files)
    assert files.predicted == 5  # of a's prediction
    assert [len(clip) for clip in true] == [7, 7]
    assert np.array_equal(predicted[1], video(3, lengths[1])[first : first + 5])
    assert any("--cut" in note for note in files.notes)
    shorter = files.cut_to(3)
    assert (shorter.frames, files.frames) == (5, 7)
    assert shorter.summary != files.summary
    assert np.array_equal(scored(shorter)[1], predicted[:, :3])


def test_a_prediction_of_given_frames_alone_is_refused(tmp_path: Path) -> None:
    truth, predictions = folder(tmp_path / "t", a=video(0, 9)), folder(tmp_path / "p", a=video(2, 2))
    with pytest.raises(TrivdError, match="there is none after 2 given ones"):
        PredictionFiles(predictions, truth, GIVEN, fit=Fit("whole"))


def test_sizes_become_squares_of_one_size(tmp_path: Path) -> None:
    truth = folder(tmp_path / "t", a=video(0, 5, 24, 40), b=video(1, 5, 32, 32))
    predictions = folder(tmp_path / "p", a=video(2, 5, 12, 20), b=video(3, 3, 16, 16))
    with pytest.raises(TrivdError, match=r"a\.npy is 40 x 24 pixels but .*b\.npy 32 x 32; give --resolution"):
        PredictionFiles(predictions, truth, GIVEN)
    files = PredictionFiles(predictions, truth, GIVEN, fit=Fit(resolution=16))
    true, predicted = scored(files)
    assert {clip.shape for clip in true} == {(5, 16, 16, 3)}
    assert np.array_equal(predicted[1], video(3, 3, 16, 16))  # of that size already
    convert = FrameConverter(16, 3)
    expected = np.stack([convert.array(frame) for frame in video(0, 5, 24, 40)])
    assert expected.shape == (5, 16, 27, 3)
    assert np.array_equal(true[0], expected[:, :, 5:21])
    assert "16 x 16" in files.notes[0]


def test_squares_keep_the_middle() -> None:
    frames = np.zeros((1, 8, 24, 3), np.uint8)
    frames[:, :, 8:16] = 200
    assert squared(frames, 8).min() == 200


def test_of_several_samples_as_many_count_as_all_have(tmp_path: Path) -> None:
    truth = folder(tmp_path / "t", a=video(0, 5), b=video(1, 5))
    (tmp_path / "p").mkdir()
    for name, count in (("a", 3), ("b", 2)):
        folder(tmp_path / "p" / name, **{f"sample-{number}": video(number, 5) for number in range(count)})
    files = PredictionFiles(tmp_path / "p", truth, GIVEN)
    assert files.samples == 2
    assert "2 predictions of each clip are scored, as many as there are of b" in files.notes[0]


def test_other_frame_rates_are_said(tmp_path: Path) -> None:
    for name, rate in (("t", 25), ("p", 8), ("q", 25)):
        (tmp_path / name).mkdir()
        save_mp4(tmp_path / name / "a.mp4", video(0, 5), rate)
    files = PredictionFiles(tmp_path / "p", tmp_path / "t", GIVEN)
    assert "has 25 a second, " in files.notes[0]
    assert PredictionFiles(tmp_path / "q", tmp_path / "t", GIVEN).notes == []


def test_folders_are_told_apart_by_the_ends_of_their_paths(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"]
    assert short_names([paths[0], paths[2]]) == ["run", "c"]
    assert short_names(paths)[:2] == ["a/run", "b/run"]
    with pytest.raises(TrivdError, match="named twice"):
        short_names([paths[0], tmp_path / "a" / "." / "run"])


@pytest.mark.parametrize("side", [0, -5, 10, 5_000])
def test_a_side_that_cannot_be_scored_is_refused(side: int) -> None:
    with pytest.raises(TrivdError, match=rf"--resolution is {side}; give 11 to 4,096 pixels"):
        Fit(resolution=side)


def test_batches_of_other_files_or_fits_are_not_taken_for_these(tmp_path: Path) -> None:
    truth = folder(tmp_path / "t", a=video(0, 6))
    predictions = folder(tmp_path / "p", a=video(1, 6))
    summaries = [
        PredictionFiles(predictions, truth, GIVEN, fit=fit).summary for fit in (Fit(), Fit("whole"), Fit(None, 16))
    ]
    assert PredictionFiles(predictions, truth, GIVEN).summary == summaries[0]
    np.save(predictions / "a.npy", video(2, 6))
    os.utime(predictions / "a.npy", ns=(0, 0))  # clocks of file systems may be coarse
    summaries.append(PredictionFiles(predictions, truth, GIVEN).summary)
    assert len({tuple(lines) for lines in summaries}) == 4


def test_one_prediction_and_several_may_lie_side_by_side(tmp_path: Path) -> None:
    truth = folder(tmp_path / "t", a=video(0, 5), b=video(1, 5))
    predictions = folder(tmp_path / "p", a=video(2, 5))
    folder(predictions / "b", first=video(3, 5), second=video(4, 5))
    files = PredictionFiles(predictions, truth, GIVEN)
    assert (len(files), files.samples) == (2, 1)
    assert np.array_equal(scored(files)[1], np.stack([video(2, 5), video(3, 5)])[:, GIVEN:])
    np.save(predictions / "b.npy", video(5, 5))
    with pytest.raises(TrivdError, match=r"p holds both b\.npy and a folder b of samples; keep one of the two"):
        PredictionFiles(predictions, truth, GIVEN)
