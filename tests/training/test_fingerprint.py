"""Data are recognised however their path is spelled and wherever they lie now; others are refused."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_checks import DATA, MakeConfig, assert_same_state, run_to

from trivd.data.store.prepare import write_store
from trivd.prediction.predictor import Predictor
from trivd.runtime.errors import TrivdError
from trivd.training.run import Run


def add_video(folder: Path, name: str, frames: int = 8, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(frames, 32, 32, 3), dtype=np.uint8)
    np.save(folder / f"{name}.npy", pixels)


def make_videos(folder: Path) -> Path:
    """Four training and two validation videos."""
    for split, names in (("train", "abcd"), ("validation", "ef")):
        for name in names:
            add_video(folder / split, name, seed=ord(name))
    return folder


@pytest.fixture
def begun(tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run of two steps on the videos in `v`; the working directory is above both."""
    make_videos(tmp_path / "v")
    monkeypatch.chdir(tmp_path)
    assert run_to(tmp_path / "run", tiny_config(training={"steps": 2}), "v")[0]
    return tmp_path / "run"


def go_on(folder: Path, tiny_config: MakeConfig, data: str, steps: int = 3) -> str:
    """What is said by a run that goes on to so many steps."""
    complete, said = run_to(folder, tiny_config(training={"steps": steps}), data)
    assert complete
    assert f"Resuming {folder} from step {steps - 1}." in said
    return said


def test_every_spelling_of_a_path_is_the_same(
    begun: Path, tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "v")
    spellings = ["v", "v/", "./v", ".//v/.", str(tmp_path / "v"), "link", "../" + tmp_path.name + "/v"]
    for step, data in enumerate(spellings, start=3):
        said = go_on(begun, tiny_config, data, step)
        assert "have changed since" not in said
        assert "found again" not in said
    monkeypatch.chdir("v")
    go_on(begun, tiny_config, ".", len(spellings) + 3)
    assert run_to(tmp_path / "whole", tiny_config(training={"steps": 10}), str(tmp_path / "v"))[0]
    assert_same_state(begun, tmp_path / "whole", 10)


def test_what_is_kept_names_the_data_from_anywhere(begun: Path, tmp_path: Path) -> None:
    assert Run(begun).read()[1] == str(tmp_path / "v")
    assert Predictor.from_pretrained(begun / "best").history["data"] == str(tmp_path / "v")


def test_data_that_were_moved_can_be_named(
    begun: Path, tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, and together with the run's folder."""
    (tmp_path / "v").rename(tmp_path / "w")
    said = go_on(begun, tiny_config, "w")
    assert f"The run's data was in {tmp_path / 'v'}; it is found again in {tmp_path / 'w'}." in said
    assert "found again" not in go_on(begun, tiny_config, "w", 4)
    (tmp_path / "elsewhere").mkdir()
    for name in ("w", "run"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "found again" in go_on(Path("run"), tiny_config, "w", 5)
    assert Run(Path("run")).read()[1] == str(tmp_path / "elsewhere" / "w")


def test_a_store_of_the_same_videos_is_the_same_data(begun: Path, tmp_path: Path, tiny_config: MakeConfig) -> None:
    write_store(
        tmp_path / "v", tmp_path / "store", resolution=32, channels=3, data=tiny_config().data, workers=0, progress=None
    )
    assert "found again" in go_on(begun, tiny_config, "store")
    assert run_to(tmp_path / "whole", tiny_config(training={"steps": 3}), "v")[0]
    assert_same_state(begun, tmp_path / "whole", 3)


def fewer(folder: Path) -> None:
    (folder / "train" / "a.npy").unlink()


def longer(folder: Path) -> None:
    add_video(folder / "train", "a", frames=9)


def renamed(folder: Path) -> None:
    (folder / "train" / "a.npy").rename(folder / "train" / "z.npy")


def other_split(folder: Path) -> None:
    (folder / "validation").rename(folder / "test")


CHANGES = [
    (fewer, "train has 3 videos with 24 frames instead of 4 videos with 32 frames"),
    (longer, "train has 4 videos with 33 frames instead of 4 videos with 32 frames"),
    (renamed, "the 4 videos with 32 frames in train have other names, classes or lengths"),
    (other_split, "the 2 videos with 16 frames in validation have other names, classes or lengths"),
]


@pytest.mark.parametrize(("change", "why"), CHANGES)
def test_other_data_are_refused_with_what_differs(
    begun: Path, tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, change: Any, why: str
) -> None:
    """Also if their path is the same text, in another working directory, or behind a link."""
    change(make_videos(tmp_path / "other" / "v"))
    (tmp_path / "link").symlink_to(tmp_path / "other" / "v")
    before = Run(begun).config_file.read_bytes()
    for folder, data in ((tmp_path, "other/v"), (tmp_path, "link"), (tmp_path / "other", "v")):
        monkeypatch.chdir(folder)
        with pytest.raises(TrivdError, match=rf"{begun} was trained on .*/v, and .* holds other data: {why}; name its"):
            run_to(begun, tiny_config(training={"steps": 3}), data)
    assert Run(begun).config_file.read_bytes() == before


def test_videos_are_not_moving_digits(begun: Path, tiny_config: MakeConfig) -> None:
    with pytest.raises(TrivdError, match=r"trained on .*/v, and moving-digits holds other data; name its own"):
        run_to(begun, tiny_config(training={"steps": 3}), DATA)


def test_moving_digits_are_not_videos(copied: Path, tmp_path: Path, tiny_config: MakeConfig) -> None:
    make_videos(tmp_path / "v")
    with pytest.raises(TrivdError, match=r"trained on moving-digits, and .*/v holds other data; name its own"):
        run_to(copied, tiny_config(training={"steps": 5}), str(tmp_path / "v"))


@pytest.mark.parametrize(("change", "why"), CHANGES)
def test_data_that_changed_in_their_place_are_said_once(
    begun: Path, tmp_path: Path, tiny_config: MakeConfig, change: Any, why: str
) -> None:
    """A run goes on without a video that is gone, now as while it trains."""
    change(tmp_path / "v")
    assert f"have changed since this run was started or last resumed: {why}. It resumes" in go_on(
        begun, tiny_config, "v"
    )
    assert "have changed since" not in go_on(begun, tiny_config, "v", 4)


def test_runs_of_older_versions_go_on(begun: Path, tmp_path: Path, tiny_config: MakeConfig) -> None:
    """They keep the path as it was typed, and nothing of what lay there."""
    file = Run(begun).config_file
    values = json.loads(file.read_text())
    older = {name: value for name, value in values.items() if name != "listing"} | {"data": "v"}
    file.write_text(json.dumps(older))
    shutil.copytree(tmp_path / "v", tmp_path / "w")
    with pytest.raises(TrivdError, match=r"was trained on v, and .*/w holds other data; name its own"):
        run_to(begun, tiny_config(training={"steps": 3}), "w")
    go_on(begun, tiny_config, "v/")
    assert json.loads(file.read_text()) == values | {"config": json.loads(file.read_text())["config"]}


def test_a_damaged_listing_is_said(copied: Path, tiny_config: MakeConfig) -> None:
    values = json.loads((copied / "run.json").read_text())
    for listing in ([], "x", 3):
        (copied / "run.json").write_text(json.dumps(values | {"listing": listing}))
        with pytest.raises(TrivdError, match=r"run\.json is damaged"):
            run_to(copied, tiny_config())
    for listing in ({"train": []}, {"train": {"videos": []}}, {"place": 3}):
        (copied / "run.json").write_text(json.dumps(values | {"listing": listing, "data": os.devnull}))
        with pytest.raises(TrivdError, match="holds other data"):
            run_to(copied, tiny_config())
