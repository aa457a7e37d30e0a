"""Folders of videos that several tests read."""

import shutil
from pathlib import Path

import pytest
from video_files import numbered_frames, write_video


@pytest.fixture(scope="session")
def shared_actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of three videos each, of 20, 21, ... frames; not to be changed."""
    root = tmp_path_factory.mktemp("shared") / "actions"
    for number in range(6):
        name = "run" if number % 2 else "walk"
        write_video(root / name / f"{number}.mp4", numbered_frames(20 + number))
    return root


@pytest.fixture
def action_folder(shared_actions: Path, tmp_path: Path) -> Path:
    """A copy of `shared_actions` for one test."""
    return Path(shutil.copytree(shared_actions, tmp_path / "actions"))
