"""What a run says about its speed: images per second, and how long it waits for clips."""

import io
import json
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from trivd.config import Config
from trivd.data.loader import Batch, TrainingStream
from trivd.training import session
from trivd.training.budget import Budget
from trivd.training.log import TrainingLog
from trivd.training.loop import train
from trivd.training.objectives import Losses
from trivd.training.run import Run
from trivd.training.step import Trainer

MakeConfig = Callable[..., Config]


@pytest.mark.parametrize(("share", "shown"), [(0.0, ""), (0.004, ""), (0.023, " | wait 2%"), (0.5, " | wait 50%")])
def test_waiting_is_shown_where_it_matters(tmp_path: Path, share: float, shown: str) -> None:
    console = Console(file=io.StringIO(), width=200)
    with TrainingLog(Run(tmp_path), console, 0, 10, Budget(None, 0.0)) as log:
        losses = {"loss/discriminator/crop": 1.5, "loss/generator/crop": -0.25}
        answers = {"discriminator/crop/real": 0.84, "discriminator/crop/fake": 0.21, "discriminator/crop/wrong": 0.4}
        log.losses(3, losses | answers, 120.4, share, 90.0)
    line = console.file.getvalue()  # type: ignore[attr-defined]
    assert line == f"step 3/10 | crop D 1.50 G -0.25 (0.8/0.2) | 120 images/s{shown} | 2 min left\n"
    row = json.loads((tmp_path / "log.jsonl").read_text())
    assert row["speed/images_per_second"] == 120.4
    assert row["speed/wait_share"] == share


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    run = Run(tmp_path)
    sound = [{"step": 3, "loss/x": 1.0}, {"step": 2, "loss/x": 2.0}, {"step": 3, "score/y": 3.0}]
    lines = [json.dumps(row).encode() for row in sound]
    bad = [b'{"step": 4, "lo', b"\xff\x80", b"[" * 100_000, b"7", b'{"loss/x": 1}', b'{"step": "4"}', b""]
    run.log_file.write_bytes(b"\n".join([lines[0], *bad, *lines[1:], *bad]))
    assert run.log_rows() == [sound[1], sound[0], sound[2]]


class Clock:
    """In place of the module `time`: it stands still but where it is told to move."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("wait", "warnings"), [(0.05, 0), (0.25, 1)])  # seconds for a batch
def test_a_run_that_keeps_waiting_names_the_setting_once(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, wait: float, warnings: int
) -> None:
    clock, make_step = Clock(), Trainer.train_step

    class SlowStream(TrainingStream):
        def __iter__(self) -> Generator[Batch, None, None]:
            for batch in super().__iter__():
                clock.now += wait
                yield batch

    def step(trainer: Trainer, updates: Sequence[Sequence[Batch]]) -> Losses:
        clock.now += 1.0
        return make_step(trainer, updates)

    monkeypatch.setattr(session, "time", clock)
    monkeypatch.setattr(session, "TrainingStream", SlowStream)
    monkeypatch.setattr(Trainer, "train_step", step)
    console = Console(file=io.StringIO(), width=500)
    config = tiny_config(training={"steps": 8, "sample_every": 8, "evaluate_every": 8, "checkpoint_every": 8})
    assert train(config, "moving-digits", Run(tmp_path / "run"), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    share = 2 * wait / (1 + 2 * wait)
    assert said.count("of the time is spent waiting for clips") == warnings
    assert said.count("data.workers (now 0)") == warnings
    assert said.count(f"| wait {share:.0%}") == 8
    rows = [row for row in Run(tmp_path / "run").log_rows() if "speed/wait_share" in row]
    assert [row["speed/wait_share"] for row in rows] == pytest.approx([share] * 8)
    assert rows[0]["speed/images_per_second"] == pytest.approx(2 * 2 * 5 / (1 + 2 * wait))  # updates, clips, frames
