"""Names of folders that denote a split: Train, val, test_set, dev, UCF_train and UCF_test."""

import re
from collections.abc import Sequence

from trivd.data.splits import Split

_SPELLINGS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training", "trainval", "trn"),
    "validation": (
        *("val", "valid", "validation", "validate", "dev", "devel", "development", "eval", "evaluation"),
        *("heldout", "holdout", "minival", "validating"),
    ),
    "test": ("test", "tests", "testing", "tst"),
}
WORDS: dict[str, Split] = {
    f"{word}{ending}": split for split, words in _SPELLINGS.items() for word in words for ending in ("", "set", "data")
}
# fmt: off
NEUTRAL = frozenset({  # words that add nothing to the name of a split
    "set", "sets", "subset", "data", "dataset", "split", "video", "videos", "clip", "clips", "frame", "frames",
    "image", "images", "file", "files",
})
# fmt: on
TWO_WORDS = re.compile("(held|hold)[-_ ]?out")
CAPITAL = re.compile("(?<=[a-z])(?=[A-Z])")
WORD = re.compile(r"[^\W\d_]+|\d+")


def split_of(name: str) -> tuple[Split, tuple[str, ...]] | None:
    """The split that a folder's name denotes, and its other words; None if it denotes none, or two.

    "Val_Set" gives validation and nothing else, "ucf_train" train and "ucf".
    """
    words = WORD.findall(TWO_WORDS.sub(r"\1out", CAPITAL.sub(" ", name).casefold()))
    splits = {WORDS[word] for word in words if word in WORDS}
    if len(splits) != 1:
        return None
    return splits.pop(), tuple(word for word in words if word not in WORDS and word not in NEUTRAL)


def plain_splits(names: Sequence[str]) -> dict[str, Split]:
    """The splits of those names that denote one without other words."""
    said = {name: split_of(name) for name in names}
    return {name: one[0] for name, one in said.items() if one is not None and not one[1]}


def matching_splits(names: Sequence[str]) -> dict[str, Split]:
    """The splits of neighbouring folders, if training and held-out ones are named alike; else none.

    Folders whose names denote a split without other words take precedence; without such folders, those with the same
    other words count (ucf_train, ucf_test), if all names of splits have them.
    """
    groups: dict[tuple[str, ...], dict[str, Split]] = {}
    for name in names:
        if (said := split_of(name)) is not None:
            split, others = said
            groups.setdefault(others, {})[name] = split
    chosen = groups.get((), {}) if () in groups else next(iter(groups.values()), {}) if len(groups) == 1 else {}
    return chosen if "train" in chosen.values() and len(set(chosen.values())) > 1 else {}


def disagree(names: Sequence[str]) -> list[str]:
    """Names that denote training and held-out splits, but not alike (train_1, train_2, test); else none."""
    said = {name: one[0] for name in names if (one := split_of(name)) is not None}
    is_open = "train" in said.values() and len(set(said.values())) > 1 and not matching_splits(names)
    return sorted(said) if is_open else []
