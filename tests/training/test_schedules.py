"""Sessions in which updates fail, reading fails and signals come, in any order: late verdicts change nothing."""

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from run_checks import MakeConfig, assert_same_state
from stand_ins import call_directly
from torch import Tensor, nn

from trivd.config import Config
from trivd.data.clips import Clip
from trivd.data.loader import Batch
from trivd.runtime.errors import TrivdError
from trivd.training import session as sessions
from trivd.training.checkpoint import Progress, list_checkpoints, load_latest
from trivd.training.division import divide
from trivd.training.ema import Ema
from trivd.training.graph import GraphedStep
from trivd.training.lecam import Anchors
from trivd.training.objectives import Losses
from trivd.training.run import Run
from trivd.training.session import Session
from trivd.training.step import Trainer
from trivd.training.stops import StopRequest
from trivd.training.verdicts import Verdicts

CPU = torch.device("cpu")
CLIPS = 60  # of the data; a step reads one


class Schedule(NamedTuple):
    """What happens to a run; clips are counted in the order in which they are read."""

    checkpoint_every: int
    log_every: int
    evaluate_every: int
    fail: dict[int, str]  # clips -> the network whose update fails by them
    stops: set[int]  # clips while whose step a signal comes, once
    faults: set[int]  # clips that cannot be read, once


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    every = draw(st.sampled_from([3, 4, 2, 1]))
    later = st.integers(every, 12)  # from the first checkpoint on
    fail = draw(st.dictionaries(later, st.sampled_from(["discriminator", "generator"]), min_size=1, max_size=4))
    # Right after a failure, a signal or a fault comes before or after the rollback, and what is saved differs.
    other = st.integers(0, 14).filter(lambda clip: clip - 1 not in fail)
    stops = draw(st.sets(other | st.sampled_from(sorted(clip for clip in fail if clip - 1 not in fail)), max_size=3))
    faults = draw(st.sets(other, max_size=2))
    return Schedule(every, draw(st.sampled_from([50, 3, 1])), draw(st.sampled_from([50, 5, 2])), fail, stops, faults)


class Numbers:
    """Clips that show their numbers, of which some cannot be read."""

    split, classes, fps, summary = "train", (), None, ()
    evaluation_clips = CLIPS

    def __init__(self, seed: int, faults: set[int]) -> None:
        self.order = np.random.default_rng((seed, 0, 1)).permutation(CLIPS).tolist()
        self.faults = set(faults)

    def __len__(self) -> int:
        return CLIPS

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        number = self.order.index(index)
        if number in self.faults:
            self.faults.remove(number)
            raise OSError(f"clip {number}")
        return self.evaluation_clip(number)

    def evaluation_clip(self, index: int) -> Clip:
        return Clip(np.full((1, 1, 1, 1), index, np.uint8), 0)


class Toy(Trainer):
    """Two networks of one weight, whose updates depend on the clip."""

    def __init__(self, config: Config, lag: int) -> None:
        self.config, self.device, self.dtype, self.step, self.share = config, CPU, torch.float32, 0, 0.0
        torch.manual_seed(0)
        self.generator, self.discriminators = nn.Linear(1, 1), nn.Linear(1, 1)  # type: ignore[assignment]
        self.generator_optimizer = self._adam(self.generator, 0.1)
        self.discriminator_optimizer = self._adam(self.discriminators, 0.1)
        self.ema, self.anchors, self.verdicts = Ema(0.5, 2), Anchors((), CPU), Verdicts(CPU)
        self.verdicts.lag = lag
        self._graphed = self._new_graph() if lag else None

    def _new_graph(self) -> GraphedStep:
        return GraphedStep(self._updates, CPU, call_directly)

    def _updates(self, inputs: Any) -> tuple[Losses, list[Tensor]]:
        losses: Losses = {}
        verdicts = []
        for name, module, optimizer, clip in (
            ("discriminator", self.discriminators, self.discriminator_optimizer, inputs[0]),
            ("generator", self.generator, self.generator_optimizer, inputs[1]),
        ):
            optimizer.zero_grad(set_to_none=True)
            loss = (module(clip.view(1)) ** 2).sum() + self.discriminators.weight.detach().sum()
            loss.backward()
            update = self._apply(optimizer, {f"loss/{name}/toy": loss.detach()})
            losses |= update.losses
            verdicts.append(update.verdict)
        return losses, verdicts


class Rows:
    """A log that is a list."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def advance(self, step: int) -> None:
        pass

    def losses(self, step: int, values: dict[str, float], *_: float) -> None:
        self.rows.append((step, values))

    def scores(self, step: int, values: dict[str, float], name: str) -> None:
        self.rows.append((step, values))

    def warn(self, text: str) -> None:
        if "Back to step" in text:  # others depend on the machine's speed
            self.rows.append(text)


class Scores:
    """Scores that are the weights."""

    criterion, distance_name = "ssim", ""

    def __init__(self, *_: Any) -> None:
        self.clips = {"validation": SimpleNamespace(unreadable=[])}

    def __call__(self, generator: nn.Linear, dtype: torch.dtype) -> dict[str, float]:
        return {"score/train/ssim": generator.weight.item()}

    def is_better(self, score: float, than: float) -> bool:
        return score > than


def averaged(trainer: Trainer, dataset: Any) -> nn.Module:
    generator = copy.deepcopy(trainer.generator)
    trainer.ema.apply_to(generator)
    return generator


def train(schedule: Schedule, make_config: MakeConfig, lag: int, folder: Path) -> list[Any]:
    """Train to the end, in as many sessions as it takes, and return what was logged."""
    every = {name: value for name, value in schedule._asdict().items() if name.endswith("_every")}
    recipe = {"steps": 10, "batch_size": 1, "discriminator_updates": 1, "on_nan": "rollback", "sample_every": 50}
    config = make_config(training=recipe | every)
    data, stops, rows = Numbers(config.training.seed, schedule.faults), set(schedule.stops), list[Any]()
    splits: Any = {"train": data, "validation": data}
    stop = StopRequest()

    def draw(updates: Sequence[Sequence[Batch]], *_: Any) -> list[Tensor]:
        clip = int(updates[0][0].video)
        stop.received = stop.received or clip in stops
        stops.discard(clip)
        failing = [schedule.fail.get(clip) == network for network in ("discriminator", "generator")]
        return [torch.tensor(torch.nan if fails else float(clip)) for fails in failing]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trivd.training.step.draw_step", draw)
        patch.setattr(sessions, "SplitScores", Scores)
        patch.setattr(sessions, "averaged_generator", averaged)
        for name in ("save_samples", "save_model"):
            patch.setattr(sessions, name, lambda *_: None)
        patch.setattr(sessions, "watched", lambda *_: {})
        for _ in range(1 + len(schedule.stops) + len(schedule.faults)):
            trainer, stop.received = Toy(config, lag), False
            progress = load_latest(folder / "checkpoints", trainer)[0] or Progress(0, 0, 0.0, None)
            session = Session("toy", Run(folder), trainer, splits, progress, division=divide(config.training, 1))
            try:
                session.loop(Rows(rows), stop)  # type: ignore[arg-type]
            except TrivdError as error:
                rows.append(str(error))
    assert (trainer.step, session.unscored) == (10, False)
    return rows


@settings(max_examples=60, deadline=None)
@given(schedule=schedules())
def test_late_verdicts_change_nothing(schedule: Schedule, tiny_config: MakeConfig) -> None:
    with tempfile.TemporaryDirectory() as name:
        at_once, late = Path(name, "at once"), Path(name, "late")
        assert train(schedule, tiny_config, 0, at_once) == train(schedule, tiny_config, 1, late)
        saved = [[path.name for path in list_checkpoints(folder / "checkpoints")] for folder in (at_once, late)]
        assert saved[0] == saved[1]
        assert_same_state(late, at_once, 10)
