"""Every run of every comparison has settings that hold together, and the paper's figures are the paper's."""

from pathlib import Path

import pytest

from research.catalogue import SCALES, find
from research.checks import data_sets
from research.comparison import Comparison, DataSet, Scale
from research.runs import Task
from research.settings import parse_settings
from research.small import SMALL
from trivd.config import Config
from trivd.presets import preset
from trivd.runtime.errors import TrivdError

EVERY = [(scale, name) for scale, comparisons in SCALES.items() for name in comparisons]
RUNS = [(scale, name, cell.label) for scale, name in EVERY for cell in SCALES[scale][name].cells]
PATHS: dict[DataSet, str] = {
    "moving-digits": "moving-digits",
    **{name: f"/data/{name}" for name in ("videos", "kinetics600", "bair", "ucf101")},
}
# Tables 1 to 4 and appendices C.2, E.1, F.1, as the paper prints them.
PAPER = {
    "table1": {
        "clip": "10.9 59.6 758,000 488 3.49",
        "downsampled": "8.9 122.1 1,000,000 370 3.01",
        "cropped": "9.4 159.9 997,000 371 3.1",
        "cropped_downsampled": "11.5 44.1 792,000 467 3.3",
        "mocogan_k1": "11.3 47.4 651,000 568 3.95",
        "mocogan_k8": "11.4 46.2 561,000 660 3.95",
        "dvd_gan_fp": "10.9 55.0 689,000 537 3.53",
        "faster": "11.7 46.1 817,000 453 3.54",
        "stronger": "11.8 39.3 675,000 548 3.65",
    },
    "table2": {
        "conv_lstm": "11.4 51.3",
        "conv_gru": "11.4 49.4",
        "k_traj_gru": "11.6 45.9",
        "tsru_c": "11.6 44.2",
        "tsru_p": "11.5 43.7",
        "tsru_s": "11.6 45.8",
        "ptsru_s": "11.5 47.1",
    },
    "table3": {"trivd_gan_fp": "12.54 ± 0.06 25.74 ± 0.66"},
    "table4": {"original split": "103.3", "balanced split": "31.8 ± 0.2"},
    "ucf101": {
        "dvd_gan_fp, ch 48": "117",
        "trivd_gan_fp, ch 48": "95.8",
        "trivd_gan_fp, ch 120": "67.7",
        "trivd_gan_fp, ch 92, trained on UCF-101": "55.2 ± 0.64",
    },
    "head": {"mixed_projection": "55.0", "projection": "64.2"},
    "conv_lstm": {"relu": "51.8", "tanh": "62.7"},
}
COLUMNS = ("IS", "FVD", "steps", "ms per step", "GB")


def task(scale: Scale, name: str, label: str, seed: int = 0) -> Task:
    comparison = SCALES[scale][name]
    return Task(comparison, comparison.cell(label), seed, None, PATHS, {})


@pytest.mark.parametrize(("scale", "name", "label"), RUNS)
def test_every_cell_changes_what_it_says(scale: str, name: str, label: str) -> None:
    one = task(scale, name, label, seed=7)
    assert one.config.training.seed == 7
    for section, settings in one.cell.changes.items():
        for setting, value in settings.items():
            assert getattr(getattr(one.config, section), setting) == value
    for scoring in one.cell.scorings:
        config, split, data = one.scored(scoring)
        assert isinstance(config, Config)
        assert (split is None) == (scale == "small")
        assert data in PATHS.values()


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_figures_are_the_papers(name: str) -> None:
    cells = SCALES["paper"][name].cells
    said = {cell.label: " ".join(cell.paper[own].text for own in COLUMNS if own in cell.paper) for cell in cells}
    assert said == PAPER[name]
    if name in SMALL:
        for cell in SMALL[name].cells:
            assert cell.paper == {"FVD": SCALES["paper"][name].cell(cell.label).paper["FVD"]}


@pytest.mark.parametrize("name", SCALES["paper"])
def test_the_papers_cells_are_its_presets(name: str) -> None:
    """At the paper's scale only the seed is added to a preset, and every evaluation follows a protocol."""
    for cell in SCALES["paper"][name].cells:
        assert cell.config(0, None, {}) == preset(cell.preset)
        assert all(scoring.protocol is not None for scoring in cell.scorings.values())


def test_protocols_and_their_runs() -> None:
    runs = {
        (name, label): (str(split), config.evaluation.runs, config.evaluation.clips, Path(data).name)
        for scale, name, label in RUNS
        if scale == "paper" and name in ("table1", "table3", "table4", "ucf101", "conv_lstm", "figure5")
        for config, split, data in [task(scale, name, label).scored("")]
    }
    assert runs["table1", "stronger"] == ("validation", 1, 50_000, "kinetics600")
    assert runs["conv_lstm", "tanh"] == ("train", 1, 50_000, "kinetics600")
    assert runs["table3", "trivd_gan_fp"] == ("test", 10, 50_000, "kinetics600")
    assert runs["table4", "original split"] == runs["figure5", "trivd_gan_fp"] == ("test", 1, 256, "bair")
    assert runs["table4", "balanced split"] == ("test", 10, 30_000, "bair")
    assert {runs["ucf101", label] for label in PAPER["ucf101"]} == {("test", 10, 3_783, "ucf101")}
    config, _, _ = task("paper", "figure5", "trivd_gan_fp").scored("")
    assert (config.evaluation.samples, config.evaluation.best_of_clips) == (100, 256)


def test_data_sets_are_those_of_training_scoring_and_drawing() -> None:
    def needed(name: str, *labels: str) -> list[DataSet]:
        comparison = SCALES["paper"][name]
        return sorted(data_sets([cell for cell in comparison.cells if cell.label in labels], comparison.motion))

    assert needed("table1", "clip") == ["kinetics600"]
    assert needed("ucf101", "trivd_gan_fp, ch 120") == ["kinetics600", "ucf101"]
    assert needed("ucf101", "trivd_gan_fp, ch 92, trained on UCF-101") == ["ucf101"]
    assert needed("figure3", "trivd_gan_fp") == ["kinetics600", "ucf101"]
    assert needed("table4", "original split") == ["bair"]


def test_comparisons_share_the_runs_they_have_in_common() -> None:
    folder = Path("runs")
    same = task("small", "table2", "tsru_p").run(folder)
    assert task("small", "figure5", "tsru_p").run(folder) == same
    others = [task("small", "table2", label, seed).run(folder) for label in PAPER["table2"] for seed in (0, 1)]
    assert len(set(others)) == 14
    table3 = task("paper", "table3", "trivd_gan_fp").run(folder)
    assert task("paper", "figure3", "trivd_gan_fp").run(folder) == table3
    assert task("paper", "ucf101", "trivd_gan_fp, ch 120").run(folder) == table3
    assert task("paper", "figure5", "trivd_gan_fp").run(folder) == task("paper", "table4", "original split").run(folder)


def test_cells_have_files_of_their_own() -> None:
    files = [task(*run, seed).result(Path()) for run in RUNS for seed in (0, 1)]
    assert len(set(files)) == 2 * len(RUNS)
    assert all(" " not in file.name for file in files)


def test_names_and_scales() -> None:
    assert find("table1", None, None).scale == "small"
    assert find("table1", None, "videos").scale == "paper"
    assert find("table1", "small", "videos").scale == "small"
    assert find("table3", None, None).scale == "paper"  # its only scale
    assert find("weizmann", None, "videos").scale == "small"
    with pytest.raises(TrivdError, match="There is no comparison units; choose one of table1, "):
        find("units", None, None)
    with pytest.raises(TrivdError, match="The comparison table3 has no scale small; give --scale paper"):
        find("table3", "small", None)
    with pytest.raises(TrivdError, match="There is no cell gru; choose from conv_lstm, conv_gru"):
        SMALL["table2"].cell("gru")


def test_equal_times_set_the_steps() -> None:
    chosen: Comparison = SMALL["table1"]
    assert chosen.cells[0].config(1, 123, {}).training.steps == 123
    assert chosen.cells[0].config(1, 123, {"training": {"steps": 5}}).training.steps == 5  # the user's wins


def test_settings_of_the_command_line() -> None:
    assert parse_settings(
        [
            "training.steps=20",
            "training.generator-lr=1",
            "model.recurrent_resolutions=[8, 16]",
            "evaluation.truncation=none",
            "model.read-gate=True",
            "evaluation.features=none",
            "evaluation.truncation=1",
            "data.evaluation_step=3",
        ]
    ) == {
        "training": {"steps": 20, "generator_lr": 1.0},
        "model": {"recurrent_resolutions": [8, 16], "read_gate": True},
        "evaluation": {"truncation": 1.0, "features": "none"},
        "data": {"evaluation_step": 3},
    }
    config = SMALL["table2"].cells[0].config(0, None, parse_settings(["training.discriminator-lr=1"]))
    assert config.training.discriminator_lr == 1.0


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("training.steps", r"--set training\.steps is not of the form SECTION\.NAME=VALUE"),
        ("steps=3", "is not of the form"),
        ("training.step=3", r"There is no setting training\.step; trivd train --help lists them"),
        ("trainings.steps=3", r"There is no setting trainings\.steps"),
    ],
)
def test_wrong_settings_are_refused(word: str, message: str) -> None:
    with pytest.raises(TrivdError, match=message):
        parse_settings([word])


def test_values_of_wrong_types_are_refused() -> None:
    with pytest.raises(TrivdError, match="--set"):
        SMALL["table2"].cells[0].config(0, None, parse_settings(["training.steps=many"]))
