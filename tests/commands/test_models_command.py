"""`trivd models`, and bundled models by name: what hides them, and data of theirs that must be made first."""

import json
import shutil
from pathlib import Path

import pytest
from run_checks import Command
from safetensors import safe_open

import trivd
from trivd.models import pretrained

FOLDER = pretrained.BUNDLED / "moving-digits"


@pytest.fixture
def robot(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The work folder; a model of data that must be made, robot-pushing, is bundled."""
    (tmp_path / "work").mkdir()
    folder = Path(shutil.copytree(trained_run / "best", tmp_path / "bundled" / "robot-pushing"))
    values = json.loads((folder / "config.json").read_text())
    values["history"] |= {"data": "robot-pushing", "recipe": "trivd prepare robot-pushing STORE --clips 7"}
    (folder / "config.json").write_text(json.dumps(values))
    shutil.copy(FOLDER / "report.json", folder)
    monkeypatch.setattr(pretrained, "BUNDLED", tmp_path / "bundled")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_models_are_listed_with_data_size_and_score(trivd_command: Command) -> None:
    status, out, err = trivd_command("models")
    assert (status, err) == (0, "")
    figure = json.loads((FOLDER / "report.json").read_text())["figures"][0]
    assert f"{figure['name']} {figure['model']['mean']:.2f} ({figure['copy']:.2f})" in out
    assert "moving-digits, comes with trivd" in out
    assert "5 -> 11" in out
    assert str(FOLDER / "README.md") in out


def test_the_list_says_what_the_files_say() -> None:
    (model,) = (model for model in trivd.list_models() if model.name == "moving-digits")
    assert model.megabytes == (FOLDER / "model.safetensors").stat().st_size / 1e6
    with safe_open(FOLDER / "model.safetensors", "numpy") as tensors:
        sizes = {name: tensors.get_tensor(name).size for name in tensors.keys()}  # noqa: SIM118 - not a dictionary
    assert sum(size for name, size in sizes.items() if name.endswith(("weight", "bias"))) <= model.parameters
    assert model.parameters <= sum(sizes.values())
    assert [score.name.split()[0].rstrip(",") for score in model.scores] == ["FVD", "PSNR", "SSIM"]


def test_an_unknown_model_is_refused_with_the_names(trivd_command: Command) -> None:
    status, _, err = trivd_command("evaluate", "moving-digit")
    assert status == 2
    assert "a bundled model: moving-digits (`trivd models` describes them)" in err


def test_data_that_must_be_made_first(robot: Path, trivd_command: Command) -> None:
    status, out, _ = trivd_command("models")
    assert status == 0
    assert "robot-pushing, trivd prepare robot-pushing STORE --clips 7" in out
    for words in (("evaluate", "robot-pushing"), ("train", "robot-pushing"), ("compare", *2 * ("robot-pushing",))):
        status, _, err = trivd_command(*words)
        assert status == 2, words
        assert "run `trivd prepare robot-pushing STORE`, then name STORE" in err, words
    assert not list(robot.iterdir())


def test_a_folder_without_a_model_hides_none(robot: Path, trivd_command: Command) -> None:
    """Such as the store that the model's data were written into."""
    (robot / "robot-pushing").mkdir()
    (robot / "robot-pushing" / "index.json").write_text("{}")
    assert trivd.load("robot-pushing", device="cpu").history["data"] == "robot-pushing"
    few = ("--features", "none", "--clips", 2, "--best-of-clips", 2, "--samples", 2)
    status, _, err = trivd_command("evaluate", "robot-pushing", "moving-digits", *few)
    assert (status, err) == (0, "")
    assert (robot / "report.json").exists()
    assert [file.name for file in (robot / "robot-pushing").iterdir()] == ["index.json"]
    (robot / "robot-pushing" / "run.json").write_text("{}")  # a run's folder is meant, even before its first model
    status, _, err = trivd_command("evaluate", "robot-pushing")
    assert status == 2
    assert "is not a trivd model: it has no config.json" in err
