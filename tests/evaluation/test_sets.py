"""Sets of clips without pairs: which clips, and distances as plain NumPy and SciPy of the other repositories give."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from numpy.typing import NDArray
from stand_ins import Means

from trivd.config import DEFAULT_LIMITS, EvaluationConfig
from trivd.data.clips import Clip
from trivd.data.formats.frames import UnreadableVideo
from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.outcome import Evaluation, read_evaluation
from trivd.evaluation.predictions import video_sets
from trivd.evaluation.predictions.video_sets import VideoSet, evaluate_folder_set
from trivd.evaluation.set_protocols import SET_PROTOCOLS, Choice, SetProtocolName
from trivd.runtime.errors import TrivdError

SIZE = 16
Array = NDArray[np.float64]


def numbered(path: Path, frames: int, value: int = 0) -> None:
    """A video whose frame t has the value `value` + t everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = value + np.arange(frames, dtype=np.uint8)
    np.save(path, np.broadcast_to(levels[:, None, None, None], (frames, SIZE, SIZE, 3)))


def starts(found: VideoSet) -> list[tuple[int, int]]:
    """Video (by hundreds) and first frame of each clip."""
    firsts = [found.evaluation_clip(number).video[:, 0, 0, 0] for number in range(len(found))]
    assert all(np.array_equal(np.diff(frames), np.ones(len(frames) - 1)) for frames in firsts)
    return [divmod(int(frames[0]), 100) for frames in firsts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, (name, frames) in enumerate({"a": 6, "b": 40}.items()):
        numbered(tmp_path / "set" / f"{name}.npy", frames, 100 * place)
    numbered(tmp_path / "set" / "class" / "short.npy", 3)
    return tmp_path / "set"


def clips(folder: Path, choice: Choice, count: int, seed: int = 0) -> VideoSet:
    return VideoSet(folder, 4, 1, DEFAULT_LIMITS, clips=count, choice=choice, seed=seed)


def test_one_window_of_each_of_the_first_videos(folder: Path) -> None:
    found = clips(folder, "one", 9)
    assert [video for video, _ in starts(found)] == [0, 1]
    assert any("class/short.npy" in note for note in found.notes)
    assert any("gives 2 clips, where 9 were wanted" in note for note in found.notes)
    drawn = np.array([starts(clips(folder, "one", 9, seed)) for seed in range(60)])[:, :, 1]
    assert set(drawn[:, 0]) == {0, 1, 2}
    assert drawn[:, 1].max() > 30 > 6 > drawn[:, 1].min()
    assert [video for video, _ in starts(clips(folder, "one", 1))] == [0]


def test_any_windows_of_any_videos(folder: Path) -> None:
    everything = starts(clips(folder, "windows", 100))
    assert sorted(everything) == [(0, start) for start in range(3)] + [(1, start) for start in range(37)]
    assert starts(clips(folder, "windows", 10)) == starts(clips(folder, "windows", 10))
    assert starts(clips(folder, "windows", 10)) != starts(clips(folder, "windows", 10, seed=1))


def test_an_array_holds_many_clips(tmp_path: Path) -> None:
    samples = np.stack([np.full((5, SIZE, SIZE, 3), value, np.uint8) for value in range(7)])
    (tmp_path / "set").mkdir()
    np.savez_compressed(tmp_path / "set" / "all.npz", samples)
    found = VideoSet(tmp_path / "set", 4, 1, DEFAULT_LIMITS, clips=6, choice="first")
    assert [int(found.evaluation_clip(number).video.max()) for number in range(len(found))] == [*range(6)]
    assert found.evaluation_clip(3).video.shape == (4, SIZE, SIZE, 3)


def test_of_what_predict_wrote_each_sample_counts_once(tmp_path: Path) -> None:
    numbered(tmp_path / "sample-1.npy", 5)
    numbered(tmp_path / "sample-10.npy", 5)
    numbered(tmp_path / "motion-arrows.npy", 5)
    (tmp_path / "grid.png").touch()
    assert len(clips(tmp_path, "one", 9)) == 2
    np.savez(tmp_path / "futures.npz", futures=np.zeros((3, 5, SIZE, SIZE, 3), np.uint8))
    assert len(clips(tmp_path, "one", 9)) == 3


def test_choices_among_files_are_said(folder: Path) -> None:
    np.savez(folder / "a.npz", np.zeros((5, SIZE, SIZE, 3), np.uint8))
    (folder / "a.npy").rename(folder / "a.gif")
    notes = clips(folder, "one", 9).notes
    assert any("Of several files of one name the most exact" in note and "a.npz" in note for note in notes)
    assert any("Left out: 1 videos that have fewer than 4 frames" in note for note in notes)


def test_what_is_no_set_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match="holds no video of at least 64 frames"):
        VideoSet(folder, 64, 1, DEFAULT_LIMITS, clips=2, choice="one")
    np.save(folder / "c.npy", np.zeros((9, 8, 8, 3), np.uint8))
    with pytest.raises(TrivdError, match=r"c\.npy is 8 x 8 pixels but the truth 16 x 16"):
        clips(folder, "one", 9)
    assert VideoSet(folder, 4, 1, DEFAULT_LIMITS, clips=9, choice="one", resolution=12).evaluation_clips == 3


def by_stylegan_v(real: Array, fake: Array) -> float:
    """frechet_video_distance.py and FeatureStats: raw moments over N, scipy's square root."""
    means = [x.mean(axis=0) for x in (real, fake)]
    covariances = [x.T @ x / len(x) - np.outer(m, m) for x, m in zip((real, fake), means, strict=True)]
    root = scipy.linalg.sqrtm(covariances[1] @ covariances[0])
    return float(((means[0] - means[1]) ** 2).sum() + np.real(np.trace(covariances[0] + covariances[1] - 2 * root)))


def by_videogpt(real: Array, fake: Array) -> float:
    """fvd.py of VideoGPT and TATS: covariances over N - 1, square roots by singular values, small ones left as is."""

    def root(matrix: Array) -> Array:
        u, s, v = np.linalg.svd(matrix)
        return np.asarray(u @ np.diag(np.where(s < 1e-10, s, np.sqrt(s))) @ v)

    first, second = np.cov(fake.T), np.cov(real.T)
    half = root(first)
    trace = np.trace(first + second) - 2 * np.trace(root(half @ second @ half))
    return float(trace + ((fake.mean(axis=0) - real.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize(
    ("name", "plain"), [("stylegan-v", by_stylegan_v), ("videogpt", by_videogpt), ("tats", by_videogpt)]
)
def test_distances_are_those_of_the_other_repositories(name: SetProtocolName, plain: object) -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(60, 5)), rng.normal(0.3, 1.4, size=(40, 5))
    assert callable(plain)
    assert frechet_distance(real, fake, ddof=SET_PROTOCOLS[name].ddof) == pytest.approx(plain(real, fake), rel=1e-9)


def evaluated(truth: Path, made: Path, report: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    monkeypatch.setattr(video_sets, "choose_network", lambda *_, **__: Means())
    return evaluate_folder_set(
        made,
        truth,
        "stylegan-v",
        EvaluationConfig(clips=2_048, batch_size=4),
        limits=DEFAULT_LIMITS,
        resolution=None,
        device=torch.device("cpu"),
        report=report,
        progress=lambda *_: None,
    )


def test_two_folders_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("truth", 9), ("made", 7)):
        (tmp_path / name).mkdir()
        for number in range(count):
            np.save(
                tmp_path / name / f"{name}-{number}.npy", rng.integers(256, size=(20, SIZE, SIZE, 3), dtype=np.uint8)
            )
    report = tmp_path / "made" / "report.json"
    evaluation = evaluated(tmp_path / "truth", tmp_path / "made", report, monkeypatch)
    assert read_evaluation(report) == evaluation
    assert "7 clips of 16 frames against 9 true ones, no pairs" in json.loads(report.read_text())["protocol_line"]
    true, made = (
        np.stack([found.evaluation_clip(number).video for number in range(len(found))]).mean(axis=(2, 3, 4))
        for found in (
            VideoSet(tmp_path / "truth", 16, 1, DEFAULT_LIMITS, clips=2_048, choice="one"),
            VideoSet(tmp_path / "made", 16, 1, DEFAULT_LIMITS, clips=2_048, choice="first"),
        )
    )
    figure = evaluation.figure(Means.distance)
    assert figure.model.mean == pytest.approx(frechet_distance(true, made, ddof=0), rel=1e-4)
    assert (figure.copy, figure.interval is None) == (None, False)
    assert {one.name for one in evaluation.figures} == {
        Means.distance, Means.inception, "sharpness [grey levels / pixel]", "motion magnitude [grey levels / frame]",
    }  # fmt: skip
    assert any("gives 7 clips, where 2,048 were wanted" in line for line in evaluation.warnings)
    assert not list(report.parent.glob(".*partial"))


def test_clips_that_cannot_be_read_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("truth", 6), ("made", 5)):
        (tmp_path / name).mkdir()
        for number in range(count):
            np.save(tmp_path / name / f"{number}.npy", rng.integers(256, size=(16, SIZE, SIZE, 3), dtype=np.uint8))
    read = VideoSet.evaluation_clip

    def broken(clips: VideoSet, index: int) -> Clip:
        if clips.folder.name == "made" and index == 3:
            raise UnreadableVideo(tmp_path / "made" / "3.npy", "truncated")
        return read(clips, index)

    monkeypatch.setattr(VideoSet, "evaluation_clip", broken)
    evaluation = evaluated(tmp_path / "truth", tmp_path / "made", tmp_path / "report.json", monkeypatch)
    counts = (evaluation.protocol.clips, evaluation.protocol.best_of_clips, evaluation.protocol.unreadable)
    assert counts == (4, 6, 1)
    assert any("3.npy cannot be used" in line for line in evaluation.warnings)
