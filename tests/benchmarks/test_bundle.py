"""Bundling a run: what is written, what is kept, what is refused, and the command that repeats a training."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trivd
from benchmarks.scripts import bundle
from benchmarks.scripts.card import UNSAID, train_command
from trivd.commands import main as cli
from trivd.config import Config, chosen_levels
from trivd.evaluation.outcome import read_evaluation
from trivd.models import pretrained
from trivd.models.pretrained import BUNDLED, load_generator, weights_hash
from trivd.presets import PRESETS
from trivd.runtime.errors import TrivdError
from trivd.training.run import differences

TOLD = {"hardware": "an abacus", "date": "2026-01-02"}
CLIPS = {"train": 30, "validation": 4, "test": 5}
PLAN = {"source": "robot-pushing", "clips": CLIPS, "seed": 3, "resolution": 32}


@pytest.fixture
def run(copied: Path) -> Path:
    """A run with the report of an evaluation."""
    generator, _ = load_generator(copied / "best", torch.device("cpu"))
    report = json.loads((BUNDLED / "moving-digits" / "report.json").read_text())
    report["protocol"]["subject"] = f"weights {weights_hash(generator)[:12]}"
    (copied / "report.json").write_text(json.dumps(report))
    return copied


@pytest.fixture
def into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of bundled models."""
    (tmp_path / "bundled").mkdir()
    monkeypatch.setattr(pretrained, "BUNDLED", tmp_path / "bundled")
    return tmp_path / "bundled"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_bundled_run_is_found_and_described(run: Path, into: Path) -> None:
    bundle.main(str(run), name="mine", into=into, **TOLD)
    model = trivd.load("mine", device="cpu")
    (listed,) = trivd.list_models()
    assert (listed.name, listed.data, listed.recipe) == ("mine", "moving-digits", None)
    assert (listed.conditioning_frames, listed.predicted_frames, listed.resolution) == (2, 3, 32)
    card = (into / "mine" / "README.md").read_text()
    assert weights_hash(model.generator)[:12] in card
    assert {"hardware": model.history["hardware"], "date": model.history["date"]} == TOLD
    assert "an abacus (2026-01-02)" in card
    for figure in read_evaluation(run / "report.json").figures:
        assert f"{figure.model.mean:.{figure.digits}f}" in card
    assert max(map(len, [line for line in card.splitlines() if not line.startswith(("|", "trivd "))])) <= 100


def test_once_more_changes_nothing_and_keeps_what_was_written_by_hand(run: Path, into: Path) -> None:
    bundle.main(str(run), name="mine", into=into, **TOLD)
    card = into / "mine" / "README.md"
    card.write_text(card.read_text() + "It paints blobs.\n")
    before = contents(into / "mine")
    bundle.main(str(run), name="mine", into=into, **TOLD)
    assert contents(into / "mine") == before
    bundle.main("mine", name="mine", into=into)  # from what its own history says
    assert contents(into / "mine") == before


def test_data_that_must_be_made_are_named_with_their_command(run: Path, into: Path, tmp_path: Path) -> None:
    with_data(run, "/far/away")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "plan.json").write_text(json.dumps(PLAN))
    bundle.main(str(run), name="robot-pushing", into=into, store=tmp_path / "store", **TOLD)
    (listed,) = trivd.list_models()
    assert listed.data == "robot-pushing"
    assert listed.recipe is not None
    prepare = cli._parse(shlex.split(listed.recipe)[1:])
    assert {"train": prepare.clips, "validation": prepare.validation_clips, "test": prepare.test_clips} == CLIPS
    assert (str(prepare.source), prepare.seed, prepare.resolution) == ("robot-pushing", 3, 32)
    card = (into / "robot-pushing" / "README.md").read_text()
    assert "/far/away" not in card
    assert f"```bash\n{listed.recipe}\ntrivd train STORE " in card
    assert "trivd evaluate robot-pushing STORE" in card


def with_data(run: Path, data: str) -> None:
    """Have a run's model name other data."""
    file = run / "best" / "config.json"
    values = json.loads(file.read_text())
    values["history"]["data"] = data
    file.write_text(json.dumps(values))


def test_what_cannot_be_bundled_is_refused(
    run: Path, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(said: str, **options: Any) -> None:
        with pytest.raises(TrivdError, match=said):
            bundle.main(str(run), name="mine", into=into, **options)
        assert not list(into.iterdir())

    refused("does not say its date; give --date", hardware="an abacus")
    refused("is of other weights than", report=BUNDLED / "moving-digits" / "report.json", **TOLD)
    refused("There is no .*none.json; run `trivd evaluate", report=tmp_path / "none.json", **TOLD)
    with_data(run, str(tmp_path / "videos"))
    refused("name their store by --store", **TOLD)
    (tmp_path / "plan.json").write_text(json.dumps(PLAN | {"source": "/my/videos"}))
    refused("bundle models of data that anybody can make", store=tmp_path, **TOLD)
    monkeypatch.setattr(bundle, "MOST_BYTES", 1000)
    refused("train one with fewer channels", **TOLD)


def test_the_command_of_a_training_repeats_its_settings(tiny_config: Callable[..., Config]) -> None:
    _, history = load_generator(BUNDLED / "moving-digits", torch.device("cpu"))
    bundled = trivd.load("moving-digits", device="cpu").trained_with
    assert history["config"]["discriminator"]["temporal_pooling"] is False
    for config in (bundled, tiny_config(training={"minutes": 3.5}), PRESETS["robot-pushing"].config):
        words = shlex.split(train_command(config, "STORE"))
        assert words[:3] == ["trivd", "train", "STORE"]
        parsed = cli._parse(words[1:])
        repeated = Config(parsed.model, parsed.discriminator, parsed.data, parsed.training, parsed.evaluation)
        same = chosen_levels(parsed.evaluation.motion_levels, (16, 32, 64)) == chosen_levels(
            config.evaluation.motion_levels, (16, 32, 64)
        )
        assert same  # one resolution is a number there
        assert differences(config, repeated).keys() <= UNSAID | {"evaluation.motion_levels"}
    assert words[3:] == ["--preset", "robot-pushing"]  # which needs no more
