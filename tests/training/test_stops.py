"""Signals to stop are obeyed within a step, whatever is being done then, and nothing that was trained is lost."""

import os
import pty
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from run_checks import DATA, MakeConfig, assert_same_run, run_to

from trivd.data.clips import Clip, DigitClips
from trivd.data.processes import STOP_SIGNALS
from trivd.runtime.errors import TrivdError
from trivd.training import loop, stops
from trivd.training.checkpoint import list_checkpoints
from trivd.training.loop import train
from trivd.training.run import Run
from trivd.training.snapshot import SplitScores

STALLS = 20 if "TRIVD_TEST_KILLS" in os.environ else 1  # of each kind; `make soak` asks for more
RARELY = {"checkpoint_every": 100, "sample_every": 100, "evaluate_every": 100}


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def saved_steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(folder / "checkpoints")]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_every_signal_stops_and_saves(
    tmp_path: Path,
    tiny_config: MakeConfig,
    after_step: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    answers: list[str] = []

    def stop() -> None:
        send(number)
        answers.append(capfd.readouterr().err)

    after_step(2, stop)
    complete, said = run_to(tmp_path / "run", tiny_config(training=RARELY))
    assert not complete
    assert "Stopped at step 2; all is saved." in said
    assert saved_steps(tmp_path / "run") == [2]
    assert signal.getsignal(number) is before
    (answer,) = answers  # at once, not when all is saved
    assert answer.startswith(f"\n{number.name}: Stopping, after this step at the latest, and saving")
    assert ("Ctrl-C again" in answer) == (number == signal.SIGINT)


@pytest.mark.parametrize("kept", ["ignored", "handled"])
def test_signals_that_are_ignored_or_used_stay_so(
    tmp_path: Path, tiny_config: MakeConfig, after_step: Callable[..., None], kept: str
) -> None:
    """As SIGHUP under nohup; and as in a program that has a use of its own for SIGUSR1."""
    seen: list[int] = []
    handler: Any = signal.SIG_IGN if kept == "ignored" else lambda number, frame: seen.append(number)
    numbers = [signal.SIGHUP, signal.SIGUSR1]
    before = [signal.signal(number, handler) for number in numbers]
    try:
        after_step(2, lambda: [send(number) for number in numbers])
        assert run_to(tmp_path / "run", tiny_config(training=RARELY))[0]
    finally:
        for number, earlier in zip(numbers, before, strict=True):
            signal.signal(number, earlier)
    assert seen == ([] if kept == "ignored" else numbers)


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    with stops.stop_on_signals() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):  # from a batch system, and from torchrun
            send(number)
        assert stop.received
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_of_the_main_thread_training_works(tmp_path: Path, tiny_config: MakeConfig) -> None:
    """Where Python allows no handlers of signals."""
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(run_to(tmp_path / "run", tiny_config())[0]))
    thread.start()
    thread.join()
    assert done == [True]


def test_interruptions_come_once() -> None:
    """What is half done is removed in peace."""
    with stops.interrupted_by_signals():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGHUP)
        for number in STOP_SIGNALS[1:]:
            send(number)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


@pytest.mark.parametrize("gone", ["terminal", "pipe"])
@pytest.mark.parametrize("number", [None, signal.SIGHUP])
def test_a_terminal_that_is_gone_ends_nothing(
    tmp_path: Path, tiny_config: MakeConfig, after_step: Callable[..., None], number: int | None, gone: str
) -> None:
    """With a signal it stops and saves; without one, as for a job that was disowned, it goes on to the end."""
    theirs, ours = pty.openpty() if gone == "terminal" else os.pipe()

    def vanish() -> None:
        os.close(theirs)
        with pytest.raises(OSError, match=r"Input/output|Broken pipe"):
            os.write(ours, b"x")
        if number is not None:
            send(number)

    after_step(2, vanish)
    config = tiny_config(training=RARELY)
    with open(ours, "w") as file:
        complete = train(config, DATA, Run(tmp_path / "run"), Console(file=file))
        file.write("not kept for the end of the program, where it could not be written either")
    assert complete is (number is None)
    assert saved_steps(tmp_path / "run") == ([4] if number is None else [2])


# While something else than a step is done.


@pytest.fixture
def stall(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that makes reading clips hang at the 21st: as a disk that does not answer, or by SIGSTOP."""
    training_clip, seen = DigitClips.training_clip, []

    def install(how: str) -> None:
        def hanging(clips: DigitClips, index: int, rng: np.random.Generator) -> Clip:
            seen.append(index)
            if len(seen) > 20:
                if how == "stopped":
                    send(signal.SIGSTOP)
                reader, _ = os.pipe()
                os.read(reader, 1)
            return training_clip(clips, index, rng)

        seen.clear()
        monkeypatch.setattr(DigitClips, "training_clip", hanging)

    return install


def stop_when_it_hangs(run: Run, sent: list[float]) -> None:
    """Send SIGTERM once the log does not grow any more, and note when."""
    steps, now = -1, 0
    while steps < now or now == 0:
        time.sleep(0.5)
        steps, now = now, max((row["step"] for row in run.log_rows()), default=0)
    send(signal.SIGTERM)
    sent.append(time.monotonic())


@pytest.mark.kills
@pytest.mark.parametrize(("how", "workers"), [("waiting", 0), ("waiting", 2), ("stopped", 1)])
def test_clips_that_never_come_do_not_keep_it_from_stopping(
    tmp_path: Path, tiny_config: MakeConfig, stall: Callable[[str], None], how: str, workers: int
) -> None:
    config = tiny_config(training={**RARELY, "steps": 100}, data={"workers": workers})
    for number in range(STALLS):
        folder = tmp_path / f"{number}"
        stall(how)
        sent: list[float] = []
        thread = threading.Thread(target=stop_when_it_hangs, args=(Run(folder), sent))
        thread.start()
        complete, said = run_to(folder, config)
        seconds = time.monotonic() - sent[0]
        thread.join()
        print(f"{how}, {workers} workers: stopped and saved {seconds:.2f} s after SIGTERM")
        assert not complete
        (step,) = saved_steps(folder)
        assert 0 < step < 20
        assert f"Stopped at step {step}; all is saved." in said
        with suppress(ChildProcessError):
            assert os.waitpid(-1, os.WNOHANG) == (0, 0)  # of its own processes, none is left


SCORED_OFTEN = {"checkpoint_every": 100, "evaluate_every": 2}


@pytest.fixture(scope="module")
def scored_run(tmp_path_factory: pytest.TempPathFactory, tiny_config: MakeConfig) -> Path:
    """The folder of a complete run that scores before the first step, on the way, and after the last."""
    folder = tmp_path_factory.mktemp("scored") / "run"
    assert run_to(folder, tiny_config(training=SCORED_OFTEN))[0]
    return folder


@pytest.mark.parametrize(("scoring", "step"), [(1, 0), (2, 2), (3, 4)])
def test_a_stop_while_scores_are_computed_is_obeyed(
    tmp_path: Path,
    tiny_config: MakeConfig,
    scored_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    scoring: int,
    step: int,
) -> None:
    """The scores are computed again, and the run is the same."""
    config = tiny_config(training=SCORED_OFTEN)
    score, seen = SplitScores.__call__, []

    def stopped(scores: SplitScores, generator: Any, dtype: torch.dtype) -> dict[str, float]:
        seen.append(generator)
        values = score(scores, generator, dtype)
        if len(seen) == scoring:
            send(signal.SIGTERM)
            pytest.fail("it went on")
        return values

    monkeypatch.setattr(SplitScores, "__call__", stopped)
    complete, said = run_to(tmp_path / "run", config)
    assert not complete
    assert f"Stopped at step {step}; all is saved." in said
    assert saved_steps(tmp_path / "run") == ([step] if step else [])
    assert run_to(tmp_path / "run", config)[0]
    assert_same_run(tmp_path / "run", scored_run, 4)
    assert "is complete" in run_to(tmp_path / "run", config)[1]


def test_an_error_in_scoring_saves_what_was_trained(
    tmp_path: Path, tiny_config: MakeConfig, scored_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(training=SCORED_OFTEN)
    score, seen = SplitScores.__call__, []

    def failing(scores: SplitScores, generator: Any, dtype: torch.dtype) -> dict[str, float]:
        seen.append(generator)
        if len(seen) == 2:
            raise MemoryError
        return score(scores, generator, dtype)

    monkeypatch.setattr(SplitScores, "__call__", failing)
    with pytest.raises(TrivdError, match="Out of memory; the last good checkpoint is step 2 in"):
        run_to(tmp_path / "run", config)
    assert run_to(tmp_path / "run", config)[0]
    assert_same_run(tmp_path / "run", scored_run, 4)


def test_a_stop_before_the_first_step_leaves_nothing(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        send(signal.SIGUSR1)
        pytest.fail("it went on")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "open_splits", stopped)
        complete, said = run_to(tmp_path / "run", tiny_config())
    assert not complete
    assert "Stopped before the first step" in said
    assert not (tmp_path / "run").exists()
    assert run_to(tmp_path / "run", tiny_config())[0]
