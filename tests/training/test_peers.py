"""Processes of torchrun that vanish or hang: the others say so within the set time, and the run goes on later."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from run_checks import Command

from trivd.training.checkpoint import list_checkpoints
from trivd.training.run import Run

PATIENCE = 15  # seconds: longer than a step and a save take on a busy machine
SLACK = 180  # seconds, on a busy machine


def command(steps: int, out: Path) -> list[str]:
    """`trivd train` of a tiny model that logs and saves every step."""
    options = {
        "--model.predicted-frames": 3,
        "--model.generator-channels": 2,
        "--model.discriminator-channels": 2,
        "--model.recurrent-resolutions": 8,
        "--discriminator.frames": 2,
        "--training.steps": steps,
        "--training.batch-size": 4,
        "--training.precision": "float32",
        "--training.patience": PATIENCE,
        "--training.checkpoint-every": 1,
        "--training.log-every": 1,
        "--data.workers": 0,
        "--evaluation.clips": 4,
        "--evaluation.standing-batches": 2,
        "--evaluation.standing-batch-size": 2,
        "--out": out,
    }
    arguments = [str(part) for option in options.items() for part in option]
    return ["-m", "trivd", "train", "moving-digits", "--preset", "quickstart", *arguments]


@contextmanager
def launched(torchrun: list[str], arguments: list[str], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """torchrun, and its processes, that are ended with it; what they say is added to `said`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", *torchrun]
    # Without the second variable restarted processes find the addresses of those before them (pytorch#135712).
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with said.open("ab") as file:
        process = subprocess.Popen([*launcher, *arguments], stdout=file, stderr=file, env=environment)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill torchrun and its processes."""
    for number in [*workers(process.pid), process.pid]:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()


def workers(parent: int) -> list[int]:
    """Processes that torchrun has started, the first one first."""
    ranks = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):  # it has ended, or is no process
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            rank = re.search(r"\0RANK=(\d+)\0", (folder / "environ").read_text())
            if above == parent and rank:
                ranks[int(rank[1])] = int(folder.name)
    return [ranks[rank] for rank in sorted(ranks)]


def lives(number: int) -> bool:
    return Path(f"/proc/{number}").exists()


def wait_until(condition: Callable[[], object], what: str) -> None:
    for _ in range(10 * SLACK):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {SLACK} s")


LOST = b"Another process of torchrun has ended, or gave no answer for %d seconds (" % PATIENCE
TWO = ["--standalone", "--nproc-per-node=2"]


@pytest.mark.parametrize(
    ("sent", "victim"),
    [
        pytest.param(signal.SIGKILL, 0, marks=pytest.mark.soak),
        pytest.param(signal.SIGKILL, 1, marks=pytest.mark.soak),  # the next test kills it too
        (signal.SIGSTOP, 1),
    ],
)
def test_a_lost_process_ends_the_others_and_the_run_goes_on(tmp_path: Path, sent: signal.Signals, victim: int) -> None:
    run, said = Run(tmp_path / "run"), tmp_path / "said"
    with launched(TWO, command(10_000, run.folder), said) as process:
        wait_until(lambda: (run.checkpoints / "step-00000002").exists(), "two steps")
        os.kill(workers(process.pid)[victim], sent)
        wait_until(lambda: LOST in said.read_bytes(), "the message")
        if sent == signal.SIGSTOP:  # torchrun waits for half a minute before it kills a stopped process
            os.kill(workers(process.pid)[victim], signal.SIGKILL)
        assert process.wait(SLACK) != 0
    assert re.search(rb"Training stopped; the last good checkpoint is step \d+ in", said.read_bytes())
    last = int(max(run.checkpoints.glob("step-*")).name.removeprefix("step-"))
    with launched(TWO, command(last + 1, run.folder), said) as process:
        assert process.wait(2 * SLACK) == 0, said.read_text()
    assert f"from step {last}." in said.read_text()


def test_torchrun_restarts_a_killed_process_from_the_last_checkpoint(tmp_path: Path) -> None:
    run, said = Run(tmp_path / "run"), tmp_path / "said"
    with launched([*TWO, "--max-restarts=1"], command(6, run.folder), said) as process:
        wait_until(lambda: (run.checkpoints / "step-00000002").exists(), "two steps")
        os.kill(workers(process.pid)[1], signal.SIGKILL)
        assert process.wait(3 * SLACK) == 0, said.read_text()
    if LOST in said.read_bytes():  # torchrun may notice before the other process does, which then ends without a word
        assert re.search(rb"Training stopped; the last good checkpoint is step \d+ in", said.read_bytes())
    assert re.search(r"Resuming .* from step [2-5]\.", said.read_text())
    assert "Done: 6 steps" in said.read_text()
    assert [row["step"] for row in run.log_rows() if "loss/reconstruction" in row] == [1, 2, 3, 4, 5, 6]


SLOW_TO_SAVE = """
import sys, time
from trivd.commands.main import main
from trivd.training import session
save = session.save_checkpoint
def slow(folder, trainer, progress):
    print("Saving", progress.step, flush=True)
    time.sleep(3)  # torchrun asks ten times a second whether a process has ended
    save(folder, trainer, progress)
session.save_checkpoint = slow
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "victims",
    [
        pytest.param([0], id="the first"),
        pytest.param([1], id="another", marks=pytest.mark.soak),
        pytest.param([0, 1, 0, 1], id="all, twice"),
    ],
)
def test_a_signal_to_one_process_stops_all_and_saves(tmp_path: Path, victims: list[int]) -> None:
    """The others wait for the first: when one has ended, torchrun asks the rest to stop, and kills them later."""
    run, said, script = Run(tmp_path / "run"), tmp_path / "said", tmp_path / "slow.py"
    script.write_text(SLOW_TO_SAVE)
    arguments = command(10_000, run.folder)[2:]
    arguments[arguments.index("--training.checkpoint-every") + 1] = "10000"
    with launched(TWO, [str(script), *arguments], said) as process:
        wait_until(lambda: [row for row in run.log_rows() if row["step"] >= 2], "two steps")
        numbers = workers(process.pid)
        for victim in victims:
            os.kill(numbers[victim], signal.SIGTERM)
            time.sleep(0.1)
        wait_until(lambda: list_checkpoints(run.checkpoints) or not all(map(lives, numbers)), "the save")
        assert list_checkpoints(run.checkpoints), said.read_text()
        assert process.wait(2 * SLACK) != 0  # torchrun's, for a training that is not at its end
    (checkpoint,) = run.checkpoints.iterdir()
    step = int(checkpoint.name.removeprefix("step-"))
    assert f"Stopped at step {step}; all is saved." in said.read_text()
    assert "Another process" not in said.read_text()


def test_processes_that_do_not_see_the_same_folder_are_refused(tmp_path: Path, trivd_command: Command) -> None:
    """As on machines without a common disk: the first goes on, the other would begin."""
    said, script = tmp_path / "said", tmp_path / "apart.py"
    script.write_text(
        "import os, sys\n"
        "from trivd.commands.main import main\n"
        "main([*sys.argv[1:-1], sys.argv[-1] + os.environ['RANK']])"
    )
    options = command(1, tmp_path / "run0")[2:]
    assert trivd_command(*options)[0] == 0
    with launched(TWO, [str(script), *command(2, tmp_path / "run")[2:]], said) as process:
        assert process.wait(2 * SLACK) == 1, said.read_text()
    assert "The processes of torchrun find different checkpoints in" in said.read_text()


@pytest.mark.soak
def test_a_run_goes_on_without_a_machine_that_is_lost(tmp_path: Path) -> None:
    """Two torchruns, as on two machines; one is killed with its process, the other goes on with the whole batch."""
    run, said = Run(tmp_path / "run"), tmp_path / "said"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machine = ["--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d", "--rdzv-id=test"]
    machine += [f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1"]
    machine += ["--rdzv-conf=last_call_timeout=5,keep_alive_interval=1,keep_alive_max_attempt=3"]
    with launched([*machine, "--rdzv-conf=is_host=true"], command(30, run.folder), said) as first:
        time.sleep(1)
        with launched(machine, command(30, run.folder), said) as second:
            wait_until(lambda: (run.checkpoints / "step-00000002").exists(), "two steps")
            end(second)
            assert first.wait(3 * SLACK) == 0, said.read_text()
    assert "Global batch: 4 clips = 2 x 1 x 2 (processes x passes x clips)." in said.read_text()
    assert re.search(r"Resuming .* from step \d+\.", said.read_text())
    assert json.loads((run.checkpoints / "step-00000030" / "progress.json").read_text())["samples"] == 30 * 4 * 2
