"""The page of a run: every section, from the run's own files, with or without an evaluation."""

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from stand_ins import PROTOCOL

from trivd.commands.main import main
from trivd.config import Config
from trivd.evaluation.metrics.motion_error import MotionScore
from trivd.evaluation.outcome import Evaluation, Figure, Spread
from trivd.pictures.draw import save_png
from trivd.prediction.page import write_run_page
from trivd.runtime.errors import TrivdError
from trivd.training.loop import train
from trivd.training.run import Run

CURVES = {
    "psnr": {"copy the last frame": [23.0, 21.0, 19.0], "best of 10": [21.0, 19.0, 17.5]},
    "ssim": {"copy the last frame": [0.9, 0.8, 0.7], "one sample": [0.6, 0.5, 0.4]},
}


def evaluation(motion: MotionScore | None) -> Evaluation:
    figures = [Figure("FVD (means)", "lower", 2, Spread.of([5.0, 6.0]), 7.25, 0.125)]
    return Evaluation(PROTOCOL, figures, CURVES, motion, ["few clips"])


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(trained_run, tmp_path / "run")))


def headings(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", page)


def test_the_page_of_a_run_without_evaluation(run: Run) -> None:
    path = write_run_page(run)
    assert path == run.folder / "index.html"
    page = path.read_text()
    assert headings(page) == ["Predicted futures", "Motion fields", "Training"]
    assert "trained on moving-digits for 4 steps; 2 frames given, 3 predicted at 32 x 32 pixels" in page
    assert "adversarial losses alone" in page
    assert "Samples at step 0" in page
    assert "Samples at step 4" in page
    assert "http" not in re.sub(r"data:[^\"]*|xmlns[^\s>]*|http://www\.w3\.org\S*", "", page)  # needs no network


def test_pictures_are_pictures(run: Run) -> None:
    page = write_run_page(run).read_text()
    sources = re.findall(r'src="data:image/(png|gif);base64,([^"]*)"', page)
    sizes = []
    for kind, data in sources:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.format == kind.upper()
            sizes.append(getattr(image, "n_frames", 1))
    assert sizes.count(5) == 4  # of each of four clips, an animation of given and predicted frames
    assert len(sizes) == 4 + 4 + 4 + 2  # grids, animations, motion, training samples
    assert page.count("<svg") + page.count("data:image/svg+xml") >= 2  # losses and scores


@pytest.mark.parametrize("motion", [MotionScore(1.25, 1.5, 64), None])
def test_the_evaluation_is_shown_with_its_protocol(run: Run, motion: MotionScore | None) -> None:
    evaluation(motion).save(run.folder / "report.json")
    page = write_run_page(run).read_text()
    assert headings(page) == ["Predicted futures", "Motion fields", "Scores on held-out clips", "Training"]
    assert str(evaluation(motion).protocol) in page
    shown = (
        "copy the last frame",
        "one sample",
        "best of 10",
        "21.00",
        "0.800",
        "17.50",
        "5.50 ± 0.71",
        "7.25",
        "few clips",
    )
    for text in shown:
        assert text in page, text
    assert ("end-point error against the true flow: 1.25 pixels" in page) == (motion is not None)


def test_another_model_is_shown_beside(run: Run, trained_run: Path) -> None:
    page = write_run_page(run, beside=str(trained_run)).read_text()
    assert headings(page)[-2:] == [
        f"Beside it, {trained_run}: {part}" for part in ("predicted futures", "motion fields")
    ]
    assert page.count("tsru_p, decomposition stronger, 4 steps. ") == 2
    assert page.count("data:image/gif") == 8


def test_another_model_is_looked_for_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(*_: object) -> None:
        raise AssertionError("It has begun to draw.")

    monkeypatch.setattr("trivd.prediction.page.draw_example", draws)
    with pytest.raises(TrivdError, match="There is no model at nowhere"):
        write_run_page(run, beside="nowhere")


def folder_of_videos(root: Path) -> Path:
    """Five clips to train on, five held out; the third picture of the held-out clips 1 and 2 is damaged."""
    for split in ("train", "validation"):
        for number in range(5):
            for frame in range(5):
                shade = np.full((32, 32, 3), 40 * number + 5 * frame, np.uint8)
                save_png(root / split / str(number) / f"{frame}.png", shade)
    for number in (1, 2):
        (root / "validation" / str(number) / "2.png").write_bytes(b"no picture")
    return root


def test_clips_that_cannot_be_read_end_neither_a_page_nor_an_evaluation(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    data = folder_of_videos(tmp_path / "videos\udcff")  # names of files are bytes, which need not be UTF-8
    page = write_run_page(run, data=str(data)).read_text()
    assert page.count("data:image/gif") == 3
    assert page.count("damaged image (2.png)") == 2
    out = tmp_path / "out\udcff.json"
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(run.folder), str(data), "--features", "none", "--clips", "9", "--out", str(out)])
    said, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert said.count("Left out: ") == 2
    assert "2 clips left out: cannot be read" in said
    protocol = json.loads(out.read_bytes())["protocol"]
    assert (protocol["clips"], protocol["unreadable"], protocol["data"]) == (3, 2, "videos\udcff")
    assert "validation/2" in out.with_suffix(".md").read_text()


def test_the_data_may_be_named_and_limited(run: Run, tmp_path: Path) -> None:
    """A run of somebody may name any folder of the reader's, and any limits."""
    settings = json.loads(run.config_file.read_text())
    settings["data"] = str(tmp_path / "private")
    run.config_file.write_text(json.dumps(settings))
    with pytest.raises(TrivdError, match="private"):
        write_run_page(run)
    assert "trained on moving-digits" in write_run_page(run, data="moving-digits").read_text()


def test_only_samples_of_the_run_are_shown(run: Run, tmp_path: Path) -> None:
    before = write_run_page(run).read_text().count("data:image/png")
    (tmp_path / "secret").write_text("secret")
    (run.samples / "step-00000099.png").symlink_to(tmp_path / "secret")
    (run.samples / "step-last.png").write_bytes(b"")
    assert write_run_page(run).read_text().count("data:image/png") == before


def test_units_that_do_not_warp_have_no_motion_section(tmp_path: Path, tiny_config: Callable[..., Config]) -> None:
    run = Run(tmp_path / "run")
    config = tiny_config(
        model={"unit": "conv_gru", "classes": 10},
        training={"reconstruction": 30.0, "steps": 1},
        discriminator={"decomposition": "mocogan_k1"},
    )
    assert train(config, "moving-digits", run, Console(file=io.StringIO()))
    page = write_run_page(run).read_text()
    assert headings(page) == ["Predicted futures", "Training"]
    assert "adversarial losses and L1 x 30" in page


def test_what_is_no_run_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match="is not the folder of a run"):
        write_run_page(Run(tmp_path / "nothing"))
    shutil.rmtree(run.best)
    with pytest.raises(TrivdError, match="has no model yet"):
        write_run_page(run)
