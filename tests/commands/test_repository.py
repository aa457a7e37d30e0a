"""The commands whose code lies in the repository: one sentence where it does not, and their own help where it does."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trivd
from trivd.commands import repository
from trivd.commands.main import main
from trivd.commands.repository import ROOT, repository_command

PACKAGE = Path(trivd.__file__).parent


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (("benchmark", "warp"), "benchmarks"),
        (("replicate", "list"), "research"),
        (("benchmark", "--help"), "benchmarks"),
    ],
)
def test_without_the_folder_one_sentence_names_it(
    arguments: tuple[str, ...],
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"trivd: `trivd {arguments[0]}` needs the folder {folder}/ of trivd's repository")
    assert err.endswith(".\n")
    assert err.count("\n") == 1


def test_help_lists_the_commands_without_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "benchmark" in out
    assert "replicate" in out


def test_an_installed_package_alone_says_so(tmp_path: Path) -> None:
    """In a process of its own, with a copy of the package and nothing beside it."""
    shutil.copytree(PACKAGE, tmp_path / "trivd", ignore=shutil.ignore_patterns("__pycache__"))
    for command in ("benchmark", "replicate"):
        done = subprocess.run(
            [sys.executable, "-m", "trivd", command, "--help"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2, done.stderr
        assert "clone the repository" in done.stderr


def test_the_repository_has_both(capsys: pytest.CaptureFixture[str]) -> None:
    for command, word in (("benchmark", "warp"), ("replicate", "table1")):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert word in capsys.readouterr().out


def test_a_folder_of_that_name_elsewhere_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    command = repository_command("benchmark", ["benchmark"])
    assert Path(inspect.getfile(command)).is_relative_to(ROOT)
