"""Surroundings that are not a developer's: no home, no terminal, a strange locale and clock, odd names of folders."""

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


def trivd(environment: dict[str, str], folder: Path, *arguments: object) -> str:
    """What a command says that ends well, in an environment with nothing else in it, without a terminal."""
    finished = subprocess.run(
        [sys.executable, "-m", "trivd", *map(str, arguments)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environment | {"OMP_NUM_THREADS": "1"},
        cwd=folder,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr.decode(errors="replace")
    return finished.stdout.decode(errors="replace")


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
    train = ("train", "données", "--preset", "quickstart", *options, "--out")
    trivd(STRANGE, folder, *train, "run né")
    os.utime(folder / "run né" / "run.json", (0, 0))  # a clock that was wrong
    assert "is complete" in trivd(NOTHING, folder, *train, "run né")
    trivd(NOTHING, folder, *train, "another")
    trivd(STRANGE, folder, "evaluate", "run né")
    assert (folder / "run né" / "report.json").is_file()
    clip = Path("données", "train", "clip 0 é.npy")
    for environment, out in ((NOTHING, "futurs"), (STRANGE, "futurs d'été")):
        trivd(environment, folder, "predict", clip, "--model", "run né", "--samples", 1, "--out", out)
        assert list((folder / out).glob("*.png"))
    trivd(NOTHING, folder, "prepare", "données", "dépôt", "--resolution", 32, "--workers", 1)
    trivd(STRANGE, folder, "report", "run né")
