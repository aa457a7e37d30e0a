"""What tests of commands share."""

from functools import partial
from pathlib import Path

import pytest
from run_checks import Command


@pytest.fixture
def evaluate(trivd_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `trivd evaluate` in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    return partial(trivd_command, "evaluate")
