"""The simulated data set robot-pushing: what a clip depends on, what moves, and its store."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from prepare_checks import contents
from run_checks import Command

from trivd.config import DataConfig, ModelConfig
from trivd.data.clips import open_clips
from trivd.data.datasets import robot_scene
from trivd.data.datasets.robot_pushing import BLOCKED, FRAMES, SPEED, RobotClip, episode, objects_of
from trivd.data.datasets.robot_scene import TRAY, WORKSPACE, Scene, data_folder
from trivd.data.formats.frames import FrameConverter
from trivd.data.splits import SPLITS, Split
from trivd.data.store.index import read_index
from trivd.data.store.series import read_series, series_path
from trivd.data.store.simulated import write_robot_store
from trivd.data.store.source import verify_store
from trivd.runtime.errors import TrivdError

pytest.importorskip("pybullet", reason="pybullet is missing: pip install 'trivd[robot]'")

CLIPS: dict[Split, int] = {"train": 2, "validation": 1, "test": 2}
SEED, SIZE = 7, 32


def write(root: Path, clips: dict[Split, int], seed: int = SEED) -> None:
    write_robot_store(root, clips=clips, seed=seed, resolution=SIZE, channels=3, workers=1, progress=None)


@pytest.fixture(scope="module")
def robot_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a few clips; not to be changed."""
    root = tmp_path_factory.mktemp("robot") / "store"
    write(root, CLIPS)
    return root


def test_a_store_gives_the_clips_of_each_split(robot_store: Path) -> None:
    verify_store(robot_store)
    model = ModelConfig(resolution=SIZE, conditioning_frames=1, predicted_frames=15)
    for split in SPLITS:
        clips = open_clips(robot_store, split, DataConfig(), model)
        assert (clips.evaluation_clips, clips.classes, clips.split) == (CLIPS[split], (), split)
        video = clips.evaluation_clip(0).video
        assert video.shape == (16, SIZE, SIZE, 3)
        assert np.abs(np.diff(video.astype(np.int64), axis=0)).mean() > 1  # grey levels: something moves


def test_a_clip_depends_on_split_number_and_seed_alone(robot_store: Path, tmp_path: Path) -> None:
    """Neither on the clips before it nor on how many there are; nor on the frames that are asked for."""
    write(tmp_path / "fewer", {"train": 1, "validation": 0, "test": 1})
    stored = {video.name: video.crc32c for video in read_index(robot_store).videos}
    fewer = {video.name: video.crc32c for video in read_index(tmp_path / "fewer").videos}
    assert fewer.items() < stored.items()
    assert len(set(stored.values())) == len(stored) == sum(CLIPS.values())

    clip = RobotClip("test", 1, SEED, SIZE)
    whole = list(clip.frames(0, 1, FrameConverter(SIZE, 3)))
    model = ModelConfig(resolution=SIZE, conditioning_frames=1, predicted_frames=FRAMES - 1)
    np.testing.assert_array_equal(open_clips(robot_store, "test", DataConfig(), model).evaluation_clip(1).video, whole)
    np.testing.assert_array_equal(list(clip.frames(3, 5, FrameConverter(SIZE, 3))), whole[3::5])
    (grey, *_) = clip.frames(0, 1, FrameConverter(SIZE, 1))
    np.testing.assert_allclose(grey[..., 0], whole[0] @ [0.299, 0.587, 0.114], atol=2)
    other = episode(RobotClip("test", 1, SEED + 1, SIZE))
    assert not np.array_equal(other.position, read_series(robot_store)["endeffector_pos"][-1])


def test_the_gripper_follows_its_actions(robot_store: Path) -> None:
    series = read_series(robot_store)
    action, position = series["action"], series["endeffector_pos"]
    assert action.shape == position.shape == (sum(CLIPS.values()), FRAMES, 3)
    assert action.dtype == position.dtype == np.float32
    assert np.linalg.norm(action, axis=-1).max() <= SPEED[1] + 1e-6
    assert (position > WORKSPACE[0] - BLOCKED).all()
    assert (position < WORKSPACE[1] + BLOCKED).all()
    late = np.abs(np.diff(position, axis=1) - action[:, :-1]).max(axis=-1)
    assert np.median(late) < 0.002  # m, of ways of 1 to 3 cm
    assert late.max() < 2 * BLOCKED


def test_the_gripper_pushes_objects_which_stay_in_the_tray() -> None:
    """Sent through an object along a straight line, it takes the object along."""
    with closing(Scene(objects_of("train")[:5], np.random.default_rng(0))) as scene:
        before = np.array([scene.object(number) for number in range(5)])
        way = before[0] - scene.target
        way[2] = 0.01 - scene.target[2]
        scene.move(way * [0, 0, 1])
        for _ in range(20):
            scene.move(way * [1.5, 1.5, 0] / 20)
        after = np.array([scene.object(number) for number in range(5)])
    direction = way[:2] / np.linalg.norm(way[:2])
    assert (after - before)[0, :2] @ direction > 0.02
    assert (after[:, :2] > TRAY[0]).all()
    assert (after[:, :2] < TRAY[1]).all()
    assert (after[:, 2] > 0).all()


def test_splits_share_no_object_and_every_object_has_a_shape() -> None:
    objects = [set(objects_of(split).tolist()) for split in SPLITS]
    assert [len(one) for one in objects] == [799, 100, 100]
    assert len(set.union(*objects)) == 999
    for number in sorted(set.union(*objects))[::37]:
        low, high = robot_scene.extent(data_folder() / "random_urdfs" / f"{number:03}" / f"{number:03}.obj")
        assert (high > low).all()


def test_a_stopped_command_resumes_and_replaces_what_is_damaged(robot_store: Path, tmp_path: Path) -> None:
    clips: dict[Split, int] = {"train": 1, "validation": 0, "test": 1}
    store = tmp_path / "store"
    write(store, clips)
    before = contents(store)
    series_path(store, 0).unlink()
    with pytest.raises(TrivdError, match=r"00000\.npz is damaged; delete .*index\.json and repeat"):
        read_series(store)
    damaged = bytearray(series_path(store, 1).read_bytes())
    damaged[300] ^= 1
    series_path(store, 1).write_bytes(damaged)
    with pytest.raises(TrivdError, match=r"0000\d\.npz is damaged"):
        read_series(store)
    (store / "index.json").unlink()
    write(store, clips)
    assert contents(store) == before
    for changed in ({"seed": 8}, {"clips": {**clips, "train": 2}}):
        with pytest.raises(TrivdError, match=rf"other videos or settings \({next(iter(changed))}"):
            write(**{"root": store, "clips": clips} | changed)
    assert json.loads((store / "plan.json").read_text())["source"] == "robot-pushing"


def test_what_is_refused(
    trivd_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action_folder: Path
) -> None:
    def refused(said: str, *options: str | Path) -> None:
        status, _, err = trivd_command("prepare", *map(str, options))
        assert status != 0
        assert said in err
        assert not (tmp_path / "store").exists()

    store = tmp_path / "store"
    refused("--fps is not for robot-pushing", "robot-pushing", store, "--fps", "10")
    refused("--seed is for robot-pushing alone", action_folder, store, "--seed", "1")
    refused("--clips is 0; it must be at least 1", "robot-pushing", store, "--clips", "0")
    refused("--test-clips is -1", "robot-pushing", store, "--test-clips", "-1")
    monkeypatch.setattr(robot_scene, "find_spec", lambda name: None)
    refused("pip install 'trivd[robot]'", "robot-pushing", store)
    with pytest.raises(TrivdError, match="simulated into a store: run `trivd prepare robot-pushing STORE`"):
        open_clips("robot-pushing", "train", DataConfig(), ModelConfig())
