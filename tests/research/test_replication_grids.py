"""Every run of every grid has settings that hold together, and the paper's figures are the paper's."""

from pathlib import Path

import pytest

from research.grids import GRIDS, TABLE1_FVD, TABLE2_FVD, Grid, grid
from research.runs import Task
from trivd.config import Config
from trivd.data.clips import MOVING_DIGITS
from trivd.runtime.errors import TrivdError

RUNS = [(name, cell.label) for name, found in GRIDS.items() for cell in found.cells]


def task(name: str, label: str, seed: int = 0) -> Task:
    return Task(name, GRIDS[name], GRIDS[name].cell(label), seed, None, MOVING_DIGITS)


@pytest.mark.parametrize(("name", "label"), RUNS)
def test_every_cell_changes_what_it_says(name: str, label: str) -> None:
    config = task(name, label, seed=7).config
    assert isinstance(config, Config)
    assert config.training.seed == 7
    for section, settings in GRIDS[name].cell(label).changes.items():
        for setting, value in settings.items():
            assert getattr(getattr(config, section), setting) == value


def test_tables_1_and_2_hold_the_papers_distances() -> None:
    assert TABLE1_FVD["stronger"] == min(TABLE1_FVD.values()) == 39.3
    assert TABLE1_FVD["cropped"] == max(TABLE1_FVD.values()) == 159.9
    assert sorted(TABLE2_FVD, key=lambda unit: TABLE2_FVD[unit]) == [
        "tsru_p",
        "tsru_c",
        "tsru_s",
        "k_traj_gru",
        "ptsru_s",
        "conv_gru",
        "conv_lstm",
    ]
    assert len(GRIDS["decompositions"].cells) == 9


def test_grids_share_the_runs_they_have_in_common() -> None:
    folder = Path("runs")
    same = task("units", "tsru_p").run(folder)
    assert task("truncation", "tsru_p").run(folder) == same
    others = [task("units", label, seed).run(folder) for label in TABLE2_FVD for seed in (0, 1)]
    assert len(set(others)) == 14


def test_cells_have_files_of_their_own() -> None:
    files = [task(name, label, seed).result(Path()) for name, label in RUNS for seed in (0, 1)]
    assert len(set(files)) == 2 * len(RUNS)
    assert all(" " not in file.name for file in files)


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(TrivdError, match="There is no grid unit; choose one of units, "):
        grid("unit")
    with pytest.raises(TrivdError, match="There is no cell gru; choose from conv_lstm, conv_gru"):
        GRIDS["units"].cell("gru")


def test_equal_times_set_the_steps() -> None:
    chosen: Grid = GRIDS["decompositions"]
    assert chosen.config(chosen.cells[0], 1, 123).training.steps == 123
