"""What goes wrong around a training is survived, or said in a sentence; nothing that was saved is lost."""

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from run_checks import Command, MakeConfig, assert_same_run, run_to

from trivd.config import Config, override
from trivd.data.loader import Batch
from trivd.data.store.prepare import write_store
from trivd.runtime.errors import TrivdError
from trivd.training import faults
from trivd.training.log import NoLog, TrainingLog
from trivd.training.loop import train
from trivd.training.objectives import Losses
from trivd.training.run import Run
from trivd.training.session import ROLLBACKS, Session
from trivd.training.step import Trainer
from trivd.training.verdicts import NonFiniteLossError


def faults_of(run: Run) -> dict[str, float]:
    """What the last logged step counts."""
    *_, row = (row for row in run.log_rows() if "loss/orthogonality" in row)
    return {name: value for name, value in row.items() if name.startswith("fault/")}


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[bytes]]:
    """A function that makes some steps after one fail by weights that are not finite; it returns the clips of each."""
    original = Trainer.train_step

    def install(after: int, times: int) -> list[bytes]:
        seen: list[bytes] = []

        def step(trainer: Trainer, updates: Sequence[Sequence[Batch]]) -> Losses:
            seen.append(updates[0][0].video.numpy().tobytes())
            if trainer.step == after and sum(failed) < times:
                failed.append(True)
                with torch.no_grad():
                    next(trainer.generator.parameters()).fill_(torch.nan)
            return original(trainer, updates)

        failed: list[bool] = []
        monkeypatch.setattr(Trainer, "train_step", step)
        return seen

    return install


def test_a_loss_that_is_not_finite_is_rolled_back(
    tmp_path: Path, tiny_config: MakeConfig, spoil: Callable[[int, int], list[bytes]]
) -> None:
    seen = spoil(3, 2)
    run, config = Run(tmp_path / "run"), tiny_config(training={"on_nan": "rollback", "steps": 6})
    complete, said = run_to(run.folder, config)
    assert complete
    assert said.count("Back to step 2, and on with other clips") == 2
    assert len(seen) == len(set(seen)) == 6 + 2 + 2  # steps 3 and 4 are made three times, never with the same clips
    assert faults_of(run) == {"fault/rollbacks": 2}
    assert all(np.isfinite(v) for row in run.log_rows() for k, v in row.items() if k.startswith("loss/"))


def test_a_rollback_passes_over_a_damaged_checkpoint(
    tmp_path: Path,
    tiny_config: MakeConfig,
    spoil: Callable[[int, int], list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is said and kept afterwards follows the one that it went back to."""
    spoil(5, 1)
    run, config = Run(tmp_path / "run"), tiny_config(training={"on_nan": "rollback", "steps": 6})
    original = Session.roll_back

    def roll_back(session: Session, error: NonFiniteLossError, log: TrainingLog | NoLog) -> None:
        damage(run.checkpoints / "step-00000004" / "state.safetensors")
        original(session, error, log)
        assert "the last good checkpoint is step 2 in" in session.kept()

    monkeypatch.setattr(Session, "roll_back", roll_back)
    complete, said = run_to(run.folder, config)
    assert complete
    assert re.search(r"step-00000004 is damaged and was passed over.*\n.*Back to step 2, and on with other clips", said)


def test_rollbacks_end_when_they_do_not_help(
    tmp_path: Path, tiny_config: MakeConfig, spoil: Callable[[int, int], list[bytes]]
) -> None:
    spoil(3, 99)
    with pytest.raises(TrivdError, match=r"not.*finite|nan.*the last good checkpoint is step 2"):
        run_to(tmp_path / "run", tiny_config(training={"on_nan": "rollback"}))
    _, said = run_to_error(tmp_path / "other", tiny_config(training={"on_nan": "rollback"}))
    assert said.count("Back to step 2") == ROLLBACKS


def run_to_error(folder: Path, config: Config) -> tuple[TrivdError, str]:
    """The error that ends a training, and what was said before."""
    console = Console(file=io.StringIO(), width=500)
    with pytest.raises(TrivdError) as caught:
        train(config, "moving-digits", Run(folder), console)
    return caught.value, console.file.getvalue()  # type: ignore[attr-defined]


def test_by_default_it_stops(tmp_path: Path, tiny_config: MakeConfig, spoil: Callable[[int, int], list[bytes]]) -> None:
    spoil(3, 1)
    error, said = run_to_error(tmp_path / "run", tiny_config())
    assert isinstance(error.__cause__, NonFiniteLossError)
    assert "--on-nan rollback" in str(error)
    assert "Back to" not in said
    assert run_to(tmp_path / "run", tiny_config())[0]  # goes on from step 2


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder of 12 training and 3 validation videos of 8 frames, of random pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 3)):
        folder = tmp_path / "videos" / split
        folder.mkdir(parents=True)
        for number in range(count):
            np.save(folder / f"{number:02}.npy", rng.integers(256, size=(8, 32, 32, 3), dtype=np.uint8))
    return tmp_path / "videos"


def remove(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def replace(path: Path) -> None:
    np.save(path, np.zeros((2, 32, 32, 3), np.uint8))  # too short now


@pytest.mark.parametrize("harm", [remove, damage, replace])
@pytest.mark.parametrize("workers", [0, 1])
def test_videos_that_go_bad_are_replaced_and_counted(
    tmp_path: Path,
    tiny_config: MakeConfig,
    videos: Path,
    after_step: Callable[..., None],
    harm: Callable[[Path], None],
    workers: int,
) -> None:
    bad = [*sorted((videos / "train").iterdir())[:4], videos / "validation" / "00.npy"]
    after_step(1, lambda: [harm(path) for path in bad])
    config = tiny_config(training={"steps": 8}, data={"workers": workers})
    complete, said = run_to(tmp_path / "run", config, str(videos))
    assert complete
    assert "Another clip is taken" in said
    assert str(bad[-1]) in said
    assert any(str(path) in said for path in bad[:-1])
    counted = faults_of(Run(tmp_path / "run"))["fault/unreadable_clips"]
    assert counted >= 1
    longer = override(config, {"training": {"steps": 9}}, "test")
    assert run_to(tmp_path / "run", longer, str(videos))[0]
    assert faults_of(Run(tmp_path / "run"))["fault/unreadable_clips"] >= counted  # not from the beginning


@pytest.mark.parametrize("workers", [0, 1])
def test_flipped_pixels_of_a_store_are_noticed(
    tmp_path: Path, tiny_config: MakeConfig, videos: Path, after_step: Callable[..., None], workers: int
) -> None:
    config = tiny_config(training={"steps": 8}, data={"workers": workers})
    assert write_store(
        videos, tmp_path / "store", resolution=32, channels=3, data=config.data, workers=0, progress=None
    )
    shards = sorted((tmp_path / "store" / "shards").glob("*.u8"))[:4]  # of the 12 for training, one video each

    def flip() -> None:
        for shard in shards:
            pixels = np.fromfile(shard, np.uint8)
            (pixels ^ 1).tofile(shard)

    after_step(1, flip)
    complete, said = run_to(tmp_path / "run", config, str(tmp_path / "store"))
    assert complete
    assert re.search(r"0000\d\.u8 cannot be used as a video: wrong checksum \(train/0\d\.npy\)", said)
    assert faults_of(Run(tmp_path / "run"))["fault/unreadable_clips"] >= 1


def test_with_too_many_the_training_stops(
    tmp_path: Path, tiny_config: MakeConfig, videos: Path, after_step: Callable[..., None]
) -> None:
    bad = sorted((videos / "train").iterdir())[:6]
    after_step(1, lambda: [remove(path) for path in bad])
    config = tiny_config(training={"steps": 40}, data={"unreadable_share": 0.003})
    with pytest.raises(TrivdError, match=r"\d of the last \d+ clips could not be read.*raise the share"):
        run_to(tmp_path / "run", config, str(videos))


def test_when_all_are_gone_it_says_so(
    tmp_path: Path, tiny_config: MakeConfig, videos: Path, after_step: Callable[..., None]
) -> None:
    after_step(1, lambda: shutil.rmtree(videos))
    with pytest.raises(TrivdError, match=r"videos in succession cannot be read\. The last: .*\.npy"):
        run_to(tmp_path / "run", tiny_config(training={"steps": 40}), str(videos))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only a user who may mount file systems can make a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Fill a disk up to some bytes."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - left)))
    return ballast


@pytest.mark.parametrize("left", [0, 4096, 100_000, 300_000])  # the log, the checkpoint or a model is what fails
def test_a_full_disk_keeps_the_last_good_state(
    trained_run: Path, tiny_config: MakeConfig, small_disk: Path, after_step: Callable[..., None], left: int
) -> None:
    config = tiny_config()
    after_step(3, lambda: fill(small_disk, left))
    run = Run(small_disk / "run")
    with pytest.raises(TrivdError, match=r"The disk is full\. Training stopped; the last good checkpoint is step 2"):
        run_to(run.folder, config)
    (small_disk / "ballast").unlink()
    after_step(0, lambda: None)
    complete, said = run_to(run.folder, config)
    assert complete
    assert "from step 2" in said
    assert_same_run(run.folder, trained_run, 4)


def test_prepare_on_a_full_disk(videos: Path, small_disk: Path, trivd_command: Command) -> None:
    ballast = fill(small_disk, 100_000)
    command = ("prepare", videos, small_disk / "store", "--resolution", "32", "--workers", "1")
    status, _, err = trivd_command(*command)
    assert status == 2
    assert "Traceback" not in err
    assert "disk" in err or "space" in err
    ballast.unlink()
    assert trivd_command(*command)[0] == 0


def test_out_of_memory_names_settings_that_fit(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(training={"batch_size": 48, "microbatch": 16})
    plan = faults.make_plan(config)
    monkeypatch.setattr(faults, "memory_bytes", lambda device: plan.state_bytes + plan.activation_bytes // 3)
    sentence = faults.smaller_steps(config, torch.device("cpu"))
    assert "--training.microbatch 4 " in sentence  # a share of 6 does not fit
    assert "--training.checkpoint-activations" in sentence


def test_memory_that_runs_out_is_said(tmp_path: Path) -> None:
    """With an address space that the model fits in, but not the step."""
    command = "import resource, sys; from trivd.commands.main import main; import trivd.training.loop, torch\n"
    command += "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
    command += "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)\n"
    command += "main(sys.argv[1:])"
    arguments = ["train", "moving-digits", "--preset", "small", "--training.batch-size", "64", "--data.workers", "0"]
    arguments += ["--evaluation.clips", "4", "--evaluation.standing-batches", "1", "--evaluation.features", "none"]
    arguments += ["--evaluation.standing-batch-size", "2", "--out", str(tmp_path / "run")]
    finished = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True)
    assert finished.returncode == 2, finished.stderr
    assert "Out of memory; there is no checkpoint" in finished.stderr
    assert re.search(r"--training.microbatch (32|16|8) ", finished.stderr)
    assert "Traceback" not in finished.stderr
