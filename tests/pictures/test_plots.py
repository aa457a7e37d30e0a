"""Figures hold the values of the log, say what their axes are, and can be encoded."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from trivd.pictures.plots import frame_curves, loss_curves, score_curves, to_png, to_svg
from trivd.runtime.errors import TrivdError

LOG = [
    {"step": 100, "loss/discriminator/frames": 2.0, "loss/generator/frames": 0.1, "loss/reconstruction": 0.4},
    {"step": 150, "score/train/ssim": 0.6, "score/validation/ssim": 0.5, "score/validation/copy_ssim": 0.4},
    {"step": 150, "score/train/psnr": 20.0, "score/validation/psnr": 19.0, "score/validation/copy_psnr": 18.0},
    {"step": 200, "loss/discriminator/frames": 1.5, "loss/generator/frames": 0.2, "loss/reconstruction": 0.3},
]


def lines(figure: Figure) -> list[dict[str, tuple[list[float], list[float]]]]:
    """Lines of each panel: label -> x and y."""
    return [
        {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines}
        for axis in figure.axes
    ]


def test_losses_have_a_panel_per_kind() -> None:
    discriminators, generator, reconstruction = lines(loss_curves(LOG))
    assert discriminators == {"frames": ([100, 200], [2.0, 1.5])}
    assert generator == {"frames": ([100, 200], [0.1, 0.2])}
    assert reconstruction == {"loss/reconstruction": ([100, 200], [0.4, 0.3])}


def test_unused_losses_have_no_panel() -> None:
    assert len(lines(loss_curves([{"step": 1, "loss/generator/clip": 1.0}]))) == 1


def test_scores_stand_beside_the_copy() -> None:
    figure = score_curves(LOG)
    ssim, psnr = lines(figure)
    assert ssim == {
        "training clips": ([150], [0.6]),
        "validation clips": ([150], [0.5]),
        "copy of the last frame, validation": ([150], [0.4]),
    }
    assert psnr["validation clips"] == ([150], [19.0])
    assert [axis.get_ylabel() for axis in figure.axes] == ["SSIM", "PSNR [dB]"]
    assert {axis.get_xlabel() for axis in figure.axes} == {"step"}


def test_distances_have_a_panel_where_they_were_measured() -> None:
    *_, distance = lines(score_curves([*LOG, {"step": 150, "score/train/distance": 7.0}]))
    assert distance == {"training clips": ([150], [7.0])}


def test_frames_count_from_one() -> None:
    figure = frame_curves(
        {"SSIM": {"best of 10": [0.9, 0.8]}, "PSNR [dB]": {"best of 10": [30.0, 25.0], "copy": [20.0, 15.0]}}
    )
    ssim, psnr = lines(figure)
    assert ssim == {"best of 10": ([1, 2], [0.9, 0.8])}
    assert psnr["copy"] == ([1, 2], [20.0, 15.0])
    assert figure.axes[0].get_xlabel() == "predicted frame"


def test_empty_logs_say_what_to_do() -> None:
    with pytest.raises(TrivdError, match=r"training\.log_every"):
        loss_curves(LOG[1:3])
    with pytest.raises(TrivdError, match=r"training\.evaluate_every"):
        score_curves(LOG[:1])


def test_figures_are_encoded_repeatably() -> None:
    assert to_png(score_curves(LOG)).startswith(b"\x89PNG")
    svg = to_svg(score_curves(LOG))
    assert "<svg" in svg
    assert svg == to_svg(score_curves(LOG))


def test_tensors_and_arrays_may_be_drawn() -> None:
    figure = frame_curves({"SSIM": {"one": np.array([0.5, 0.4])}})
    assert lines(figure)[0] == {"one": ([1, 2], [0.5, 0.4])}
