"""The command line, from words to files: what it does, what it refuses, and with which status it ends."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_checks import Command
from safetensors.torch import load_file

import trivd
from trivd.commands.main import main
from trivd.data.formats.decode import probe, read_frames
from trivd.pictures.draw import save_mp4, save_png
from trivd.presets import PRESETS
from trivd.runtime.pixels import Pixels
from trivd.training.run import Run

DATA = "moving-digits"
TINY_OPTIONS = """
--model.resolution 32 --model.conditioning-frames 2 --model.predicted-frames 3 --model.generator-channels 2
--model.discriminator-channels 2 --model.latent-dim 4 --model.embedding-dim 4 --model.recurrent-resolutions 8
--discriminator.frames 2 --data.workers 0 --data.digits-clips 16
--training.steps 3 --training.batch-size 2 --training.precision float32 --training.device cpu --training.ema-start 2
--training.log-every 1 --training.sample-every 3 --training.evaluate-every 3 --training.checkpoint-every 3
--evaluation.clips 4 --evaluation.best-of-clips 2 --evaluation.samples 2 --evaluation.batch-size 2
--evaluation.standing-batches 1 --evaluation.standing-batch-size 2
"""
TINY = TINY_OPTIONS.split()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written without --out goes into the test's folder, and lines are not broken."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")


def moving(frames: int, height: int, width: int, seed: int) -> Pixels:
    """A bright square that moves over noise."""
    rng = np.random.default_rng(seed)
    video = np.broadcast_to(rng.integers(0, 80, (height, width, 3), dtype=np.uint8), (frames, height, width, 3)).copy()
    for t in range(frames):
        video[t, 5 + t : 15 + t, 8 + t : 20 + t] = 220
    return video


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of real MP4 files, of 12 frames and more."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(4):
        save_mp4(root / "ab"[number % 2] / f"{number}.mp4", moving(12 + number, 40, 48, number), 10.0)
    return root


# Refusals.


def refused(result: tuple[int, str, str], *parts: str) -> None:
    """Status 2 and one sentence on stderr."""
    status, _, err = result
    assert status == 2
    assert err.startswith("trivd: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--preset", "table4"], ["no preset table4", "table3", "quickstart"]),
        (["--discriminator.frames", "12"], ["discriminator.frames is 12", "only 11 frames are predicted"]),
        (["--model.unit", "conv_gru", "--model.links", "2"], ["model.links", "k_traj_gru"]),
        (["--model.resolution", "48"], ["model.resolution is 48", "32, 64, 128 or 256"]),
        (["--training.reconstruction-samples", "2"], ["reconstruction_samples has no effect"]),
        (["--training.diversity", "1"], ["training.diversity", "training.reconstruction_samples to 2 or more"]),
        ([*TINY, "--training.device", "cuda:77"], ["training.device is cuda:77"]),
    ],
)
def test_contradictions_are_one_sentence(trivd_command: Command, words: list[str], parts: list[str]) -> None:
    refused(trivd_command("train", DATA, *words), *parts)
    assert not Path("runs").exists()


@pytest.mark.parametrize("word", ["--model.chanels", "--trainig.steps", "--frobnicate"])
def test_unknown_options_are_named(trivd_command: Command, word: str) -> None:
    status, _, err = trivd_command("train", DATA, word, "3")
    assert status == 2
    assert word in err
    assert "Unrecognized" in err


@pytest.mark.parametrize(
    "words",
    [
        ["train"],
        ["predict", "clip.mp4"],
        ["fly"],
        [],
        ["train", DATA, "--training.steps", "many"],
        ["train", DATA, "--model.unit", "gru"],
    ],
)
def test_what_cannot_be_read_ends_with_status_2(trivd_command: Command, words: list[str]) -> None:
    status, out, err = trivd_command(*words)
    assert status == 2
    assert "Traceback" not in out + err
    assert err


def test_missing_data_are_named(trivd_command: Command) -> None:
    refused(trivd_command("train", "nowhere", *TINY), "nowhere is not a folder of videos", DATA)
    assert not Path("runs").exists()
    refused(trivd_command("prepare", "nowhere", "store"), "nowhere is not a folder")
    refused(trivd_command("predict", "clip.mp4", "--model", "no/where/at/all"), "There is no model at")
    refused(trivd_command("evaluate", "nomodel"), "There is no model at nomodel")
    refused(trivd_command("report", "norun"), "norun is not the folder of a run")


def test_short_videos_are_counted(trivd_command: Command, videos: Path) -> None:
    result = trivd_command("train", videos, *TINY, "--data.stride", "10")
    refused(result, "no usable video", "too short", "41 frames")


def test_the_model_must_have_the_classes_of_the_data(trivd_command: Command, videos: Path) -> None:
    refused(trivd_command("train", videos, *TINY, "--model.classes", "3"), "3 classes but", "--model.classes 2")


# Plans.


def test_a_dry_run_says_what_a_step_costs_and_writes_nothing(trivd_command: Command, tmp_path: Path) -> None:
    status, out, err = trivd_command("train", DATA, *TINY, "--dry-run", "--out", "run")
    assert status == 0
    assert err == ""
    for text in (
        "tsru_p, stronger",
        "parameters of G with E",
        "discriminator small_frames",
        "FLOPs of 2 D updates",
        "GiB",
    ):
        assert text in out, text
    assert list(tmp_path.iterdir()) == []


def test_presets_are_listed(trivd_command: Command) -> None:
    status, out, _ = trivd_command("presets")
    assert status == 0
    for name, preset in PRESETS.items():
        assert re.search(rf"{name} .*{re.escape(preset.about[:20])}", out), name


# From training to the page.


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run made by the command, not to be changed."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    with pytest.raises(SystemExit) as ended:
        main(["train", DATA, *TINY, "--out", str(folder)])
    assert ended.value.code == 0
    return folder


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def test_training_leaves_all_its_files(run_folder: Path) -> None:
    names = {str(path.relative_to(run_folder)) for path in run_folder.rglob("*") if path.is_file()}
    for name in (
        "run.json",
        "log.jsonl",
        "best/model.safetensors",
        "best/config.json",
        "last/model.safetensors",
        "checkpoints/step-00000003/state.safetensors",
        "samples/step-00000000.png",
        "samples/step-00000003.png",
    ):
        assert name in names, name
    assert any(name.startswith("tensorboard/events") for name in names)
    config, data = Run(run_folder).read()
    assert data == DATA
    assert config.model.predicted_frames == 3
    assert config.training.steps == 3
    rows = Run(run_folder).log_rows()
    assert {row["step"] for row in rows if "loss/generator/crop" in row} == {1, 2, 3}
    assert {row["step"] for row in rows if "score/validation/ssim" in row} == {0, 3}


def test_training_says_what_it_does(trivd_command: Command) -> None:
    status, out, err = trivd_command("train", DATA, *TINY)
    assert status == 0
    assert err == ""
    for text in (
        "train: moving-digits, train: 16 clips, 10 classes",
        "Starting runs/moving-digits-default on cpu in float32.",
        "step 3/3",
        "images/s",
        "Done: 3 steps",
    ):
        assert text in out, text
    status, out, _ = trivd_command("train", DATA, *TINY)
    assert status == 0
    assert "runs/moving-digits-default is complete: 3 steps." in out
    refused(
        trivd_command("train", DATA, *TINY, "--training.seed", "4"), "other settings: training.seed", "another --out"
    )


def test_train_evaluate_report(trivd_command: Command, run: Path) -> None:
    status, out, err = trivd_command("evaluate", run, "--samples", "3", "--clips", "5", "--truncation", "0.8")
    assert status == 0
    assert err == ""
    assert "moving-digits, validation split, 32 pixels" in out
    assert "FVD (moving-digits)" in out
    assert "FVD (moving-digits) of 5 clips is biased upwards" in out
    assert "copy the last frame" in out
    assert "end-point error" in out
    values = json.loads((run / "report.json").read_text())
    assert values["protocol"]["clips"] == 5
    assert values["protocol"]["samples"] == 3
    assert values["protocol"]["truncation"] == 0.8
    assert values["protocol_line"] in out
    assert len(values["curves"]["ssim"]["best of 3"]) == len(values["curves"]["psnr"]["copy the last frame"]) == 3
    assert values["protocol_line"] in (run / "report.md").read_text()
    assert (run / "report.png").read_bytes().startswith(b"\x89PNG")

    status, out, _ = trivd_command("report", run)
    assert status == 0
    assert f"Written: {run / 'index.html'}" in out
    page = (run / "index.html").read_text()
    for heading in ("Predicted futures", "Motion fields", "Scores on held-out clips", "Training"):
        assert f">{heading}<" in page
    assert values["protocol_line"] in page


def test_an_evaluation_can_be_repeated_and_put_elsewhere(trivd_command: Command, run: Path) -> None:
    for name in ("one.json", "two.json"):
        assert trivd_command("evaluate", run / "last", DATA, "--out", name)[0] == 0
    assert Path("one.json").read_bytes() == Path("two.json").read_bytes()
    assert json.loads(Path("one.json").read_text())["protocol"]["samples"] == 2  # as in the model's training
    refused(trivd_command("evaluate", run, "--samples", "0"), "evaluation.samples is 0")
    refused(trivd_command("evaluate", run, "--truncation", "-1"), "evaluation.truncation is -1")


def test_a_folder_of_videos_and_its_store_train_alike(trivd_command: Command, videos: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in videos.rglob("*")}
    words = [*TINY, "--training.steps", "2", "--model.classes", "2", "--data.validation-share", "0.3"]
    status, out, _ = trivd_command("train", videos, *words, "--out", "from-folder")
    assert status == 0
    assert "2 classes: a, b" in out
    status, out, err = trivd_command("prepare", videos, "store", "--resolution", "32", "--validation-share", "0.3")
    assert (status, err) == (0, "")
    assert "4 videos, 54 frames" in out
    assert trivd_command("train", "store", *words, "--out", "from-store")[0] == 0
    for model in ("best", "last"):
        tensors, stored = (load_file(Path(out, model, "model.safetensors")) for out in ("from-folder", "from-store"))
        assert all(torch.equal(tensors[name], stored[name]) for name in tensors)
    assert {path: path.stat().st_mtime_ns for path in videos.rglob("*")} == before
    refused(trivd_command("prepare", videos, "store"), "store exists and is not overwritten")
    # Models with classes predict and are scored without a word about flow, which videos do not have.
    status, out, _ = trivd_command("evaluate", "from-folder")
    assert status == 0
    assert "end-point" not in out
    assert json.loads(Path("from-folder", "report.json").read_text())["motion"] is None
    clip = next(videos.rglob("*.mp4"))
    narrow = ["--limits.max-frame-pixels", "100"]
    refused(trivd_command("evaluate", "from-folder", *narrow), "over limits.max_frame_pixels")
    refused(trivd_command("predict", clip, "--model", "from-folder", *narrow), "raise that limit if you trust it")
    refused(trivd_command("prepare", videos, "narrow", *narrow), "over limits.max_frame_pixels")
    assert trivd_command("predict", clip, "--model", "from-folder", "--label", "1", "--samples", "1")[0] == 0
    refused(
        trivd_command("predict", clip, "--model", "from-folder", "--label", "2", "--out", "other"),
        "Class 2 is unknown: the model has 2 classes",
    )
    assert trivd_command("report", "from-folder")[0] == 0


# Predictions.


def test_predict_on_a_video_of_another_size(trivd_command: Command, run_folder: Path, videos: Path) -> None:
    clip = videos / "a" / "0.mp4"
    status, out, err = trivd_command("predict", clip, "--model", run_folder)
    assert (status, err) == (0, "")
    assert "336 x 280 pixels, resized and centre-cropped to the model's 32 x 32." in out
    folder = Path("predictions", "0")
    assert {path.name for path in folder.glob("sample-*.mp4")} == {f"sample-{i}.mp4" for i in (1, 2, 3, 4)}
    assert probe(folder / "sample-4.mp4").frames == 5
    assert (folder / "grid.png").stat().st_size > 0
    refused(trivd_command("predict", clip, "--model", run_folder), "predictions/0 is not empty", "--out")


def test_predict_on_a_folder_of_images_equals_the_library(trivd_command: Command, run_folder: Path) -> None:
    video = moving(6, 32, 32, 3)
    for number, frame in enumerate(video):
        save_png(Path("images", f"frame-{number}.png"), frame)
    words = ["--model", run_folder, "--samples", "2", "--seed", "5", "--npz", "--out", "out"]
    status, out, _ = trivd_command("predict", "images", *words)
    assert status == 0
    assert "resized" not in out
    with np.load("out/futures.npz") as arrays:
        assert np.array_equal(arrays["past"], video[-2:])
        assert np.array_equal(arrays["futures"], trivd.load(run_folder).predict(video, samples=2, seed=5))


def test_predict_from_the_start_and_for_longer(trivd_command: Command, run_folder: Path) -> None:
    np.save("clip.npy", moving(6, 32, 32, 3))
    words = ["--model", run_folder, "--start", "0", "--frames", "7", "--samples", "1", "--truncation", "0", "--npz"]
    status, out, _ = trivd_command("predict", "clip.npy", *words, "--out", "out")
    assert status == 0
    assert "2 given frames, then 7 predicted ones" in out
    assert "samples and truth" in out
    with np.load("out/futures.npz") as arrays:
        assert arrays["futures"].shape == (1, 7, 32, 32, 3)
        assert np.array_equal(arrays["past"], moving(6, 32, 32, 3)[:2])
    assert len(read_frames(Path("out/sample-1.gif"), 0, 9, 1, short_side=None, channels=3)) == 9


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--start", "5"], ["--start 5 leaves fewer than 2 frames"]),
        (["--frames", "0"], ["0 frames"]),
        (["--samples", "0"], ["0 samples"]),
        (["--seed", "-1"], ["must not be negative"]),
        (["--truncation", "-1"], ["Truncation is -1.0"]),
        (["--label", "1"], ["Class 1 is unknown"]),
    ],
)
def test_predictions_that_cannot_be_are_one_sentence(
    trivd_command: Command, run_folder: Path, words: list[str], parts: list[str]
) -> None:
    np.save("clip.npy", moving(6, 32, 32, 3))
    refused(trivd_command("predict", "clip.npy", "--model", run_folder, *words, "--out", "out"), *parts)
    assert not Path("out").exists()


def test_clips_that_cannot_be_read_are_one_sentence(trivd_command: Command, run_folder: Path) -> None:
    Path("text.mp4").write_text("not a video")
    Path("notes.txt").write_text("nor this")
    for clip in ("text.mp4", "notes.txt", "nothing.mp4"):
        refused(trivd_command("predict", clip, "--model", run_folder), clip, "cannot be used as a video")


def test_an_interruption_ends_with_status_130(
    trivd_command: Command, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trivd.commands.report.write_run_page", interrupted)
    assert trivd_command("report", run_folder)[0] == 130
