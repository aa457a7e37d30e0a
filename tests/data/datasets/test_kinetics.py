"""Kinetics-600: lists, flat folders and folders by label, what is missing, and lists that are wrong."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_files import numbered_frames, write_video

from trivd.data.datasets.kinetics import find_kinetics, is_kinetics, read_lists
from trivd.data.formats.decode import UnreadableVideo
from trivd.data.listing import Listing, ListingSource
from trivd.runtime.errors import TrivdError

HEADER = "label,youtube_id,time_start,time_end,split"
ROWS = {
    "train": [
        "zumba,AAAAAAAAAAA,0,10",
        "tying knot (not on a tie),BBBBBBBBBBB,15,25",
        '"air, drums",-_CCCCCCCCC,100,110',
    ],
    "val": ["zumba,DDDDDDDDDDD,7,17"],
    "test": ["bowling,EEEEEEEEEEE,999,1009"],
}
FILES = {
    "train": ["AAAAAAAAAAA_000000_000010", "BBBBBBBBBBB_000015_000025", "-_CCCCCCCCC_000100_000110"],
    "val": ["DDDDDDDDDDD_000007_000017"],
    "test": ["EEEEEEEEEEE_000999_001009"],
}


def write_list(path: Path, rows: Iterable[str], header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


def write_lists(folder: Path) -> None:
    for name, rows in ROWS.items():
        split = {"val": "validate"}.get(name, name)
        write_list(folder / f"{name}.csv", [f"{row},{split}" for row in rows])


def touch(root: Path, *names: str) -> None:
    """Empty files: a listing opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def flat(root: Path) -> Path:
    write_lists(root / "annotations")
    touch(root, *(f"{split}/{name}.mp4" for split, names in FILES.items() for name in names))
    return root


def find(root: Path) -> Listing:
    return find_kinetics(root, 0.3)


def labelled(found: Listing) -> list[tuple[str, str, str | None]]:
    return [(entry.video.path.stem, entry.split, entry.class_name) for entry in found.entries]


EXPECTED = [  # in the order of the lists' names: test, train, val
    ("EEEEEEEEEEE_000999_001009", "test", "bowling"),
    ("AAAAAAAAAAA_000000_000010", "train", "zumba"),
    ("BBBBBBBBBBB_000015_000025", "train", "tying knot (not on a tie)"),
    ("-_CCCCCCCCC_000100_000110", "train", "air, drums"),
    ("DDDDDDDDDDD_000007_000017", "validation", "zumba"),
]
CLASSES = ("air, drums", "bowling", "tying knot (not on a tie)", "zumba")


def test_real_videos_of_the_flat_layout(tmp_path: Path) -> None:
    write_lists(tmp_path)
    for number, (split, names) in enumerate(FILES.items()):
        for name in names:
            write_video(tmp_path / split / f"{name}.mp4", numbered_frames(10 + number))
    found = find(tmp_path)
    assert labelled(found) == EXPECTED
    train, test = ListingSource(found, "train", 32, 3, 8), ListingSource(found, "test", 32, 3, 8)
    assert train.classes == test.classes == CLASSES
    assert (train.lengths, train.labels) == ([10, 10, 10], [3, 2, 0])
    assert (test.lengths, test.labels, test.names) == ([12], [1], ["test/EEEEEEEEEEE_000999_001009.mp4"])
    assert train.read(1, 2, 3, 2).shape == (3, 32, 43, 3)
    assert "train: 3 of 3 listed videos (about 390,000 in the data set)" in train.summary
    found.entries[1].video.path.unlink()
    with pytest.raises(UnreadableVideo, match="missing"):
        train.read(0, 0, 8, 1)
    assert "skipped train/AAAAAAAAAAA_000000_000010.mp4: missing" in ListingSource(found, "train", 32, 3, 8).summary


@pytest.mark.parametrize("lists", ["", "annotations", "kinetics600"])
@pytest.mark.parametrize("place", ["{split}/{name}", "{split}/some_label/{name}", "{name}", "all/{name}"])
def test_lists_decide_wherever_files_lie(tmp_path: Path, lists: str, place: str) -> None:
    write_lists(tmp_path / lists)
    for split, names in FILES.items():
        touch(tmp_path, *(place.format(split=split, name=f"{name}.mp4") for name in names))
    found = find(tmp_path)
    assert labelled(found) == EXPECTED
    assert found.classes == CLASSES
    assert found.skipped == ()


def test_folders_by_label_need_no_lists(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/zumba/{name}.mp4" for name in FILES["train"]), f"val/bowling/{FILES['val'][0]}.mp4")
    assert is_kinetics(tmp_path)
    found = find(tmp_path)
    assert [entry.split for entry in found.entries] == ["train"] * 3 + ["validation"]
    assert found.classes == ("bowling", "zumba")
    assert "no lists: splits and classes are those of the folders" in found.notes


def test_what_is_missing_or_unlisted_is_counted(tmp_path: Path) -> None:
    flat(tmp_path)
    write_list(tmp_path / "more.csv", [f"zumba,{number:011d},1,11,train" for number in range(50_000)])
    touch(tmp_path, "val/FFFFFFFFFFF_000000_000010.mp4", "val/notes.txt", "val/.hidden.mp4")
    touch(tmp_path, f"test/copies/{FILES['val'][0]}.mp4")
    found = find(tmp_path)
    assert labelled(found) == [*EXPECTED]
    assert "train: 3 of 50,003 listed videos (about 390,000 in the data set)" in found.notes
    with pytest.raises(TrivdError, match="50,000 missing"):
        ListingSource(found, "train", 32, 3, 8)
    for entry in found.entries:
        write_video(entry.video.path, numbered_frames(10))
    source = ListingSource(found, "train", 32, 3, 8)
    listed = [line for line in source.summary if line.startswith("skipped ")]
    assert listed[:4] == [
        f"skipped val/{FILES['val'][0]}.mp4: second copy",
        "skipped val/notes.txt: not a video",
        "skipped val/FFFFFFFFFFF_000000_000010.mp4: in no list",
        "skipped 00000000000_000001_000011.mp4: missing (train)",
    ]
    assert len(listed) == 21
    assert source.summary[-2:] == [
        "... and 49,983 more",
        "skipped 50,003: 50,000 missing, 1 second copy, 1 not a video, 1 in no list",
    ]


def test_replacements_take_the_place_of_files(tmp_path: Path) -> None:
    flat(tmp_path)
    name = FILES["train"][0]
    touch(tmp_path, f"replacement/for_corrupted/{name}.mp4")
    found = find(tmp_path)
    assert labelled(found) == EXPECTED
    assert found.entries[1].name == f"replacement/for_corrupted/{name}.mp4"
    assert [str(one) for one in found.skipped] == [f"skipped train/{name}.mp4: replaced"]


def test_files_are_not_touched_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat(tmp_path)
    write_list(tmp_path / "annotations" / "more.csv", [f"zumba,{number:011d},1,11,train" for number in range(500)])
    touch(tmp_path, *(f"train/{number:011d}_000001_000011.mp4" for number in range(400)))
    calls = 0
    stat = os.stat

    def counted(*args: object, **kwargs: object) -> os.stat_result:
        nonlocal calls
        calls += 1
        return stat(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", counted)
    assert len(find(tmp_path).entries) == 405
    assert calls < 30


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    flat(tmp_path)
    (tmp_path / "train" / "round").symlink_to(tmp_path)
    assert labelled(find(tmp_path)) == EXPECTED


@pytest.mark.parametrize(
    "change", [lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n"), lambda b: b + b"\n\n"]
)
def test_harmless_differences_of_lists(tmp_path: Path, change: object) -> None:
    flat(tmp_path)
    for path in (tmp_path / "annotations").iterdir():
        path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    assert is_kinetics(tmp_path)
    found = find(tmp_path)
    assert (labelled(found), found.classes) == (EXPECTED, CLASSES)


def test_other_columns_in_any_order(tmp_path: Path) -> None:
    touch(tmp_path, "AAAAAAAAAAA_000000_000010.mp4")
    write_list(
        tmp_path / "k.csv", ["0,train, 10,0,AAAAAAAAAAA,zumba"], "is_cc,split,time_end,time_start,youtube_id,label"
    )
    touch(tmp_path, "other.csv")
    assert labelled(find(tmp_path)) == [EXPECTED[1]]


def test_repeated_rows_are_harmless_and_labels_are_taken_where_they_are(tmp_path: Path) -> None:
    flat(tmp_path)
    rows = [row.split(",", 1)[1] + ",test" for row in ROWS["test"]]
    write_list(tmp_path / "annotations" / "a_test.csv", rows, HEADER.removeprefix("label,"))
    found = find(tmp_path)
    assert (labelled(found), found.classes) == (EXPECTED, CLASSES)
    assert "1 rows repeat others" in found.notes


def test_a_list_without_labels_takes_the_classes_away(tmp_path: Path) -> None:
    flat(tmp_path)
    rows = [row.split(",", 1)[1] + ",test" for row in ROWS["test"]]
    write_list(tmp_path / "annotations" / "test.csv", rows, HEADER.removeprefix("label,"))
    found = find(tmp_path)
    assert [entry[:2] for entry in labelled(found)] == [entry[:2] for entry in EXPECTED]
    assert found.classes == ()
    assert any(note.startswith("no labels: test.csv has none") for note in found.notes)


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        ("label,youtube_id,time_start,split\n", 1, "no column time_end"),
        ("a.mp4 1\nb.mp4 2\n", 1, "no column youtube_id, time_start, time_end, split"),
        ("", 1, "no column youtube_id"),
        (f"{HEADER},label\n", 1, "a column is there twice"),
        (f"{HEADER}\na,AAAAAAAAAAA,0,10,train\na,AAAAAAAAAAA,0,10\n", 3, "4 values under 5 columns"),
        (f"{HEADER}\na,AAAAAAAAAAA,0.5,10,train\n", 2, "'0.5' to '10' are no whole seconds"),
        (f"{HEADER}\na,AAAAAAAAAAA,0,-1,train\n", 2, "'0' to '-1' are no whole seconds"),
        (f"{HEADER}\na,AAAAAAAAAAA,0,1000000,train\n", 2, "are no whole seconds"),
        (f"{HEADER}\na,AAAAAAAAAAA,0,10,holdout\n", 2, "'holdout' is no split"),
        (f"{HEADER}\na,../../../etc,0,10,train\n", 2, "'../../../etc' is no youtube_id"),
        (f"{HEADER}\na,/etc/passwd,0,10,train\n", 2, "'/etc/passwd' is no youtube_id"),
        (f"{HEADER}\na,#NAME?,0,10,train\n", 2, "'#NAME\\?' is no youtube_id"),
        (f'{HEADER}\n"a"b,AAAAAAAAAAA,0,10,train\n', 2, "not a row of CSV"),
        (f'{HEADER}\n"{"a" * 200_000}",AAAAAAAAAAA,0,10,train\n', 2, "it has 65,536 bytes or more"),
        (
            f"{HEADER}\na,AAAAAAAAAAA,0,10,train\nb,AAAAAAAAAAA,0,10,train\n",
            3,
            "is train, b here but train, a in .*line 2",
        ),
        (f"{HEADER}\na,AAAAAAAAAAA,0,10,train\na,AAAAAAAAAAA,0,10,val\n", 3, "is validation, a here but train, a in"),
    ],
)
def test_wrong_lists_are_refused_by_line(tmp_path: Path, content: str, line: int, why: str) -> None:
    (path := tmp_path / "train.csv").write_text(content)
    touch(tmp_path, "AAAAAAAAAAA_000000_000010.mp4")
    with pytest.raises(TrivdError, match=rf"train\.csv, line {line}: .*{why}"):
        find(tmp_path)
    with pytest.raises(TrivdError, match=rf"line {line}:"):
        read_lists([path])


def test_lists_that_are_no_text(tmp_path: Path) -> None:
    touch(tmp_path, "AAAAAAAAAAA_000000_000010.mp4")
    (tmp_path / "train.csv").write_bytes(
        f"{HEADER}\na,AAAAAAAAAAA,0,10,train\n".encode() + b"caf\xe9,BBBBBBBBBBB,0,10,train\n"
    )
    with pytest.raises(TrivdError, match=r"train\.csv, line 3: it is not UTF-8"):
        find(tmp_path)


def test_neither_lists_nor_names(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat.mp4", "notes.csv")
    assert not is_kinetics(tmp_path)
    with pytest.raises(TrivdError, match="neither lists of Kinetics"):
        find(tmp_path)


CELLS = st.one_of(
    st.sampled_from(["AAAAAAAAAAA", "0", "10", "train", "validate", "", "../x", "²", "\x00", '"', "\r", "é"]),
    st.text(max_size=5),
)


@given(rows=st.lists(st.lists(CELLS, max_size=6).map(",".join), max_size=6), tail=st.binary(max_size=5))
def test_any_list_gives_rows_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], tail: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "train.csv"
    path.write_bytes("\n".join([HEADER, *rows]).encode(errors="surrogatepass") + tail)
    with suppress(TrivdError):
        assert all(re.fullmatch(r"[0-9A-Za-z_-]+", clip) for clip in read_lists([path])[0])


@given(content=st.binary(max_size=200))
def test_any_bytes_give_rows_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "val.csv"
    for data in (content, f"{HEADER}\n".encode() + content):
        path.write_bytes(data)
        with suppress(TrivdError):
            read_lists([path])
