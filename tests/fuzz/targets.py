"""What is fuzzed: sound files of every kind that trivd reads of others, and the readers that they are given to."""

import contextlib
import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY, patch

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / folder) for folder in ("..", "support", "evaluation/networks/weights")]  # makers of files

from bundle_writer import write_checkpoint  # noqa: E402
from record_files import example, trajectory_features, write_bair  # noqa: E402
from video_files import numbered_frames, write_video  # noqa: E402

from benchmarks.suites.step import make_step  # noqa: E402
from trivd.config import Config, DataConfig, DiscriminatorConfig, ModelConfig, from_dict, to_dict  # noqa: E402
from trivd.data.datasets.layouts import find  # noqa: E402
from trivd.data.formats.decode import VideoFile, first_frames, probe, read_frames  # noqa: E402
from trivd.data.formats.tfrecord import parse_example  # noqa: E402
from trivd.data.store.index import read_shard_index  # noqa: E402
from trivd.data.store.prepare import write_store  # noqa: E402
from trivd.data.store.source import StoreSource, verify_store  # noqa: E402
from trivd.evaluation.metrics.frechet import FrechetStatistics  # noqa: E402
from trivd.evaluation.metrics.motion_error import MotionScore  # noqa: E402
from trivd.evaluation.networks.weights.library import read_weights  # noqa: E402
from trivd.evaluation.outcome import Evaluation, Figure, Protocol, Spread, read_evaluation  # noqa: E402
from trivd.evaluation.standing import collect_standing_statistics  # noqa: E402
from trivd.models.generator import Generator  # noqa: E402
from trivd.models.pretrained import save_generator  # noqa: E402
from trivd.prediction.predictor import Predictor  # noqa: E402
from trivd.runtime.errors import TrivdError  # noqa: E402
from trivd.training.checkpoint import Progress, load_latest, save_checkpoint  # noqa: E402
from trivd.training.run import Run  # noqa: E402
from trivd.training.step import Trainer  # noqa: E402

CPU = torch.device("cpu")
SUFFIXES = (".mp4", ".mkv", ".avi", ".webm", ".gif", ".mov")
TINY = ModelConfig(
    resolution=32,
    conditioning_frames=2,
    predicted_frames=2,
    generator_channels=2,
    discriminator_channels=2,
    latent_dim=4,
    embedding_dim=4,
    recurrent_resolutions=(8,),
)
CONFIG = Config(model=TINY, discriminator=DiscriminatorConfig(frames=2))


@dataclass(frozen=True)
class Target:
    """A kind of file: `make` writes sound ones into a folder, those named are damaged, `read` gives them to trivd."""

    make: Callable[[Path], None]
    damaged: tuple[str, ...]  # paths in the folder; one of them is changed at a time
    read: Callable[[Path], object]


def _look(video: Path) -> None:
    frames = probe(video).frames
    _each(
        [
            partial(read_frames, video, min(3, frames - 1), 2, 1, short_side=16, channels=3),
            partial(_look_at_rate, video),
        ]
    )


def _look_at_rate(path: Path) -> None:
    video = VideoFile(path, fps=12.5)
    first_frames(video, video.probe().frames - 1, 1, 1, short_side=16, channels=3)


def _video(suffix: str) -> Target:
    name = f"a{suffix}"
    return Target(
        lambda root: write_video(root / name, numbered_frames(12, 32, 48)), (name,), lambda r: _look(r / name)
    )


def _make_images(root: Path) -> None:
    for number, (suffix, frame) in enumerate(
        zip(("png", "jpg", "bmp", "webp", "tif"), numbered_frames(5), strict=True)
    ):
        Image.fromarray(frame).save(root / f"{number}.{suffix}")


def _read_images(root: Path) -> None:
    for start in range(5):
        read_frames(root, start, 1, 1, short_side=16, channels=1)


def _make_arrays(root: Path) -> None:
    np.save(root / "a.npy", numbered_frames(6, 8, 8))
    np.savez(root / "b.npz", numbered_frames(6, 8, 8))
    np.savez_compressed(root / "c.npz", numbered_frames(6, 8, 8))
    statistics = FrechetStatistics()
    statistics.update(np.random.default_rng(0).normal(size=(9, 3)))
    statistics.save(root / "d.npz")


def _read_arrays(root: Path) -> None:
    _each([lambda name=name: _look(root / name) for name in ("a.npy", "b.npz", "c.npz")])
    FrechetStatistics.load(root / "d.npz")


def _each(readers: Iterable[Callable[[], object]]) -> None:
    """Let all read, whichever of them refuse."""
    for read in readers:
        try:
            read()
        except TrivdError:
            continue


def _fitting(replacements: dict[str, Any], read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Files of somebody who has made their checksums fit: what checks them finds nothing (name -> what it gives)."""

    def reader(root: Path) -> None:
        with contextlib.ExitStack() as stack:
            for name, replacement in replacements.items():
                stack.enter_context(patch(name, replacement))
            read(root)

    return reader


def _look_all(root: Path) -> None:
    for entry in find(root, DataConfig()).entries:
        _each([entry.video.probe, partial(first_frames, entry.video, 0, 2, 1, short_side=32, channels=3)])


def _make_example(root: Path) -> None:
    (root / "example").write_bytes(example(trajectory_features(0, 1)[0]))


def _make_kinetics(root: Path) -> None:
    rows = "".join(f"run,AAAAAAAAAA{n},{n},{n + 10},train\n" for n in range(4))
    (root / "train.csv").write_text(f"label,youtube_id,time_start,time_end,split\n{rows}")


def _make_ucf101(root: Path) -> None:
    (root / "classInd.txt").write_text("1 Run\n2 Walk\n")
    (root / "trainlist01.txt").write_text("Run/a.avi 1\nWalk/b.avi 2\n")
    (root / "testlist01.txt").write_text("Run/c.avi\n")


def _make_config(root: Path) -> None:
    (root / "config.json").write_text(json.dumps(to_dict(Config())))


def _read_config(root: Path) -> None:
    try:
        values = json.loads((root / "config.json").read_bytes())
    except (ValueError, RecursionError):
        return
    from_dict(Config, values)


def _make_store(root: Path) -> None:
    for number in range(3):
        write_video(root.parent / f"{root.name}-videos" / f"{number}.mp4", numbered_frames(6, 32, 32))
    write_store(
        root.parent / f"{root.name}-videos",
        root,
        resolution=32,
        channels=3,
        data=DataConfig(),
        workers=0,
        progress=None,
    )


def _read_store(root: Path) -> None:
    read_shard_index(root, 0)
    source = StoreSource(root, "train", 2, False)
    for video, length in enumerate(source.lengths):
        assert source.read(video, length - 2, 2, 1).shape[1:] == (32, 32, 3)
    verify_store(root)


def _make_model(root: Path) -> None:
    torch.manual_seed(0)
    generator = Generator(TINY)
    clips = torch.randint(256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    batch = SimpleNamespace(video=clips, labels=torch.zeros(2, dtype=torch.int64))
    collect_standing_statistics(generator, [batch], torch.Generator().manual_seed(0), torch.float32)  # type: ignore[list-item]
    save_generator(generator, root, {"config": to_dict(CONFIG), "data": "moving-digits", "step": 3})
    np.save(root / "clip.npy", numbered_frames(6, 32, 32))


def _read_model(root: Path) -> None:
    predictor = Predictor.from_pretrained(root, "cpu")
    past, _ = predictor.read(root / "clip.npy", None, 2)
    predictor.predict(past)


def _make_weights(root: Path) -> None:
    arrays = {f"w/{n}": np.full((2, n + 1), n, np.float32) for n in range(5)}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(tensors, root / "new.pt")
    torch.save(tensors, root / "old.pt", _use_new_zipfile_serialization=False)
    save_file(tensors, root / "a.safetensors")
    write_checkpoint(root / "tf" / "x", arrays)  # type: ignore[arg-type]
    with tarfile.open(root / "hub.tar.gz", "w:gz") as archive:
        for file in (root / "tf").iterdir():
            member = tarfile.TarInfo(f"variables/{file.name}")
            member.size = file.stat().st_size
            archive.addfile(member, io.BytesIO(file.read_bytes()))


def _make_run(root: Path) -> None:
    trainer = Trainer(CONFIG, CPU, torch.float32)
    make_step(trainer)()
    run = Run(root / "run")
    with run.opened(CONFIG, "moving-digits"):
        run.log_file.write_text("".join(json.dumps({"step": step, "loss/x": 0.5}) + "\n" for step in range(9)))
        save_checkpoint(run.checkpoints, trainer, Progress(1, 8, 1.0, None))


def _read_run(root: Path) -> None:
    run = Run(root / "run")
    config, data = run.read()
    with run.opened(config, data):
        run.log_rows()
        load_latest(run.checkpoints, Trainer(CONFIG, CPU, torch.float32))


STEP_1 = "run/checkpoints/step-00000001"
RUN = ("run/run.json", "run/log.jsonl", f"{STEP_1}/progress.json", f"{STEP_1}/state.safetensors")


def _make_report(root: Path) -> None:
    figure = Figure("SSIM", "higher", 3, Spread.of([0.5, 0.25]), 0.25, None)
    protocol = Protocol(
        **dict.fromkeys(("clips", "best_of_clips", "resolution", "stride", "conditioning_frames", "samples"), 2),
        **dict.fromkeys(("predicted_frames", "compared_frames", "runs", "inception_splits"), 2),
        **dict.fromkeys(("data", "split", "standing_statistics", "features", "subject"), "x"),
        truncation=None,
        seed=0,
    )
    curves = {"ssim": {"one sample": [0.5, 0.25]}}
    Evaluation(protocol, [figure], curves, MotionScore(0.5, 0.75, 4), []).save(root / "report.json")


WEIGHTS = ("a.safetensors", "tf/x.index", "tf/x.data-00000-of-00001", "hub.tar.gz")


def _read_all_weights(root: Path) -> None:
    _each([lambda name=name: read_weights(root / name) for name in WEIGHTS])


def _pytorch_weights(name: str) -> Target:
    """A file that a child process reads, with less time than a hang takes."""
    seconds = {"trivd.evaluation.networks.weights.readers.sandbox.CPU_SECONDS": 2}
    return Target(_make_weights, (name,), _fitting(seconds, lambda root: _each([lambda: read_weights(root / name)])))


TARGETS: dict[str, Target] = {
    **{f"video {suffix}": _video(suffix) for suffix in SUFFIXES},
    "images": Target(_make_images, ("0.png", "1.jpg", "2.bmp", "3.webp", "4.tif"), _read_images),
    "arrays": Target(_make_arrays, ("a.npy", "b.npz", "c.npz", "d.npz"), _read_arrays),
    "records": Target(
        lambda root: write_bair(root, {"train/traj_0_to_0.tfrecords": [0]}, frames=2),  # type: ignore[arg-type,return-value]
        ("softmotion30_44k/train/traj_0_to_0.tfrecords",),
        _look_all,
    ),
    "record's message": Target(
        _make_example, ("example",), lambda root: parse_example((root / "example").read_bytes(), root / "example")
    ),
    "Kinetics lists": Target(_make_kinetics, ("train.csv",), _look_all),
    "UCF-101 lists": Target(_make_ucf101, ("classInd.txt", "trainlist01.txt", "testlist01.txt"), _look_all),
    "configurations": Target(_make_config, ("config.json",), _read_config),
    "stores": Target(_make_store, ("index.json", "shards/00000.u8", "shards/00000.json"), _read_store),
    "models": Target(_make_model, ("config.json", "model.safetensors", "clip.npy"), _read_model),
    "weights": Target(_make_weights, WEIGHTS, _read_all_weights),
    **{f"weights {name}": _pytorch_weights(name) for name in ("new.pt", "old.pt")},
    "weights, checksums fit": Target(
        _make_weights,
        ("tf/x.index", "tf/x.data-00000-of-00001"),
        _fitting(
            {
                f"trivd.evaluation.networks.weights.readers.{module}.masked_crc32c": lambda _: ANY
                for module in ("leveldb", "tensorflow")
            },
            lambda root: _each([lambda: read_weights(root / "tf" / "x.index")]),
        ),
    ),
    "runs": Target(_make_run, RUN, _read_run),
    "runs, checksums fit": Target(
        _make_run,
        RUN[2:],
        _fitting({"trivd.training.checkpoint._digest": lambda _, progress: progress.get("sha256")}, _read_run),
    ),
    "reports": Target(_make_report, ("report.json",), lambda root: read_evaluation(root / "report.json")),
}
