"""What is printed and written of an evaluation: every number, with its units and its protocol."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from stand_ins import PROTOCOL

from trivd.evaluation.metrics.motion_error import MotionScore
from trivd.evaluation.outcome import COPIES, Absent, Evaluation, Figure, Spread
from trivd.evaluation.several import joint_markdown
from trivd.evaluation.tables import markdown, print_tables


@pytest.fixture
def evaluation() -> Evaluation:
    protocol = replace(
        PROTOCOL,
        data="videos",
        split="test",
        clips=9,
        best_of_clips=8,
        resolution=64,
        truncation=None,
        standing_statistics="",
    )
    figures = [
        Figure("FVD", "lower", 2, Spread.of([5.0, 6.0]), 7.25, 0.125),
        Figure("PSNR [dB], one sample", "higher", 2, Spread.of([20.0]), 21.0, None),
    ]
    curves = {"psnr": {"one sample": [20.0, 18.5, 16.0]}, "sharpness": {"truth": [8.0, 9.0, 10.0]}}
    return Evaluation(protocol, figures, curves, MotionScore(0.5, 0.75, 64), ["few clips"])


def test_terminal_and_markdown_say_the_same(evaluation: Evaluation) -> None:
    stream = io.StringIO()
    print_tables(evaluation, Console(file=stream, width=200))
    for text in (stream.getvalue(), markdown(evaluation, "report.png")):
        assert "model, mean ± std of 2 runs" in text
        assert str(evaluation.protocol) in text
        for part in ("FVD (lower is better)", "PSNR [dB], one sample", "[px]", "[grey levels / pixel]"):
            assert part in text, part
        for number in ("5.50 ± 0.71", "7.25", "0.12", "20.00", "0.50", "0.75", "18.50", "18.17", "9.00", "few clips"):
            assert number in text, number
    assert "![scores by predicted frame](report.png)" in markdown(evaluation, "report.png")


def test_frames_are_rows_that_end_with_their_mean(evaluation: Evaluation) -> None:
    lines = markdown(evaluation, "report.png").splitlines()
    start = lines.index("| PSNR [dB], predicted frame | one sample |")
    assert lines[start + 2 : start + 6] == ["| 1 | 20.00 |", "| 2 | 18.50 |", "| 3 | 16.00 |", "| mean | 18.17 |"]


def test_sets_have_no_copies(evaluation: Evaluation) -> None:
    figures = [replace(figure, copy=None) for figure in evaluation.figures]
    protocol = replace(evaluation.protocol, sets="covariances over N")
    sets = replace(evaluation, protocol=protocol, figures=figures, motion=None, absent=[Absent("IS", "no weights")])
    for text in (markdown(sets, "report.png"), joint_markdown({"a": sets}, "comparison.png")):
        assert "copy" not in text
        assert "| IS | not computed: no weights | - |" in text
        assert "| FVD (lower is better) | 5.50 ± 0.71 | 0.12 |" in text
    assert "| figure | a | copy the last frame | true clips |" in joint_markdown({"a": evaluation}, "comparison.png")


def test_a_figure_that_cannot_be_had_says_why(evaluation: Evaluation) -> None:
    without = replace(evaluation, figures=evaluation.figures[1:], absent=[Absent("FVD", "no weights; fetch some")])
    stream = io.StringIO()
    print_tables(without, Console(file=stream, width=200))
    assert "FVD" in stream.getvalue()
    assert "not computed: no weights; fetch some" in stream.getvalue()
    assert "| FVD | not computed: no weights; fetch some | - | - |" in markdown(without, "report.png")
    copies = replace(without, protocol=replace(without.protocol, subject=COPIES))
    assert "| FVD | not computed: no weights; fetch some | - |" in markdown(copies, "report.png")
