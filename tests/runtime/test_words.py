"""Numbers in sentences."""

import pytest

from trivd.runtime.words import counted


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(0, "clip", "0 clips"), (1, "clip", "1 clip"), (2_048, "clip", "2,048 clips"), (1, "class", "1 class"),
     (4, "class", "4 classes")],
)  # fmt: skip
def test_numbers_agree_with_their_nouns(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
