"""Which files of people's folders are scored: what `trivd predict` writes, several files of a name, arrays of samples;
and that all of them are read before any is scored."""

import ast
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trivd.config import Config, EvaluationConfig, to_dict
from trivd.evaluation.evaluate import HeldOut, evaluate
from trivd.evaluation.outcome import Evaluation
from trivd.evaluation.predictions.subject import PredictionFiles
from trivd.evaluation.scorer import Clips
from trivd.evaluation.subjects import Progress, Subject
from trivd.models.generator import Generator
from trivd.pictures.draw import save_gif, save_mp4, save_png
from trivd.prediction.futures import write_futures
from trivd.prediction.predictor import Predictor
from trivd.prediction.sampling import Sampling
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import to_pixels

Videos = NDArray[np.uint8]
GIVEN, FRAMES, SIZE, SAMPLES = 2, 5, 32, 11  # as of the tests' tiny model; sample-10 comes after sample-2
NAMES = ("a", "b")


def smooth(seed: int, frames: int = FRAMES, size: int = SIZE) -> Videos:
    """A clip that encoders keep well."""
    coarse = np.random.default_rng(seed).integers(60, 200, (frames, size // 8, size // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("truth")
    for seed, name in enumerate(NAMES):
        np.save(folder / f"{name}.npy", smooth(seed))
    return folder


@pytest.fixture(scope="module")
def predictor(make_generator: Callable[..., Generator], tiny_config: Callable[..., Config]) -> Predictor:
    history = {"data": "", "step": 0, "config": to_dict(tiny_config())}
    predictor = Predictor(make_generator(predicted_frames=3, recurrent_resolutions=(8,)), history)
    predictor.dtype = torch.float32
    return predictor


@pytest.fixture(scope="module")
def predicted(predictor: Predictor, truth: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `trivd predict --npz` writes for each clip."""
    folder = tmp_path_factory.mktemp("predicted")
    for name in NAMES:
        list(write_futures(predictor, truth / f"{name}.npy", folder / name, Sampling(SAMPLES), start=0, npz=True))
    return folder


def without(folder: Path, *patterns: str) -> Path:
    for pattern in patterns:
        for path in folder.rglob(pattern):
            path.unlink()
    return folder


@pytest.fixture
def copied(predicted: Path, tmp_path: Path) -> Path:

    return Path(shutil.copytree(predicted, tmp_path / "predicted"))


def futures(files: PredictionFiles, samples: int = SAMPLES) -> Videos:
    """(samples, clips, T, H, W, C) as they are scored."""
    clips = Clips([*range(len(files))], torch.zeros(0), torch.zeros(0), torch.zeros(0))
    return np.stack([to_pixels(video).numpy() for video in files.futures(clips, samples, 0)])


def expected(predictor: Predictor, truth: Path) -> Videos:
    """The same, from the model itself."""
    clips = [np.load(truth / f"{name}.npy")[:GIVEN] for name in NAMES]
    return np.stack([predictor.predict(clip, SAMPLES) for clip in clips], axis=1)


def test_what_predict_writes_is_scored_exactly(predictor: Predictor, predicted: Path, truth: Path) -> None:
    files = PredictionFiles(predicted, truth, GIVEN)
    assert (len(files), files.samples, files.frames) == (2, SAMPLES, FRAMES)
    assert files.notes == []
    assert np.array_equal(futures(files), expected(predictor, truth))
    assert np.array_equal(futures(files, 3), expected(predictor, truth)[:3])


def test_without_arrays_its_videos_are_reduced_to_their_size(predictor: Predictor, copied: Path, truth: Path) -> None:
    exact = expected(predictor, truth).astype(int)
    for kind, factor, patterns in (("mp4", 8, ["*.npz"]), ("gif", 4, ["*.mp4"])):
        files = PredictionFiles(without(copied, *patterns), truth, GIVEN)
        assert files.samples == SAMPLES
        assert f"are {factor} times as large as the truth" in files.notes[0]
        error = np.abs(futures(files).astype(int) - exact).mean(axis=(1, 2, 3, 4, 5))
        assert (error < 12).all(), kind  # what is lost to colours at half the size, or to 256 colours
        others = np.abs(np.roll(futures(files), 1, axis=0).astype(int) - exact).mean(axis=(1, 2, 3, 4, 5))
        assert (error < others).all(), kind  # sample by sample


def test_the_futures_of_one_clip_may_be_named_themselves(copied: Path, truth: Path, tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match="a holds the futures of one clip, but there are 2 true ones"):
        PredictionFiles(copied / "a", truth, GIVEN)
    (tmp_path / "one").mkdir()
    np.save(tmp_path / "one" / "other name.npy", smooth(0))
    assert PredictionFiles(copied / "a", tmp_path / "one", GIVEN).samples == SAMPLES


@pytest.mark.parametrize("kind", ["npz", "npz of one", "npy"])
def test_one_array_may_hold_all_samples(predictor: Predictor, truth: Path, tmp_path: Path, kind: str) -> None:
    exact = expected(predictor, truth)
    for number, name in enumerate(NAMES):
        own = exact[:, number]
        match kind:
            case "npz":
                np.savez_compressed(tmp_path / f"{name}.npz", past=smooth(0)[:2], futures=own)
            case "npz of one":
                np.savez(tmp_path / f"{name}.npz", anything=own)
            case "npy":
                np.save(tmp_path / f"{name}.npy", own)
    files = PredictionFiles(tmp_path, truth, GIVEN)
    assert files.samples == SAMPLES
    assert np.array_equal(futures(files), exact)


def test_grey_samples_are_scored_as_grey(truth: Path, tmp_path: Path) -> None:
    grey = np.stack([smooth(seed, 3)[..., :1] for seed in range(2)])
    for name in NAMES:
        np.save(tmp_path / f"{name}.npy", grey)
    assert np.array_equal(futures(PredictionFiles(tmp_path, truth, GIVEN), 2)[:, 0], grey.repeat(3, axis=-1))


def test_of_several_files_of_a_name_the_most_exact_is_scored(truth: Path, tmp_path: Path) -> None:
    clips = {suffix: smooth(number + 10) for number, suffix in enumerate(("npy", "pictures", "mp4", "gif"))}
    for name in NAMES:
        np.save(tmp_path / f"{name}.npy", clips["npy"])
        for number, frame in enumerate(clips["pictures"]):
            save_png(tmp_path / name / f"{number}.png", frame)
        save_gif(tmp_path / f"{name}.gif", clips["gif"], 8)
    for kind in ("npy", "pictures", "gif"):
        files = PredictionFiles(tmp_path, truth, GIVEN)
        shown = futures(files, 1)[0, 0]
        assert np.abs(shown.astype(int) - clips[kind][GIVEN:]).mean() < 12, kind
        assert len(files.notes) == (kind != "gif")
        if kind == "npy":
            assert f"2 times; the first: {tmp_path / 'a.npy'}" in files.notes[0]
            without(tmp_path, "*.npy")
        else:
            without(tmp_path, "*.png")
            for name in NAMES:
                if (tmp_path / name).exists():
                    (tmp_path / name).rmdir()


def test_of_the_truth_too(predicted: Path, truth: Path, tmp_path: Path) -> None:

    both = Path(shutil.copytree(truth, tmp_path / "both"))
    save_gif(both / "a.gif", smooth(7), 8)
    files = PredictionFiles(predicted, both, GIVEN)
    assert np.array_equal(files.evaluation_clip(0).video, smooth(0))
    assert "1 times; the first:" in files.notes[0]
    save_mp4(both / "c.mp4", smooth(7), 8)
    save_mp4(both / "c.mkv", smooth(7), 8)
    save_mp4(both / "c.avi", smooth(7), 8)
    with pytest.raises(TrivdError, match=r"holds c\.avi and c\.mkv; keep one video of each name"):
        PredictionFiles(predicted, both, GIVEN)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damaged(path: Path) -> None:
    """Its frames, in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)


def other_length(path: Path) -> None:
    np.savez(path, futures=np.zeros((SAMPLES, 4, SIZE, SIZE, 3), np.uint8))


def other_size(path: Path) -> None:
    np.savez(path, futures=np.zeros((SAMPLES, 3, SIZE, SIZE - 8, 3), np.uint8))


def other_type(path: Path) -> None:
    np.savez(path, futures=np.zeros((SAMPLES, 3, SIZE, SIZE, 3), np.float32))


def picture_damaged(path: Path) -> None:
    path.unlink()
    for number, frame in enumerate(smooth(3)):
        save_png(path / f"{number}.png", frame)
    damaged(path / "3.png")


def score(files: PredictionFiles, samples: int, report: Path, progress: Progress) -> Evaluation:
    subject = Subject(files, "", GIVEN, notes=files.notes, check=files.check_readable)
    settings = EvaluationConfig(clips=2, best_of_clips=2, samples=samples)
    held_out = HeldOut(files, "", 1)
    return evaluate(subject, held_out, settings, None, device=torch.device("cpu"), report=report, progress=progress)


@pytest.mark.parametrize(
    ("which", "spoil", "message"),
    [
        ("predicted/b/futures.npz", cut_off, "b/futures.npz"),
        ("predicted/b/futures.npz", damaged, "b/futures.npz cannot be used as a video"),
        (
            "predicted/b/futures.npz",
            other_length,
            "b/futures.npz has 4 frames; a prediction has the truth's 5, or the 3",
        ),
        ("predicted/b/futures.npz", other_size, "b/futures.npz is 24 x 32 pixels but the truth 32 x 32"),
        ("predicted/b/futures.npz", other_type, "b/futures.npz cannot be used as a video"),
        ("truth/b.npy", cut_off, "b.npy cannot be used as a video"),
        ("truth/b.npy", picture_damaged, "cannot be used as a video: damaged image"),
    ],
)
def test_all_files_are_read_before_any_is_scored(
    copied: Path, truth: Path, tmp_path: Path, which: str, spoil: Callable[[Path], None], message: str
) -> None:

    shutil.copytree(truth, tmp_path / "truth")
    spoil(tmp_path / which)
    if spoil is picture_damaged:
        (tmp_path / which).rename(tmp_path / "truth" / "b")
    done: list[str] = []

    with pytest.raises(TrivdError, match=message):
        score(
            PredictionFiles(copied, tmp_path / "truth", GIVEN),
            SAMPLES,
            tmp_path / "report.json",
            lambda part, number, of: done.append(part),
        )
    assert set(done) <= {"reading all files"}
    assert not list(tmp_path.glob("*report*"))


def test_headers_of_arrays_are_read_one_at_a_time(
    predicted: Path, truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are opened in threads, in which Python's parser of literals fails now and then (SystemError)."""
    parse, running, most = ast.literal_eval, [0], [0]

    def parsed(text: str) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.01)  # for other threads
        running[0] -= 1
        return parse(text)

    monkeypatch.setattr(ast, "literal_eval", parsed)
    assert PredictionFiles(predicted, truth, GIVEN).samples == SAMPLES
    assert most == [1]


def test_notes_come_with_the_figures(copied: Path, truth: Path, tmp_path: Path) -> None:
    files = PredictionFiles(without(copied, "*.npz"), truth, GIVEN)
    evaluation = score(files, 2, tmp_path / "report.json", lambda part, number, of: None)
    assert evaluation.warnings == files.notes
