"""`trivd compare`, from words to files, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from run_checks import Command

from trivd.data.formats.decode import probe
from trivd.pictures.draw import save_mp4


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder holds a run."""
    monkeypatch.chdir(tmp_path)
    Path("run").symlink_to(trained_run)


def clip_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("clip-*.mp4"))


def test_random_clips_of_the_data_set(trivd_command: Command) -> None:
    words = ("run:0", "run:none", "moving-digits", "--count", "2")
    status, out, err = trivd_command("compare", *words, "--seed", "3")
    assert (status, err) == (0, "")
    folder = Path("comparisons/moving-digits")
    assert "2 random clips of moving-digits, validation split, which has 10,000: 2 -> 3 frames, 1 apart, of 32" in out
    assert "drawn at truncation 0, but the standing statistics of run were collected without truncation" in out
    assert out.count("standing statistics") == 1  # not of the column without truncation
    hint = "trivd compare run:0 run:none moving-digits --split validation --seed 3 --clips NUMBER ... --out FOLDER"
    assert hint in out
    assert hint in (folder / "comparison.html").read_text()
    for name in (*clip_files(folder), "overview.mp4"):
        assert f"{folder}/{name}" in out
        assert probe(folder / name).frames == 5
    assert len(clip_files(folder)) == 2
    # The same seed chooses the same clips, which can be named.
    status, out, _ = trivd_command("compare", "--seed", "3", "--out", "again", *words)
    assert status == 0
    assert clip_files(Path("again")) == clip_files(folder)
    number = clip_files(folder)[1].removeprefix("clip-").removesuffix(".mp4")
    status, out, _ = trivd_command("compare", *words, "--seed", "3", "--clips", number, "--out", "named")
    assert status == 0
    assert "1 named clip of moving-digits" in out
    strip = f"clip-{number}.png"
    assert Path("named", strip).read_bytes() == (folder / strip).read_bytes()


def test_videos_in_a_folder_and_their_splits(trivd_command: Command) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        save_mp4(Path("videos", split, "a.mp4"), rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8), 10.0)
    status, out, err = trivd_command("compare", "run:0.8", "videos", "--out", "out")
    assert (status, err) == (0, "")
    assert "2 random clips of videos, test split, which has 2: 2 -> 3 frames" in out
    assert clip_files(Path("out")) == ["clip-0.mp4", "clip-1.mp4"]
    status, out, _ = trivd_command("compare", "run", "videos", "--split", "train", "--out", "train")
    assert status == 0
    assert "videos, train split" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Name at least one model, and last the clips"),
        (("moving-digits",), "Name at least one model, and last the clips"),
        (("run:-1", "moving-digits"), "Truncation is -1.0"),
        (("run:inf", "moving-digits"), "Truncation is inf"),
        (("run:nan", "moving-digits"), "Truncation is nan"),
        (("run:later", "moving-digits"), "There is no model at run:later"),
        (("run", "run:0", "run:none", "moving-digits"), "run with no truncation is named twice; leave one out"),
        (("run", "nowhere"), "nowhere is not a folder of videos"),
        (("run", "run"), "not data to read videos from"),
        (("run", "moving-digits", "--seed", "-1"), "must not be negative"),
        (("run", "moving-digits", "--count", "0"), "--count is 0; it must be at least 1."),
        (("run", "moving-digits", "--every", "0"), "--every is 0; it must be at least 1."),
        (("run", "moving-digits", "--every", "4"), "--every 4 would show none of the 3 predicted frames"),
        (("run", "moving-digits", "--clips"), "--clips needs the number of at least one clip"),
        (("run", "moving-digits", "--clips", "1", "10000"), "--clips names 10000"),
        (("run", "moving-digits", "--split", "test"), "no test split"),
        (("run", "bundled", "moving-digits"), "There is no model at bundled"),
        (("run", "moving-digits", "moving-digits"), "run and moving-digits cannot stand side by side"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(trivd_command: Command, words: tuple[str, ...], said: str) -> None:
    status, _, err = trivd_command("compare", *words)
    assert status == 2
    assert said in err
    assert err.startswith("trivd: ")
    assert err.count("\n") == 1
    assert not Path("comparisons").exists()
