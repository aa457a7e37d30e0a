"""Lines show names as they are: no markup is read from them, nothing in them reaches the terminal's control."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trivd.cli import main
from trivd.say import say


def said(text: str, style: str = "") -> str:
    file = io.StringIO()
    say(Console(file=file, width=20), text, style)
    return file.getvalue()


@pytest.mark.parametrize(
    "name", ["clip [dQw4w9WgXcQ].mp4", "a[/b].mp4", "[red]stop[/red]", "[link=https://a.b]c[/link]", ":x:"]
)
def test_names_are_shown_as_they_are(name: str) -> None:
    assert said(f"Another clip is taken: {name}", "yellow") == f"Another clip is taken: {name}\n"


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_no_control_character_is_written(text: str) -> None:
    written = said(text)
    assert not [c for c in written if c != "\n" and c != "\t" and (ord(c) < 32 or 127 <= ord(c) < 160)]


def test_colour_is_that_of_the_style_alone() -> None:
    file = io.StringIO()
    say(Console(file=file, force_terminal=True, color_system="standard", width=20), "[red]\x1b[31mx 12", "yellow")
    assert file.getvalue() == "\x1b[33m[red]\N{REPLACEMENT CHARACTER}[31mx 12\x1b[0m\n"


def test_a_damaged_video_of_such_a_name_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "videos" / "a[").mkdir(parents=True)
    (tmp_path / "videos" / "a[" / "b].mp4").write_bytes(b"no video")
    for number in range(3):
        np.save(tmp_path / "videos" / "a[" / f"{number}.npy", np.zeros((4, 32, 32, 3), np.uint8))
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(tmp_path / "videos"), str(tmp_path / "store"), "--resolution", "32", "--workers", "0"])
    assert ended.value.code == 0
    assert "a[/b].mp4" in capsys.readouterr().out
