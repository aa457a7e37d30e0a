"""Tables at the paper's scale: its figures before ours, what deviations mean, and settings that were changed."""

import pytest
from replication_results import paper_result, result

from research import jobs
from research.pace import Pace, logged_pace, mean_pace
from research.paper import PAPER
from research.plots import picture
from research.results import rows
from research.small import SMALL
from research.tables import changed_settings, comparison_parts
from trivd.presets import preset

UNITS = SMALL["table2"]


def test_the_papers_figures_stand_before_ours() -> None:
    chosen = PAPER["table1"]
    found = [paper_result("faster", 47.0, [47.0]), paper_result("stronger", 40.0, [40.0])]
    text = "\n".join(comparison_parts(chosen, found, {}))
    header = "| cell | n | FVD in the paper | FVD | IS in the paper | IS | steps in the paper | steps |"
    assert f"{header} ms per step in the paper | ms per step | GB in the paper | GiB |" in text
    assert "| faster | 1 | 46.1 | 47.00 | 11.7 | 11.25 | 817,000 | 10 | 453 | 500 | 3.54 | 3.00 |" in text
    assert "| copy the last frame |  | 330 | 4.50 |  | 4.50 |  |  |  |  |  |  |" in text
    assert "| stronger better than faster | 6.8 | +7.00: not resolved |" in text
    assert "each on 8 x Abacus 9, torch" in " ".join(text.split())
    axes = picture(chosen, rows(chosen, found)).axes
    assert [axis.get_title() for axis in axes] == ["FVD", "IS"]
    (diamonds,) = (line for line in axes[0].lines if line.get_label() == "the paper")
    assert list(diamonds.get_xdata()) == [46.1, 39.3]


def test_runs_of_an_evaluation_give_a_deviation_but_no_verdict() -> None:
    chosen = PAPER["table4"]
    found = [
        paper_result("original split", 110.0, [110.0]),
        paper_result("balanced split", 32.0, [31.5, 32.0, 32.5]),
    ]
    text = "\n".join(comparison_parts(chosen, found, {}))
    assert "| balanced split | 1 | 31.8 ± 0.2 | 32.00 ± 0.50 |" in text
    assert "over training seeds, or, of a single seed, over the runs of its evaluation." in " ".join(text.split())
    assert "| balanced split better than original split | 71.5 | +78.00: not resolved |" in text


def test_changed_settings_are_named() -> None:
    changed = result("conv_gru", 0, 1.0) | {"set": {"training": {"steps": 20}, "evaluation": {"clips": 40}}}
    found = [result("tsru_p", 0, 1.0), changed]
    assert changed_settings(UNITS, found[:1]) == []
    said = "**Settings other than the {}: `evaluation.clips` 40, `training.steps` 20.**"
    assert changed_settings(UNITS, found) == [said.format("comparison's")]
    assert changed_settings(PAPER["table2"], found) == [said.format("paper's")]


def test_the_pace_of_a_run_leaves_out_waits_for_clips() -> None:
    """Two updates of 512 clips of 16 frames: 16,384 images in a step."""
    log = [
        {"step": step, "speed/images_per_second": speed, "speed/wait_share": share}
        for step, speed, share in ((1, 1638.4, 0.5), (2, 16384.0, 0.0), (3, 8192.0, 0.25))
    ]
    config = preset("table1-clip")
    assert logged_pace([*log, {"step": 3, "score/train/psnr": 1.0}], config, 7) == Pace(pytest.approx(1.5), 7)  # median
    assert logged_pace([], config, None) is None
    assert mean_pace([Pace(1.0, None), Pace(3.0, 5), Pace(5.0, 4)]) == Pace(3.0, 5)


@pytest.mark.parametrize(
    ("count", "visible", "expected"),
    [(1, None, [None] * 3), (2, None, ["0", "1", "0"]), (2, "4,6", ["4", "6", "4"])],
)
def test_jobs_take_turns_on_the_gpus(
    count: int, visible: str | None, expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    if visible is None:
        monkeypatch.delenv(jobs.VISIBLE, raising=False)
    else:
        monkeypatch.setenv(jobs.VISIBLE, visible)
    assert [jobs.own_gpu(slot).get(jobs.VISIBLE) for slot in range(3)] == expected
