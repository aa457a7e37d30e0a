"""`trivd evaluate` as a user types it: models, protocols, anybody's files, I3D's weights, and what is refused."""

import json
import logging
import signal
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from run_checks import Command

from trivd.commands.evaluate import Evaluate
from trivd.config import Config, DataConfig, EvaluationConfig, to_dict
from trivd.evaluation.networks.i3d_layout import variable_shapes
from trivd.evaluation.networks.weights.library import import_weights
from trivd.evaluation.protocols import PROTOCOLS, ProtocolName, with_protocol
from trivd.models.generator import Generator
from trivd.models.pretrained import save_generator
from trivd.presets import preset
from trivd.runtime.errors import TrivdError

FRAMES, GIVEN, SIZE = 10, 3, 16


def write_arrays(folder: Path, count: int, frames: int, seed: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        np.save(folder / f"{number}.npy", rng.integers(256, size=(frames, SIZE, SIZE, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[object]:
    """The options that name five predictions and their truth."""
    predictions = write_arrays(tmp_path / "theirs", 5, FRAMES, 0)
    truth = write_arrays(tmp_path / "truth", 5, FRAMES, 1)
    return ["--predictions", predictions, "--truth", truth, "--conditioning-frames", GIVEN]


def test_anybodys_predictions_are_scored(evaluate: Command, folders: list[object]) -> None:
    status, out, err = evaluate(*folders)
    assert (status, err) == (0, "")
    values = json.loads(Path("theirs/report.json").read_text())
    assert values["protocol"]["clips"] == 5
    assert values["protocol"]["predicted_frames"] == FRAMES - GIVEN
    assert "predictions" in values["protocol"]["subject"]
    assert not any("FVD" in figure["name"] for figure in values["figures"])  # no weights, no FVD
    assert [absent["name"] for absent in values["absent"]] == ["FVD", "IS", "LPIPS"]
    assert "trivd weights download" in out
    assert "| FVD | not computed: " in Path("theirs/report.md").read_text()
    assert len(values["curves"]["psnr"]["one sample"]) == FRAMES - GIVEN
    assert values["protocol_line"] in out
    assert values["protocol_line"] in Path("theirs/report.md").read_text()


@pytest.mark.parametrize(
    ("out", "beside"), [("a.json", "a"), ("truncation-0.8", "truncation-0.8"), ("scores.md", "scores.md")]
)
def test_each_report_has_files_of_its_own(evaluate: Command, folders: list[object], out: str, beside: str) -> None:
    status, said, _ = evaluate(*folders, "--out", out)
    assert status == 0
    assert json.loads(Path(out).read_text())["protocol_line"] in Path(f"{beside}.md").read_text()
    assert Path(f"{beside}.png").read_bytes().startswith(b"\x89PNG")
    assert f"{beside}.md, {beside}.png" in said


def test_unknown_i3d_weights_give_no_fvd(evaluate: Command, folders: list[object], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    variables = {
        name: rng.uniform(0.1, 0.2, shape).astype(np.float32) if name.endswith("variance")
        else (rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]) or 1)).astype(np.float32)
        for name, shape in variable_shapes().items()
    }  # fmt: skip
    weights = write_safetensors(tmp_path / "somebody.safetensors", variables)
    library = tmp_path / "i3d.safetensors"
    import_weights(weights, library)
    status, out, err = evaluate(*folders, "--features", "i3d", "--i3d-weights", library)
    assert (status, err) == (0, "")
    (name,) = (
        figure["name"]
        for figure in json.loads(Path("theirs/report.json").read_text())["figures"]
        if figure["name"].startswith("FVD")
    )
    assert name.startswith("FVD (unknown I3D weights ")
    assert f"{name} of 5 clips is biased upwards" in out
    assert "10 frames compared (given ones included)" in out
    status, _, err = evaluate(*folders, "--features", "i3d", "--i3d-weights", library, "--count-conditioning", "False")
    assert status == 2
    assert "Clips have 7 frames, but the feature network needs at least 9; take longer clips, or" in err


def write_safetensors(path: Path, variables: dict[str, np.ndarray]) -> Path:
    from safetensors.numpy import save_file

    save_file(variables, path)
    return path


def test_what_does_not_belong_together_is_refused(evaluate: Command, folders: list[object], trained_run: Path) -> None:
    def refused(message: str, *words: object) -> None:
        status, _, err = evaluate(*words)
        assert status == 2
        assert message in err.replace("\n", " ")
        assert "Traceback" not in err

    refused("Name a model's folder, or --predictions and --truth")
    refused("--predictions needs --truth", *folders[:2])
    refused("--truth belongs to --predictions", trained_run, *folders[2:])
    refused("--cut belongs to --predictions", trained_run, "--cut", "whole")
    refused("--runs belongs to the evaluation of a model", *folders, "--runs", 2)
    refused("--standing-batches belongs to", *folders, "--standing-batches", 2)
    refused("--motion-levels is of use on moving-digits alone", trained_run, folders[1], "--motion-levels", "all")
    refused("trivd: evaluation.clips is 0; it must be at least 1.", trained_run, "--clips", 0)
    refused("--samples is 2, but", *folders, "--samples", 2)
    refused("--conditioning-frames is 0", *folders[:-1], 0)
    refused("There are no I3D weights at missing.pt", *folders, "--i3d-weights", "missing.pt")
    refused("run `trivd weights download`", *folders, "--features", "i3d")
    refused("--protocol bair is about 1 -> 15 frames at 64 pixels, but the model predicts 2 -> 3", trained_run,
            "--protocol", "bair")  # fmt: skip
    refused("Frames are 16 x 16 pixels, but the moving-digits network", *folders, "--features", "moving-digits")


def test_a_model_without_warps_has_no_motion_levels(
    evaluate: Command, make_generator: Callable[..., Generator], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    history = {"data": "moving-digits", "step": 5, "config": to_dict(tiny_config())}
    save_generator(make_generator(unit="conv_gru"), tmp_path / "gru", history)
    status, _, err = evaluate(tmp_path / "gru", "--motion-levels", "all")
    assert (status, "its model.unit does not warp" in err) == (2, True), err


def test_frames_are_those_of_the_weights_whatever_the_history_says(
    evaluate: Command, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = copied / "best" / "config.json"
    values = json.loads(description.read_text())
    values["history"]["config"]["model"]["predicted_frames"] = 1_000
    description.write_text(json.dumps(values))
    status, out, _ = evaluate(copied, "--features", "none")
    assert status == 0
    assert "2 frames given, 3 predicted" in out


def test_every_setting_of_an_evaluation_is_an_option() -> None:
    assert {field.name for field in fields(EvaluationConfig)} <= {field.name for field in fields(Evaluate)}


SPOILT = Config(
    data=DataConfig(
        fps=12.5, stride=3, balanced_split=True, ucf101_fold=2, evaluation_step=3, bair_camera="image_main"
    ),
    evaluation=EvaluationConfig(
        runs=3, truncation=0.8, seed=7, count_conditioning=False, inception_splits=2, standing_batches=8, batch_size=4
    ),
)  # all that a model may have been trained with


@pytest.mark.parametrize(
    ("name", "trained", "split", "layout", "clips", "runs"),
    [
        ("kinetics600-validation", "table2-tsru_p", "validation", "kinetics600", 50_000, 1),
        ("kinetics600", "table3", "test", "kinetics600", 50_000, 10),
        ("kinetics600-train", "table2-conv_lstm", "train", "kinetics600", 50_000, 1),
        ("ucf101", "ucf101", "test", "ucf101", 3_783, 10),
        ("ucf101", "table3", "test", "ucf101", 3_783, 10),  # trained on Kinetics-600 (C.2)
        ("bair", "bair", "test", "bair", 256, 1),
        ("bair-balanced", "bair-balanced", "test", "bair", 30_000, 10),
        ("robot-pushing", "robot-pushing", "test", "auto", 256, 1),  # ours, as BAIR's
    ],
)
def test_protocols_are_the_papers(
    name: ProtocolName, trained: str, split: str, layout: str, clips: int, runs: int
) -> None:
    """4.1, C, E.2: splits, frames, counts; nothing that figures depend on is left of the model's settings."""
    model = preset(trained).model
    config, counted = with_protocol(replace(SPOILT, model=model), name, model)
    data, evaluation = config.data, config.evaluation
    assert (counted, data.layout, evaluation.clips, evaluation.runs) == (split, layout, clips, runs)
    assert (evaluation.standing_batches, evaluation.standing_batch_size) == (100, 256)
    assert (evaluation.truncation, evaluation.count_conditioning, evaluation.inception_splits) == (None, True, 1)
    assert (data.stride, data.ucf101_fold, data.bair_camera) == (1, 1, "image_aux1")
    assert data.fps == (25 if layout == "kinetics600" else None)  # 4.1
    assert data.balanced_split == (name == "bair-balanced")
    assert (evaluation.features, evaluation.batch_size, config.model) == ("i3d", 4, model)
    if data.balanced_split:
        starts = len(range(0, 30 - 16 + 1, data.evaluation_step or 16))
        assert starts * 13_236 >= 30_000  # clips of 16 frames in 13,236 videos of 30
    else:
        assert data.evaluation_step is None


def test_a_protocol_is_for_models_of_its_clips() -> None:
    assert set(get_args(ProtocolName)) == set(PROTOCOLS)
    with pytest.raises(TrivdError, match="is about 5 -> 11 frames"):
        with_protocol(Config(), "kinetics600", preset("bair").model)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_stop_is_answered(
    evaluate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    predictions = write_arrays(tmp_path / "predictions", 2, FRAMES, 0)
    truth = write_arrays(tmp_path / "truth", 2, FRAMES, 1)
    before = signal.getsignal(number)
    monkeypatch.setattr("trivd.evaluation.predictions.paired.evaluate", lambda *_, **__: signal.raise_signal(number))
    options = ("--conditioning-frames", GIVEN, "--features", "none")
    status, out, _ = evaluate("--predictions", predictions, "--truth", truth, *options)
    assert status == 3
    assert "Stopped; finished batches are kept. Repeat the command to resume." in out
    assert signal.getsignal(number) is before


def test_a_command_that_has_ended_shows_no_more_of_the_log(evaluate: Command) -> None:
    assert evaluate("no-such-model")[0] == 2
    assert logging.getLogger("trivd").handlers == []
