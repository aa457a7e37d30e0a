"""`trivd evaluate --predictions A B`: several models in one table, whose numbers are those of each alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from run_checks import Command
from stand_ins import Means

from trivd.commands.evaluate import progress_shown
from trivd.commands.reports import outputs_of_folders
from trivd.runtime.errors import TrivdError

FRAMES, GIVEN, SIZE, CLIPS = 6, 2, 16, 5
FEW = ("--truth", "truth", "--conditioning-frames", GIVEN)


def write(folder: Path, seed: int, samples: int = 1, clips: int = CLIPS) -> None:
    """Random videos; clip i of truth and predictions are alike, the more so the smaller the seed."""
    for number in range(clips):
        true = np.random.default_rng(number).integers(256, size=(FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
        for sample in range(samples):
            rng = np.random.default_rng([seed, number, sample])
            noise = rng.integers(-20 * seed, 20 * seed + 1, size=true.shape)
            path = folder / (f"{number}.npy" if samples == 1 else f"{number}/sample-{sample}.npy")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, (true + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders near/run and far/run of predictions, of which the first has 3 samples of each clip, and truth."""
    monkeypatch.setattr("trivd.evaluation.predictions.paired.choose_network", lambda *_: Means())
    write(tmp_path / "truth", 0)
    write(tmp_path / "near" / "run", 1, samples=3)
    write(tmp_path / "far" / "run", 3)


def figures(path: str, *keys: str) -> dict[str, Any]:
    values = json.loads(Path(path).read_text())
    for key in keys:
        values = values[key]
    return {figure["name"]: figure for figure in values["figures"]}


@pytest.mark.usefixtures("models")
def test_several_models_stand_in_one_table(evaluate: Command) -> None:
    status, out, err = evaluate("--predictions", "near/run", "far/run", *FEW)
    assert (status, err) == (0, "")
    near, far = (figures(f"{name}/run/report.json") for name in ("near", "far"))
    assert figures("comparison.json", "models", "near/run") == near
    assert figures("comparison.json", "models", "far/run") == far
    text = Path("comparison.md").read_text()
    assert "| figure | near/run | far/run | copy the last frame | true clips |" in text
    for name in ("FVD (means)", "SSIM, one sample"):
        low, high = near[name]["interval"]
        assert low <= near[name]["model"]["mean"] <= high
        shown = [f"{one[name]['model']['mean']:.{one[name]['digits']}f}" for one in (near, far)]
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {name}"))
        assert all(value in line for value in shown)
    assert near["FVD (means)"]["model"]["mean"] < far["FVD (means)"]["model"]["mean"]
    assert {"SSIM, best of 2", "SSIM, best of 3"} <= set(near)
    assert not any("best of" in name for name in far)  # it has but one sample
    (line,) = (line for line in text.splitlines() if line.startswith("| SSIM, best of 3"))
    assert line.split("|")[3].strip() == "-"
    assert "Protocol of near/run: " in out
    assert "Written: comparison.json, comparison.md, comparison.png" in out
    assert Path("comparison.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("models")
def test_a_model_has_the_same_figures_alone(evaluate: Command) -> None:
    assert evaluate("--predictions", "near/run", "far/run", *FEW, "--out", "all.json")[0] == 0
    assert not Path("near/run/report.json").exists()
    assert {path.name for path in Path().glob("all*")} == {
        f"all{name}.{kind}" for name in ("", "-near-run", "-far-run") for kind in ("json", "md", "png")
    }
    assert evaluate("--predictions", "far/run", *FEW)[0] == 0
    assert figures("far/run/report.json") == figures("all-far-run.json")


@pytest.mark.usefixtures("models")
def test_all_models_are_scored_on_the_clips_that_all_have(evaluate: Command) -> None:
    shutil.rmtree("near/run/4")
    status, out, _ = evaluate("--predictions", "near/run", "far/run", *FEW, "--samples", "1")
    assert status == 0
    assert out.count("Left out: 1 of 5 true videos, as not all folders of predictions have them: 4.") == 1
    protocols = [one["protocol"] for one in json.loads(Path("comparison.json").read_text())["models"].values()]
    assert [protocol["clips"] for protocol in protocols] == [4, 4]
    assert [protocol["samples"] for protocol in protocols] == [1, 1]


@pytest.mark.usefixtures("models")
def test_other_files_stay(evaluate: Command) -> None:
    Path("comparison.md").write_text("mine\n")
    status, _, err = evaluate("--predictions", "near/run", "far/run", *FEW)
    assert status == 2
    assert "comparison.md was not written by `trivd evaluate`" in err
    status, _, err = evaluate("--predictions", "near/run", "near/run", *FEW)
    assert status == 2
    assert "named twice" in err
    status, _, err = evaluate("--predictions", "near/run", "far/run", *FEW, "--samples", "2", "--out", "all.json")
    assert status == 2
    assert "--samples is 2, but far/run holds 1 predictions" in err.replace("\n", " ")


def test_sets_by_protocols_of_others(evaluate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def choose(settings: Any, *_: Any, label: str) -> Means:
        asked.append((settings.i3d_input, settings.clips, label))
        return Means()

    monkeypatch.setattr("trivd.evaluation.predictions.video_sets.choose_network", choose)
    rng = np.random.default_rng(0)
    for name in ("truth", "a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            video = rng.integers(256, size=(18, SIZE, SIZE, 3), dtype=np.uint8)
            np.save(tmp_path / name / f"{name}{number}.npy", video)
    status, out, err = evaluate("--predictions", "a", "b", "--truth", "truth", "--protocol", "tats")
    assert (status, err) == (0, "")
    assert "tats: TATS' FVD: 2,048 random windows" in out
    assert "truth by protocol tats, 16 pixels, stride 1; 4 clips of 16 frames against 12 true ones, no pairs" in out
    assert "FVD (means)" in figures("comparison.json", "models", "b")
    status, out, _ = evaluate("--predictions", "a", "--truth", "truth", "--protocol", "videogpt", "--clips", "4")
    assert status == 0
    assert asked == [("torch", 2_048, "tats")] * 2 + [("videogpt", 4, "videogpt")]
    for words, message in (
        (("--predictions", "a", "--protocol", "tats"), "needs --truth"),
        (("copy", "truth", "--protocol", "tats"), "is about folders of videos"),
        (("--predictions", "a", *FEW, "--protocol", "tats"), "--conditioning-frames belongs to the evaluation of"),
        (("--predictions", "a", *FEW[:2], "--protocol", "tats", "--lpips", "vgg"), "--lpips belongs to"),
        (("--predictions", "a", *FEW[:2], "--protocol", "tats", "--resolution", "0"), "--resolution is 0; give 11"),
        (("--predictions", "a", *FEW, "--protocol", "bair"), "--protocol belongs to the evaluation of a model"),
    ):
        status, _, err = evaluate(*words)
        assert (status, message in err.replace("\n", " ")) == (2, True), err


def test_reports_beside_one_have_names_of_their_own() -> None:
    folders = [Path("p/q-r"), Path("s/q-r"), Path("p-q/r")]
    with pytest.raises(TrivdError, match=r"beside all\.json would have the same name"):
        outputs_of_folders(folders, Path("all.json"))
    assert len(set(outputs_of_folders(folders, None).all)) == 4


def test_a_process_without_files_shows_no_progress() -> None:
    with progress_shown(Console(quiet=True)) as progress:
        progress("reading all files", 0, 0)
