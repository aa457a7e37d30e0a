"""BAIR's record files: frames to the byte, order, what is damaged, and the robot's actions."""

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_files import byte_list, example, field, packed, record, trajectory_features, write_bair

from trivd.config import DataConfig, ModelConfig
from trivd.data.clips import open_clips
from trivd.data.datasets.bair import BairTrajectory, find_bair, read_actions
from trivd.data.formats.decode import first_frames, read_frames
from trivd.data.formats.frames import UnreadableVideo
from trivd.data.listing import ListingSource
from trivd.runtime.errors import TrivdError

FOLDER = "softmotion30_44k"


@pytest.fixture(scope="module")
def bair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files whose order by name is not the one by number."""
    files = {
        "train/traj_1024_to_1024.tfrecords": [4],
        "train/traj_256_to_257.tfrecords": [2, 3],
        "train/traj_0_to_1.tfrecords": [0, 1],
        "test/traj_0_to_0.tfrecords": [5],
    }
    return write_bair(tmp_path_factory.mktemp("bair"), files)


def one(tmp_path: Path, features: dict[str, bytes], camera: str = "image_aux1") -> BairTrajectory:
    """A trajectory with these features, in a file of its own."""
    data = example(features)
    (path := tmp_path / "traj_0_to_0.tfrecords").write_bytes(record(data))
    return BairTrajectory(path, 12, len(data), camera)


def test_trajectories_in_order_and_to_the_byte(bair: Path) -> None:
    found = find_bair(bair, "image_aux1")
    assert [entry.name for entry in found.entries] == [
        "train/traj_0_to_1.tfrecords#0",
        "train/traj_0_to_1.tfrecords#1",
        "train/traj_256_to_257.tfrecords#0",
        "train/traj_256_to_257.tfrecords#1",
        "train/traj_1024_to_1024.tfrecords#0",
        "test/traj_0_to_0.tfrecords#0",
    ]
    assert [entry.split for entry in found.entries] == ["train"] * 5 + ["test"]
    assert (found.classes, found.skipped) == ((), ())
    assert "train: 5 of 43,264 trajectories of the data set" in found.notes
    assert "test: 1 of 256 trajectories of the data set" in found.notes
    for camera in ("image_aux1", "image_main"):
        for seed, entry in enumerate(find_bair(bair, camera).entries):
            truth = trajectory_features(seed, 3)[1][camera]
            info = entry.video.probe()
            assert (info.frames, info.height, info.width) == truth.shape[:3]
            assert np.array_equal(first_frames(entry.video, 0, 3, 1, short_side=64, channels=3), truth)
    assert [entry.name for entry in find_bair(bair / FOLDER, "image_aux1").entries] == [e.name for e in found.entries]


def test_strides_sizes_and_colours_are_those_of_other_videos(bair: Path, tmp_path: Path) -> None:
    video = find_bair(bair, "image_main").entries[2].video
    truth = trajectory_features(2, 3)[1]["image_main"]
    np.save(tmp_path / "same.npy", truth)
    for side, channels in ((32, 3), (128, 3), (64, 1)):
        same = read_frames(tmp_path / "same.npy", 0, 2, 2, short_side=side, channels=channels)
        assert np.array_equal(first_frames(video, 0, 2, 2, short_side=side, channels=channels), same)
    assert np.array_equal(first_frames(video, 2, 1, 1, short_side=None, channels=3), truth[2:])
    with pytest.raises(UnreadableVideo, match=r"ends early \(no frame 3\)"):
        first_frames(video, 0, 4, 1, short_side=64, channels=3)


def test_actions_and_positions(bair: Path) -> None:
    video = find_bair(bair, "image_aux1").entries[3].video
    assert isinstance(video, BairTrajectory)
    truth = trajectory_features(3, 3)[1]
    action, position = read_actions(video)
    assert (action.dtype, position.dtype) == (np.float32, np.float32)
    assert np.array_equal(action, truth["action"])
    assert np.array_equal(position, truth["endeffector_pos"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("2/action", packed([1.0, 2.0, 3.0])), ("0/endeffector_pos", byte_list([b"12 bytes...."])), ("1/action", b"")],
)
def test_actions_that_are_not_there(tmp_path: Path, name: str, value: bytes) -> None:
    video = one(tmp_path, trajectory_features(0, 3)[0] | {name: value})
    assert video.probe().frames == 3
    with pytest.raises(UnreadableVideo, match=rf"not \d numbers of {name[2:]} \(frame {name[0]}"):
        read_actions(video)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"1/image_aux1/encoded": byte_list([b"x" * 12287])}, r"wrong size of a frame \(12,287 of 12,288 bytes"),
        ({"1/image_aux1/encoded": byte_list([])}, r"a frame is missing \(frame 1"),
        ({"1/image_aux1/encoded": byte_list([bytes(12288)] * 2)}, r"a frame is missing \(frame 1"),
        ({"1/image_aux1/encoded": packed([1.0])}, r"a frame is missing \(frame 1"),
        ({"4/image_aux1/encoded": byte_list([bytes(12288)])}, r"a frame is missing \(frame 3"),
    ],
)
def test_frames_that_are_not_there(tmp_path: Path, changes: dict[str, bytes], reason: str) -> None:
    video = one(tmp_path, trajectory_features(0, 3)[0] | changes)
    with pytest.raises(UnreadableVideo, match=reason):
        video.probe()
    with pytest.raises(UnreadableVideo, match=reason):
        first_frames(video, 0, 1, 1, short_side=64, channels=3)


def test_a_camera_that_is_not_there(tmp_path: Path) -> None:
    features = {name: value for name, value in trajectory_features(0, 3)[0].items() if "main" not in name}
    assert one(tmp_path, features).probe().frames == 3
    video = one(tmp_path, features, "image_main")
    for read in (video.probe, lambda: read_actions(video)):
        with pytest.raises(UnreadableVideo, match="no camera image_main"):
            read()


def test_what_is_damaged_is_skipped_and_counted(bair: Path, tmp_path: Path) -> None:
    root = shutil.copytree(bair, tmp_path / "copy")
    train = root / FOLDER / "train"
    whole = (train / "traj_256_to_257.tfrecords").read_bytes()
    (train / "traj_256_to_257.tfrecords").write_bytes(whole[:-1])
    changed = bytearray((train / "traj_0_to_1.tfrecords").read_bytes())
    changed[5000] ^= 1
    (train / "traj_0_to_1.tfrecords").write_bytes(changed)
    (train / "traj_1024_to_1024.tfrecords").rename(train / "traj_1024_to_1025.tfrecords")
    (train / "notes.txt").touch()
    source = ListingSource(find_bair(root, "image_aux1"), "train", 64, 3, 2)
    assert source.names == [
        "train/traj_0_to_1.tfrecords#1",
        "train/traj_256_to_257.tfrecords#0",
        "train/traj_1024_to_1025.tfrecords#0",
    ]
    skipped = {line for line in source.summary if line.startswith("skipped ")}
    assert skipped == {
        f"skipped train/traj_256_to_257.tfrecords: truncated (1 of 2 trajectories; "
        f"the record at byte {len(whole) // 2} is cut off)",
        "skipped train/traj_0_to_1.tfrecords#0: wrong checksum (record at byte 0)",
        "skipped train/traj_1024_to_1025.tfrecords: incomplete (1 of 2 trajectories)",
        "skipped train/notes.txt: not named traj_A_to_B.tfrecords",
        "skipped 4: 1 not named traj_A_to_B.tfrecords, 1 truncated, 1 incomplete, 1 wrong checksum",
    }


def test_a_file_that_goes_after_the_listing(bair: Path, tmp_path: Path) -> None:
    root = shutil.copytree(bair, tmp_path / "copy")
    source = ListingSource(find_bair(root, "image_aux1"), "test", 64, 3, 2)
    video = find_bair(root, "image_aux1").entries[-1].video
    (root / FOLDER / "test").rename(root / "elsewhere")
    with pytest.raises(UnreadableVideo, match="missing"):
        source.read(0, 0, 2, 1)
    with pytest.raises(UnreadableVideo, match="missing"):
        video.probe()


def test_folders_without_splits_say_which_to_name(bair: Path) -> None:
    with pytest.raises(TrivdError, match=rf"holds no train/ or test/.*name {FOLDER}"):
        find_bair(bair / FOLDER / "train", "image_aux1")


def test_clips_for_a_model(bair: Path) -> None:
    model = ModelConfig(conditioning_frames=1, predicted_frames=2)
    clips = open_clips(bair, "validation", DataConfig(), model)
    assert (clips.split, len(clips)) == ("test", 1)
    assert np.array_equal(clips.evaluation_clip(0).video, trajectory_features(5, 3)[1]["image_aux1"])


@given(
    order=st.permutations(range(6)),
    wrong=st.dictionaries(st.sampled_from(["0/image_aux1/encoded", "1/action", "/image_aux1/encoded"]), st.binary()),
    tail=st.binary(max_size=20),
)
@settings(max_examples=50)
def test_any_features_give_frames_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], wrong: dict[str, bytes], tail: bytes
) -> None:
    features = list(trajectory_features(1, 2)[0].items())
    shuffled = {features[at][0]: features[at][1] for at in order} | wrong
    data = example(shuffled) + (field(1, tail) if tail else b"")
    (path := tmp_path_factory.getbasetemp() / "traj_0_to_0.tfrecords").write_bytes(record(data))
    video = BairTrajectory(path, 12, len(data), "image_aux1")
    for read in (
        video.probe,
        lambda: read_actions(video),
        lambda: first_frames(video, 0, 2, 1, short_side=64, channels=3),
    ):
        with suppress(TrivdError):
            read()
