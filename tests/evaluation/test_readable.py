"""Clips that cannot be read do not end an evaluation: they are left out of every figure, named and counted."""

import json
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins import Means

from trivd.config import Config, EvaluationConfig, override, to_dict
from trivd.data.ahead import ReadAhead
from trivd.data.clips import Clip, ClipDataset, open_clips
from trivd.data.formats.frames import UnreadableVideo
from trivd.evaluation.evaluate import HeldOut, evaluate
from trivd.evaluation.metrics.frame_scores import psnr
from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.outcome import Evaluation, read_evaluation
from trivd.evaluation.subjects import Subject, TrainedModel, model_subject
from trivd.evaluation.tables import markdown
from trivd.models.generator import Generator
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import to_float

CPU = torch.device("cpu")


class Damaged:
    """A data set of which some clips cannot be read, or only so many times."""

    def __init__(self, clips: ClipDataset, damaged: Collection[int], readable: int = 0) -> None:
        self._clips = clips
        self.damaged = damaged
        self._left = dict.fromkeys(damaged, readable)  # times that it can be read
        self.split = clips.split
        self.classes = clips.classes
        self.fps = clips.fps
        self.summary = clips.summary

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def evaluation_clips(self) -> int:
        return 8

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return self._clips.training_clip(index, rng)

    def evaluation_clip(self, index: int) -> Clip:
        if index in self._left:
            self._left[index] -= 1
            if self._left[index] < 0:
                raise UnreadableVideo(Path(f"clip-{index}.mp4"), "damaged")
        return self._clips.evaluation_clip(index)


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config(evaluation={"clips": 8, "best_of_clips": 4, "batch_size": 3})


@pytest.fixture(scope="module")
def clips(config: Config) -> ClipDataset:
    return open_clips("moving-digits", "validation", config.data, config.model)


@pytest.fixture
def score(
    config: Config, clips: ClipDataset, make_generator: Callable[..., Generator], tmp_path: Path
) -> Callable[..., Evaluation]:
    """Scores a model on held-out clips of which some are damaged."""

    def run(held_out: ClipDataset, network: FeatureNetwork | None = None, train: ClipDataset = clips) -> Evaluation:
        generator = make_generator(predicted_frames=3, recurrent_resolutions=(8,))
        history = {"data": "moving-digits", "step": 0, "config": to_dict(config)}
        subject = model_subject(TrainedModel(generator, history, torch.float32), train, config.evaluation)
        report = tmp_path / "report.json"
        counted = HeldOut(held_out, "digits", 1)
        return evaluate(subject, counted, config.evaluation, network, device=CPU, report=report)

    return run


def truth(clips: ClipDataset, numbers: list[int]) -> torch.Tensor:
    return to_float(np.stack([clips.evaluation_clip(number).video for number in numbers]))


def copies(clips: ClipDataset, numbers: list[int]) -> torch.Tensor:
    """What copying the last of the two given frames gives, with these before it."""
    video = truth(clips, numbers)
    return torch.cat([video[:, :2], video[:, 1:2].expand_as(video[:, 2:])], dim=1)


def test_they_are_left_out_named_and_counted(
    score: Callable[..., Evaluation], clips: ClipDataset, tmp_path: Path
) -> None:
    evaluation = score(Damaged(clips, {0, 3, 4}), Means())
    assert (evaluation.protocol.clips, evaluation.protocol.best_of_clips, evaluation.protocol.unreadable) == (5, 2, 3)
    assert "3 clips left out: cannot be read" in str(evaluation.protocol)
    named = [warning for warning in evaluation.warnings if warning.startswith("Left out: ")]
    assert named == [
        f"Left out: clip-{number}.mp4 cannot be used as a video: damaged; repair or remove it." for number in (0, 3, 4)
    ]
    # The figures are those of the others alone.
    left = [1, 2, 5, 6, 7]
    often = [2, 6]  # of 0, 2, 4, 6
    copied, true = copies(clips, often)[:, 2:], truth(clips, often)[:, 2:]
    expected = psnr(copied, true).mean(dim=0).tolist()
    assert evaluation.curves["psnr"]["copy the last frame"] == pytest.approx(expected, rel=1e-5)

    def means(video: torch.Tensor) -> torch.Tensor:
        return video.add(1).mul(127.5).mean(dim=(2, 3, 4))

    distance = frechet_distance(means(truth(clips, left)), means(copies(clips, left)))
    assert evaluation.figure("FVD (means)").copy == pytest.approx(distance, rel=1e-3)
    assert read_evaluation(tmp_path / "report.json") == evaluation
    assert json.loads((tmp_path / "report.json").read_text())["protocol"]["unreadable"] == 3
    assert "clip-3.mp4" in markdown(evaluation, "report.png")


def test_clips_read_ahead_give_the_same_figures(
    score: Callable[..., Evaluation], clips: ClipDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [score(Damaged(clips, damaged, readable), Means()) for damaged, readable in (({0, 3, 4}, 0), ({3, 6}, 1))]
    monkeypatch.setattr(
        "trivd.evaluation.sharing.ReadAhead", lambda held_out, device: ReadAhead(held_out, torch.device("cuda"))
    )
    assert [score(Damaged(clips, *how), Means()) for how in (({0, 3, 4}, 0), ({3, 6}, 1))] == wanted


def test_a_whole_batch_may_be_left_out(score: Callable[..., Evaluation], clips: ClipDataset) -> None:
    protocol = score(Damaged(clips, {0, 1, 2, 3})).protocol
    assert (protocol.clips, protocol.best_of_clips, protocol.unreadable) == (4, 2, 4)


def test_a_disk_that_fails_on_the_way_gives_figures_of_the_same_clips(
    score: Callable[..., Evaluation], clips: ClipDataset
) -> None:
    """A clip that could be read for the truth, and not for its future, counts in neither."""
    evaluation = score(Damaged(clips, {3, 6}, readable=1), Means())
    assert evaluation.protocol.unreadable == 2
    whole = score(Damaged(clips, {3, 6}), Means())
    assert (evaluation.figures, evaluation.curves) == (whole.figures, whole.curves)
    protocol = score(Damaged(clips, {3, 6}, readable=2), Means()).protocol  # clip 6 is then to be read a third time
    assert (protocol.clips, protocol.best_of_clips, protocol.unreadable) == (8, 3, 1)


def test_none_left_is_an_error(score: Callable[..., Evaluation], clips: ClipDataset, tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match=r"clip-7\.mp4 cannot be used as a video"):
        score(Damaged(clips, range(8)))
    with pytest.raises(TrivdError, match=r"None of 8 held-out clips can be read\. The first: clip-0\.mp4"):
        score(Damaged(clips, range(8), readable=1))
    assert not (tmp_path / "report.json").exists()


def test_too_few_left_for_a_network_is_an_error(score: Callable[..., Evaluation], clips: ClipDataset) -> None:
    with pytest.raises(TrivdError, match=r"FVD \(means\) needs at least 4 clips, but there are 3"):
        score(Damaged(clips, range(1, 6)), Means())


def test_training_clips_that_cannot_be_read_are_named_too(
    score: Callable[..., Evaluation], clips: ClipDataset, config: Config
) -> None:
    class Untrained(Damaged):
        def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
            if index % 2:
                raise UnreadableVideo(Path("odd.mp4"), "damaged")
            return super().training_clip(index, rng)

    evaluation = score(Damaged(clips, ()), train=Untrained(clips, ()))
    assert evaluation.protocol.unreadable == 0
    (warning,) = evaluation.warnings
    assert warning.startswith("Another training clip is taken for the standing statistics: odd.mp4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inception_splits": 9}, r"IS \(means\) of 8 clips cannot be had in 9 splits"),
        ({"clips": 3}, r"needs at least 4 clips, but there are 3"),
    ],
)
def test_settings_that_do_not_fit_are_said_before_a_clip_is_scored(
    config: Config, clips: ClipDataset, tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    settings: EvaluationConfig = override(config, {"evaluation": changes}, "the test").evaluation

    def progress(*_: object) -> None:
        raise AssertionError("It has begun to score.")

    class Unused:
        def __getattr__(self, name: str) -> None:
            raise AssertionError("It has begun to predict.")

    subject = Subject(Unused(), "", 2)  # type: ignore[arg-type]
    with pytest.raises(TrivdError, match=message):
        evaluate(
            subject,
            HeldOut(Damaged(clips, ()), "", 1),
            settings,
            Means(),
            device=CPU,
            report=tmp_path / "report.json",
            progress=progress,
        )
    assert list(tmp_path.iterdir()) == []
