"""What all tests share: repeatable randomness and tiny models."""

import io
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import triton_interpreter  # noqa: F401 - before anything imports Triton
from hypothesis import settings
from rich.console import Console
from run_checks import Command

from trivd.commands.main import main
from trivd.config import (
    Config,
    DataConfig,
    DiscriminatorConfig,
    EvaluationConfig,
    ModelConfig,
    TrainingConfig,
    override,
)
from trivd.data.loader import Batch
from trivd.evaluation.standing import collect_standing_statistics
from trivd.models.generator import Generator
from trivd.runtime.hardware import to_channels_last
from trivd.training.loop import train
from trivd.training.run import Run

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have programs in the background ignore it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one
multiprocessing.set_forkserver_preload(["trivd.training.loop"])  # it takes seconds to import
torch.set_num_threads(1)  # tensors are tiny: on a busy machine two threads waiting for each other took 50 times as long


@pytest.fixture(autouse=True)
def _as_if_just_started() -> None:
    torch.manual_seed(0)
    torch.set_flush_denormal(False)  # a command run in this process has set it, and hypothesis draws denormals


@pytest.fixture(autouse=True, scope="session")
def _nothing_imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Weights that the user of this machine has imported do not change the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIVD_HOME", str(tmp_path_factory.mktemp("library")))
        yield


@pytest.fixture
def trivd_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command; returns its exit status and what it wrote to stdout and stderr, whose lines are not broken."""
    monkeypatch.setenv("COLUMNS", "250")

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        code = ended.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., ModelConfig]:
    """A factory of the smallest useful model's settings; keyword arguments replace its own."""

    def make(**changes: Any) -> ModelConfig:
        values: dict[str, Any] = {
            "resolution": 32,
            "conditioning_frames": 2,
            "predicted_frames": 2,
            "generator_channels": 2,
            "discriminator_channels": 2,
            "latent_dim": 4,
            "embedding_dim": 4,
            "recurrent_resolutions": (8, 16),
        }
        return ModelConfig(**(values | changes))

    return make


@pytest.fixture(scope="session")
def tiny_config(tiny_model: Callable[..., ModelConfig]) -> Callable[..., Config]:
    """A factory of the settings of a run of four steps; keyword arguments (section -> settings) replace its own."""

    def make(**changes: dict[str, Any]) -> Config:
        config = Config(
            model=tiny_model(predicted_frames=3, recurrent_resolutions=(8,)),
            discriminator=DiscriminatorConfig(frames=2),
            data=DataConfig(workers=0, digits_clips=16),
            training=TrainingConfig(
                steps=4,
                batch_size=2,
                ema_start=2,
                ema_decay=0.5,
                precision="float32",
                device="cpu",
                log_every=1,
                sample_every=4,
                evaluate_every=4,
                checkpoint_every=2,
            ),
            evaluation=EvaluationConfig(
                clips=4, best_of_clips=2, samples=2, batch_size=2, standing_batches=2, standing_batch_size=2
            ),
        )
        return override(config, changes, "the test")

    return make


@pytest.fixture(scope="session")
def make_generator(tiny_config: Callable[..., Config]) -> Callable[..., Generator]:
    """A factory of generators that are ready to predict: initial weights, standing statistics of random clips."""

    def make(**model: Any) -> Generator:
        torch.manual_seed(0)
        generator = Generator(tiny_config(model=model).model)
        to_channels_last(generator)  # as trained and loaded ones are
        config = generator.config
        shape = (4, config.frames, config.resolution, config.resolution, config.image_channels)
        batch = Batch(torch.randint(256, shape, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
        collect_standing_statistics(generator, [batch], torch.Generator().manual_seed(0), torch.float32)
        return generator.requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., Config]) -> Path:
    """The folder of a complete run of four steps on moving-digits, not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert train(tiny_config(), "moving-digits", Run(folder), Console(file=io.StringIO()))
    return folder


@pytest.fixture
def copied(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of `trained_run` for one test."""
    return Path(shutil.copytree(trained_run, tmp_path / "run"))
