"""`trivd evaluate`: splits, training clips of other data, copies without a model, and models saved with statistics."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from run_checks import Command
from video_files import write_video

from trivd.config import DataConfig
from trivd.data.clips import open_clips
from trivd.data.store.prepare import write_store
from trivd.evaluation.standing import refresh_standing_statistics
from trivd.prediction.predictor import Predictor

FEW = ("--features", "none", "--clips", "3", "--best-of-clips", "2")
FEW_STATISTICS = ("--standing-batches", "1", "--standing-batch-size", "2")
PROTOCOL_CLIPS = 16  # frames of the paper's clips


def write_splits(root: Path, *splits: str, frames: int = 5, size: int = 32) -> Path:
    """Three videos for each split, in a folder of its name; they differ."""
    for number, split in enumerate(splits):
        rng = np.random.default_rng(number)
        (root / split).mkdir(parents=True)
        for name in "abc":
            np.save(root / split / f"{name}.npy", rng.integers(256, size=(frames, size, size, 3), dtype=np.uint8))
    return root


def copied_psnr(folder: Path, given: int) -> float:
    """The PSNR of copies of the last given frame, over all videos and predicted frames of a folder."""

    def one(video: NDArray[np.uint8]) -> float:
        error = (video[given:].astype(float) - video[given - 1].astype(float)) ** 2
        return float((10 * np.log10(255**2 / error.mean(axis=(1, 2, 3)))).mean())

    return float(np.mean([one(np.load(file)) for file in sorted(folder.glob("*.npy"))]))


def report(folder: str | Path = ".") -> dict[str, object]:
    values: dict[str, object] = json.loads(Path(folder, "report.json").read_text())
    return values


def copy_psnr(values: dict[str, object]) -> float:
    (figure,) = (one for one in values["figures"] if one["name"] == "PSNR [dB], one sample")  # type: ignore[attr-defined]
    return float(figure["copy"])


@pytest.mark.parametrize(
    ("option", "counted"), [("train", "train"), ("validation", "val"), ("test", "test"), (None, "val")]
)
def test_the_split_that_is_asked_for_counts(
    evaluate: Command, copied: Path, tmp_path: Path, option: str | None, counted: str
) -> None:
    data = write_splits(tmp_path / "data", "train", "val", "test")
    few = ("--features", "none", "--clips", "3", "--best-of-clips", "3", "--samples", "1")
    status, out, err = evaluate(copied, data, *few, *([] if option is None else ["--split", option]))
    assert (status, err) == (0, "")
    assert f"data, {option or 'validation'} split" in out
    assert copy_psnr(report(copied)) == pytest.approx(copied_psnr(data / counted, 2), abs=1e-4)


@pytest.mark.parametrize("store", [False, True])
def test_a_split_that_is_not_there_is_refused(evaluate: Command, copied: Path, tmp_path: Path, store: bool) -> None:
    data = write_splits(tmp_path / "data", "train", "test")
    if store:
        write_store(data, tmp_path / "store", resolution=32, channels=3, data=DataConfig(), workers=0, progress=None)
        data = tmp_path / "store"
    status, _, err = evaluate(copied, data, *FEW, "--split", "validation")
    assert status == 2
    assert f"{data} has no validation split, only train and test" in err.replace("\n", " ")
    status, out, _ = evaluate(copied, data, *FEW)  # the one that is held out will do if none is asked for
    assert status == 0
    assert f"{data.name}, test split" in out


def test_what_the_data_hold_is_said_before_they_are_scored(evaluate: Command, tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", "train", "test", frames=PROTOCOL_CLIPS, size=64)
    (data / "test" / "d.mp4").write_bytes(b"damaged")
    status, out, _ = evaluate("copy", data, "--features", "none")
    assert status == 0
    assert f"{data}, test: 3 videos, 48 frames" in out
    assert "skipped test/d.mp4" in out


def test_moving_digits_has_no_test_split(evaluate: Command, copied: Path) -> None:
    status, _, err = evaluate(copied, "--split", "test")
    assert status == 2
    assert "moving-digits has no test split, only train and validation" in err.replace("\n", " ")


def test_training_clips_of_other_data(evaluate: Command, copied: Path, tmp_path: Path) -> None:
    """For a model that is scored on data of which there is only the test split."""
    data, other = write_splits(tmp_path / "data", "train", "test"), write_splits(tmp_path / "other", "train", "test")
    assert evaluate(copied, data, *FEW)[0] == 0
    plain = report(copied)
    for video in (data / "train").iterdir():
        np.save(video, np.zeros((1, 32, 32, 3), np.uint8))  # too short
    status, _, err = evaluate(copied, data, *FEW)
    assert status == 2
    assert "Standing statistics need training clips, here or in --standing-data." in err.replace("\n", " ")
    status, out, _ = evaluate(copied, data, *FEW, "--standing-data", other)
    assert status == 0
    assert f"standing statistics 2 x 2 of training clips of {other}" in out
    given = report(copied)
    # `other` has the training videos that `data` had.
    assert given["figures"] == plain["figures"]
    status, _, err = evaluate(copied, data, *FEW, "--standing-data", tmp_path / "missing")
    assert (status, "missing is not a folder of videos" in err.replace("\n", " ")) == (2, True)


def test_copies_need_data_alone(evaluate: Command, tmp_path: Path) -> None:
    """The paper's clips, 5 -> 11 frames at 64 pixels; no model, no training clips."""
    data = write_splits(tmp_path / "data", "train", "test", frames=PROTOCOL_CLIPS, size=64)
    for video in (data / "train").iterdir():
        video.write_bytes(b"")
    status, out, err = evaluate("copy", data, "--features", "none", "--split", "test")
    assert (status, err) == (0, "")
    values = report()
    assert copy_psnr(values) == pytest.approx(copied_psnr(data / "test", 5), abs=1e-4)
    assert "copies of the last given frame" in out
    assert "standing statistics" not in out
    table = Path("report.md").read_text()
    assert "| figure | copy the last frame | true clips |" in table
    assert "one sample |" not in table.split("predicted frame", 1)[1]
    for series in values["curves"].values():  # type: ignore[attr-defined]
        assert "copy the last frame" in series
        assert "one sample" not in series


def test_copies_score_as_beside_a_model(evaluate: Command, tmp_path: Path) -> None:
    """With a feature network: the distance is that of the copies beside any model."""
    words = ("moving-digits", "--clips", "6", "--best-of-clips", "2", "--features", "moving-digits")
    assert evaluate("moving-digits", *words, "--samples", "1", *FEW_STATISTICS, "--out", "model.json")[0] == 0
    assert evaluate("copy", *words, "--out", "copy.json")[0] == 0
    model, copies = (json.loads(Path(name).read_text())["figures"] for name in ("model.json", "copy.json"))
    assert [one["copy"] for one in copies] == [one["copy"] for one in model]
    assert copies[0]["name"] == "FVD (moving-digits)"
    assert copies[0]["model"]["mean"] == pytest.approx(copies[0]["copy"], rel=1e-4)


def write_kinetics(root: Path) -> Path:
    """Three clips of each split, and DeepMind's lists; as on CVDF's server, that of the test split has no labels."""
    columns = "youtube_id,time_start,time_end,split"
    for number, (folder, split) in enumerate((("train", "train"), ("val", "validate"), ("test", "test"))):
        rng = np.random.default_rng(number)
        (root / folder).mkdir(parents=True)
        rows = [f"label,{columns}" if split != "test" else columns]
        for letter in "ABC":
            clip = f"{letter * 10}{number}"
            rows.append(("zumba," if split != "test" else "") + f"{clip},0,10,{split}")
            video = np.repeat(rng.integers(256, size=(PROTOCOL_CLIPS, 8, 8, 3), dtype=np.uint8), 8, axis=1)
            write_video(root / folder / f"{clip}_000000_000010.mp4", np.repeat(video, 8, axis=2))
        (root / f"{split}.csv").write_text("\n".join(rows))
    return root


@pytest.mark.parametrize(
    ("protocol", "split"),
    [("kinetics600-validation", "validation"), ("kinetics600", "test"), ("kinetics600-train", "train")],
)
def test_protocols_of_kinetics(evaluate: Command, tmp_path: Path, protocol: str, split: str) -> None:
    data = write_kinetics(tmp_path / "k600")
    status, out, err = evaluate("copy", data, "--protocol", protocol, "--features", "none")
    assert (status, err) == (0, "")
    values = report()["protocol"]
    assert isinstance(values, dict)
    assert (values["split"], values["clips"], values["runs"], values["samples"]) == (split, 3, 1, 1)
    assert (values["data"], values["predicted_frames"]) == (f"k600 by protocol {protocol}", 11)
    assert f"{protocol}: Kinetics-600" in out
    if split == "validation":
        assert "copies of the last frame have FVD 330, D.3" in out.replace("\n", " ")
    status, out, _ = evaluate("copy", data, "--protocol", protocol, "--features", "none", "--split", "train")
    assert (status, report()["protocol"]["split"]) == (0, "train")  # type: ignore[index]


def test_a_protocol_does_not_take_another_split(evaluate: Command, tmp_path: Path) -> None:
    data = write_kinetics(tmp_path / "k600")
    (data / "validate.csv").unlink()
    status, _, err = evaluate("copy", data, "--protocol", "kinetics600-validation", "--features", "none")
    assert status == 2
    assert f"{data} has no validation split, only train and test" in err.replace("\n", " ")


def test_what_does_not_belong_to_copies(evaluate: Command, tmp_path: Path) -> None:
    for words, message in (
        ((), "Name the data too: trivd evaluate copy DATA"),
        (
            ("moving-digits", "--samples", "2"),
            '--samples belongs to the evaluation of a model; leave it out with "copy"',
        ),
        (("moving-digits", "--truncation", "0.8"), "truncation belongs to the evaluation of a model"),
        (("moving-digits", "--truth", tmp_path), "--truth belongs to --predictions"),
    ):
        status, _, err = evaluate("copy", *words)
        assert (status, message in err.replace("\n", " ")) == (2, True), err


def test_a_model_is_saved_with_the_statistics_of_its_evaluation(
    evaluate: Command, trivd_command: Command, copied: Path, tmp_path: Path
) -> None:
    """Its predictions with that truncation, then, are those that were scored."""
    clip = tmp_path / "clip.npy"
    np.save(clip, np.random.default_rng(0).integers(256, size=(2, 32, 32, 3), dtype=np.uint8))
    words = (copied, *FEW, "--truncation", "0.8", "--save-model", tmp_path / "saved")
    assert evaluate(*words)[0] == 0
    original, saved = Predictor.from_pretrained(copied), Predictor.from_pretrained(tmp_path / "saved")
    assert (original.statistics_truncation, saved.statistics_truncation) == (None, 0.8)
    train = open_clips("moving-digits", "train", original.trained_with.data, original.config)
    settings = replace(original.trained_with.evaluation, truncation=0.8)
    refresh_standing_statistics(original.generator, train, settings, original.dtype)
    for (name, expected), buffer in zip(original.generator.named_buffers(), saved.generator.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, rtol=1e-3, atol=1e-4, msg=name)

    def said(model: Path, *options: object) -> bool:
        status, out, err = trivd_command("predict", clip, "--model", model, "--samples", "1", *options)
        assert (status, err) == (0, "")
        return "the standing statistics of the model were collected" in out.replace("\n", " ")

    truncated = ("--truncation", "0.8", "--out")
    assert not said(copied, "--out", "1")
    assert said(copied, *truncated, "2")
    assert not said(tmp_path / "saved", *truncated, "3")
    assert said(tmp_path / "saved", "--out", "4")
    status, _, err = evaluate(*words)
    assert (status, "saved is not empty; choose another folder for the model" in err.replace("\n", " ")) == (2, True)
