"""Folders of videos that several tests read."""

from pathlib import Path

import pytest
from video_files import numbered_frames, write_video


@pytest.fixture
def action_folder(tmp_path: Path) -> Path:
    """Two classes of three videos each, of 20, 21, ... frames."""
    root = tmp_path / "actions"
    for number in range(6):
        name = "run" if number % 2 else "walk"
        write_video(root / name / f"{number}.mp4", numbered_frames(20 + number))
    return root
