"""Surroundings that are not a developer's: no home, no terminal, a strange locale and clock, odd names of folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

TINY = {
    "--training.steps": 2,
    "--training.batch-size": 2,
    "--evaluation.clips": 4,
    "--evaluation.best-of-clips": 2,
    "--evaluation.samples": 2,
    "--evaluation.standing-batches": 1,
    "--evaluation.standing-batch-size": 2,
}
# Commands one after the other in one process, as `python -m trivd` runs each; the import of PyTorch takes longest.
COMMANDS = """
import json, runpy, sys
for sys.argv[1:] in json.loads(sys.argv[1]):
    print("$", *sys.argv[1:])
    try:
        runpy.run_module("trivd", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code not in (0, None):
            raise
    sys.stdout.flush()
"""


def trivd(environment: dict[str, str], folder: Path, *commands: list[object]) -> list[str]:
    """The output of each command, all of which end well, without a terminal or any other environment variable."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    finished = subprocess.run(
        [sys.executable, "-c", COMMANDS, words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environment | {"OMP_NUM_THREADS": "1"},
        cwd=folder,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr.decode(errors="replace")
    return finished.stdout.decode(errors="replace").split("$ ")[1:]


READ_ONLY = "/proc"  # nobody can write there, not even the administrator
NOTHING: dict[str, str] = {}
STRANGE = {"HOME": READ_ONLY, "LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "TERM": "dumb", "COLUMNS": "20"}


def test_the_commands_work_in_odd_surroundings(tmp_path: Path) -> None:
    folder = tmp_path / "mes vidéos, 動画 'quoted' [bold] %s"
    for split, count in (("train", 3), ("validation", 2)):
        (folder / "données" / split).mkdir(parents=True)
        for number in range(count):
            clip = np.random.default_rng(number).integers(256, size=(12, 32, 32, 3), dtype=np.uint8)
            np.save(folder / "données" / split / f"clip {number} é.npy", clip)
    options = [part for option in TINY.items() for part in option]
    train = ["train", "données", "--preset", "quickstart", *options, "--out"]
    clip = Path("données", "train", "clip 0 é.npy")
    predict = ["predict", clip, "--model", "run né", "--samples", 1, "--out"]
    trivd(STRANGE, folder, [*train, "run né"], ["evaluate", "run né"], [*predict, "futurs d'été"], ["report", "run né"])
    assert (folder / "run né" / "report.json").is_file()
    os.utime(folder / "run né" / "run.json", (0, 0))  # a clock that was wrong
    resumed, *_ = trivd(
        NOTHING,
        folder,
        [*train, "run né"],
        [*train, "another"],
        [*predict, "futurs"],
        ["prepare", "données", "dépôt", "--resolution", 32, "--workers", 1],
    )
    assert "is complete" in resumed
    for out in ("futurs", "futurs d'été"):
        assert list((folder / out).glob("*.png"))
