"""Outputs that cannot be written: one sentence before the work, and nothing made, left behind or overwritten."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_checks import Command

from trivd.prediction.predictor import Predictor
from trivd.runtime.errors import TrivdError, os_error_sentence
from trivd.runtime.files import check_output_file, check_output_folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a file, an empty and a full folder, and a link to nowhere."""
    place = tmp_path / "place"
    for folder in ("empty", "full"):
        (place / folder).mkdir(parents=True)
    for file in ("file", "full/notes.md"):
        (place / file).write_text("mine")
    (place / "link").symlink_to("nowhere")
    monkeypatch.chdir(place)
    return place


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


LONG = "n" * 300
# Of a file or of a folder: where it cannot be.
NOWHERE = ["file/x", "file/x/y", "link/x", "/proc/x", "/proc/x/y", "/dev/null/x", LONG, f"new/{LONG}", f"{LONG}/x"]


@pytest.mark.parametrize("path", [*NOWHERE, "/proc", "empty", "full", "/dev/null", "n" * 250])
def test_files_that_cannot_be_written_are_refused(place: Path, path: str) -> None:
    before = contents(place)
    with pytest.raises(TrivdError, match=r"; name another --json\.$"):
        check_output_file(Path(path), "name another --json")
    assert contents(place) == before


@pytest.mark.parametrize("path", [*NOWHERE, "/proc", "file", "link", "/dev/null"])
def test_folders_that_cannot_be_written_are_refused(place: Path, path: str) -> None:
    before = contents(place)
    with pytest.raises(TrivdError, match=r"; choose another --out\.$"):
        check_output_folder(Path(path))
    assert contents(place) == before


@pytest.mark.parametrize("path", ["new", "new/deep/er", "file", "full/x", "empty/x", "n" * 200, "full/../new"])
def test_files_that_can_be_written_are_not_made_yet(place: Path, path: str) -> None:
    before = contents(place)
    check_output_file(Path(path))
    assert contents(place) == before


def test_folders_that_can_be_written_are_not_made_yet(place: Path) -> None:
    before = contents(place)
    for path in ("new", "new/deep/er", "empty", "n" * 255):
        check_output_folder(Path(path), empty=True)
    check_output_folder(Path("full"))
    with pytest.raises(TrivdError, match=r"full is not empty; choose another --out\."):
        check_output_folder(Path("full"), empty=True)
    assert contents(place) == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_what_the_system_forbids_is_said(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Whatever the permissions say: a read-only disk, or a place where nobody may write."""

    def refused(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    for check in (check_output_file, check_output_folder):
        with pytest.raises(TrivdError, match=rf"new cannot be written \({os.strerror(number)}\)"):
            check(Path("new"))


def refused(result: tuple[int, str, str], path: str, *parts: str) -> None:
    """Status 2 and one sentence that names the path."""
    status, _, err = result
    assert status == 2
    assert err.startswith("trivd: ")
    assert err.count("\n") == 1
    for part in (path, *parts):
        assert part in err


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (
            ("predict", "clip.npy", "--model", "run", "--out"),
            ("file", "file/x", "link", "/proc/x", "full", "run", LONG),
        ),
        (("compare", "run", "moving-digits", "--out"), ("file", "file/x", "link", "/proc/x", "full", "run", LONG)),
        (("evaluate", "run", "--out"), ("empty", "file/x.json", "/proc/x.json", "link/x", "/dev/null")),
        (("evaluate", "run", "--out"), ("file", "full/notes.json", "clip.npy")),  # those of somebody else
        (("prepare", "videos"), ("file", "file/x", "link", "/proc/x")),
        (("weights", "import", "file", "--out"), ("empty", "file/x", "/proc/x")),
        (("weights", "download", "--url", "https://localhost:1/x", "--out"), ("empty", "file/x", "/proc/x")),
        (("benchmark", "warp", "--json"), ("empty", "file/x", "/proc/x", "file")),
        (("benchmark", "all", "--json"), ("file", "file/x", "/proc/x")),
        (("benchmark", "profile", "--document"), ("empty", "file/x", "missing.md", "full/notes.md")),
        (("benchmark", "tables", "empty", "--document"), ("empty", "file/x")),
        (("replicate", "table2", "--dry-run", "--results"), ("file", "/proc/x")),
        (("replicate", "table2", "--results"), ("file", "/proc/x")),
        (("replicate", "table2", "--runs"), ("file", "/proc/x")),
        (("replicate", "tables", "--document"), ("empty", "file/x")),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_commands_say_so_before_they_work(
    trivd_command: Command,
    trained_run: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    places: tuple[str, ...],
) -> None:
    def works(*_: Any, **__: Any) -> None:
        raise AssertionError("It has begun to work.")

    for work in (
        "trivd.commands.predict.write_futures",
        "trivd.commands.compare.open_columns",
        "trivd.commands.prepare.write_store",
        "trivd.commands.evaluate.evaluate_model",
        "trivd.commands.weights.read_tensors",
        "trivd.commands.weights.fetch",
        "benchmarks.record.Record.add",
        "research.main.paces",
    ):
        monkeypatch.setattr(work, works)
    (place / "run").symlink_to(trained_run)
    np.save("clip.npy", np.zeros((6, 32, 32, 3), np.uint8))
    before = contents(place)
    for path in places:
        refused(trivd_command(*words, path), Path(path).with_suffix("").as_posix())  # or the files beside it
    assert contents(place) == before


def test_the_earlier_report_is_replaced_and_nothing_else(
    trivd_command: Command, trained_run: Path, place: Path
) -> None:
    words = ("evaluate", trained_run, "--features", "none", "--clips", "2", "--best-of-clips", "1", "--samples", "1")
    Path("empty.json").touch()  # as mktemp makes it
    assert trivd_command(*words, "--out", "empty.json")[0] == 0
    assert trivd_command(*words, "--out", "empty.json", "--seed", "1")[0] == 0
    assert '"seed": 1' in Path("empty.json").read_text()
    Path("empty.json").unlink()  # what is beside it is known all the same
    assert trivd_command(*words, "--out", "empty.json")[0] == 0
    for name in ("list.json", "text.json"):
        Path(name).write_text("[1]" if name == "list.json" else "no JSON")
        before = contents(place)
        refused(trivd_command(*words, "--out", name), name, "was not written by `trivd evaluate`")
        assert contents(place) == before


def test_a_page_of_somebody_else_is_kept(trivd_command: Command, copied: Path) -> None:
    page = copied / "index.html"
    page.write_text("<title>my page</title>")
    refused(trivd_command("report", copied), str(page), "was not written by `trivd report`")
    assert page.read_text() == "<title>my page</title>"
    page.unlink()
    page.mkdir()
    refused(trivd_command("report", copied), str(page), "is a folder")
    page.rmdir()
    for _ in range(2):
        assert trivd_command("report", copied)[0] == 0
    assert "trivd: run" in page.read_text()


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), ("a/b cannot be read or written", "Permission")),
        (FileNotFoundError(errno.ENOENT, "No such file", "a", None, "b"), ("a and b cannot be read or written",)),
        (OSError(errno.EIO, "Input/output error"), ("The system reports: Input/output error.",)),
        (ConnectionResetError("gone"), ("The system reports: gone.",)),
        (TimeoutError(), ("The system reports: TimeoutError.",)),
        (OSError(errno.ENOSPC, "No space left", "a"), ("The disk is full", "Free some space")),
    ],
)
def test_any_fault_of_the_system_is_a_sentence(
    trivd_command: Command, monkeypatch: pytest.MonkeyPatch, error: OSError, parts: tuple[str, ...]
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("trivd.commands.report.write_run_page", fails)
    refused(trivd_command("report", "run"), *parts, "epeat the command")
    assert os_error_sentence(error).endswith(".")


def test_a_run_cannot_have_a_name_that_is_no_text(trivd_command: Command, place: Path) -> None:
    before = contents(place)
    refused(trivd_command("train", "moving-digits", "--out", "run\udcff"), "run? is not UTF-8", "another --out")
    assert contents(place) == before


def test_models_in_folders_whose_names_are_no_text_are_read(trained_run: Path, place: Path) -> None:
    """Names of files are bytes, which need not be UTF-8."""
    folder = place / "model\udcff"
    shutil.copytree(trained_run / "best", folder)
    clip = np.zeros((2, 32, 32, 3), np.uint8)
    expected = Predictor.from_pretrained(trained_run).predict(clip)
    assert np.array_equal(Predictor.from_pretrained(folder).predict(clip), expected)
