"""A step as one graph of inputs that lie still, without a GPU: what would be recorded is called in its place."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from run_checks import MakeConfig, assert_same_run, assert_same_state, run_to
from step_checks import MakeTrainer, batch, same, weights
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton_checks import HAS_GPU

from trivd.data.loader import Batch
from trivd.runtime.errors import TrivdError
from trivd.runtime.graphs import Record, Replay
from trivd.runtime.transfer import Sender
from trivd.training.draws import choices_of, tensors_of, with_tensors
from trivd.training.graph import GraphedStep, uses_graph
from trivd.training.objectives import Losses
from trivd.training.run import Run
from trivd.training.step import Trainer
from trivd.training.verdicts import NonFiniteLossError, Verdicts

CPU = torch.device("cpu")
STEPS = 8  # some before the recording, some after


class _NoWaiting(TorchDispatchMode):
    """Refuses to read values of tensors, for which a GPU would have to end its work."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a step waits for the device"
        return func(*args, **(kwargs or {}))


class Stand:
    """A stand-in for a recording: replays know the trainer's step of then, and nothing that is drawn later."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, function: Replay) -> Replay:
        self.recorded += 1

        def replay() -> Any:
            self.replayed += 1
            with pytest.MonkeyPatch.context() as patch, _NoWaiting():
                for name in ("rand", "randn", "randint"):
                    patch.setattr(torch, name, forbidden)
                return function()

        return replay


def forbidden(*arguments: Any, **options: Any) -> Tensor:
    raise AssertionError("numbers are drawn while a step runs")


def graphed(trainer: Trainer, stand: Record) -> Trainer:
    """The trainer with a recorded step, whose verdicts come one step late."""
    trainer.verdicts.lag = 1
    trainer._graphed = GraphedStep(trainer._updates, CPU, stand)
    return trainer


def some_steps(trainer: Trainer, passes: int = 1, updates: int = 2) -> list[dict[str, float]]:
    """The losses of steps on random clips."""
    losses = []
    for number in range(STEPS):
        clips = [[batch(10 * number + 3 * u + p) for p in range(passes)] for u in range(updates)]
        losses.append(trainer.train_step(clips))
    trainer.finish()
    return [{name: value.item() for name, value in each.items()} for each in losses]


VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    "average": {"training": {"ema_start": 5}},  # begins between two replays
    "regularised": {
        "training": {
            "reconstruction": 30.0,
            "reconstruction_samples": 2,
            "reconstruction_half_life": 2,
            "ema_halflife": 100,
            "lecam": 0.3,
            "augment": ["translation", "colour", "cutout"],
            "diversity": 1.0,
            "steps": STEPS,
            "lr_cooldown": 0.8,
        },
        "model": {"classes": 10},
    },
    "curriculum": {"training": {"curriculum": 0.5, "curriculum_start": 2, "steps": STEPS}},
    "recomputed": {"training": {"checkpoint_activations": True}, "discriminator": {"head": "projection"}},
    "frames": {"discriminator": {"decomposition": "mocogan_k8"}, "model": {"unit": "conv_gru"}},
}


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_recorded_step_is_the_same_bit_for_bit(variant: str, passes: int, make_trainer: MakeTrainer) -> None:
    stand = Stand()
    plain, ours = make_trainer(**VARIANTS[variant]), graphed(make_trainer(**VARIANTS[variant]), stand)
    assert some_steps(plain, passes) == some_steps(ours, passes)
    assert (stand.recorded, stand.replayed) == ((2, 2) if variant == "curriculum" else (1, STEPS - 3))
    for name in ("generator", "discriminators"):
        assert same(weights(getattr(plain, name)), weights(getattr(ours, name)))
    assert same(plain.ema.weights, ours.ema.weights)
    assert plain.ema.weights.keys() == ours.ema.weights.keys()


@pytest.mark.parametrize("fails", [2, 5], ids=["before the recording", "after it"])
@pytest.mark.parametrize("network", ["generator", "discriminators"])
def test_a_step_that_is_not_finite_is_known_one_step_late(network: str, fails: int, make_trainer: MakeTrainer) -> None:
    """No weight and no moment changes from the failure on."""
    trainer = graphed(make_trainer(), Stand())
    for number in range(fails - 1):
        trainer.train_step([[batch(number)], [batch(number + 50)]])
    parameters = {"generator": trainer.generator.output, "discriminators": trainer.discriminators["crop"].score}
    with torch.no_grad():
        parameters[network].bias.fill_(torch.nan)  # type: ignore[union-attr]
    before = [weights(module) for module in (trainer.generator, trainer.discriminators)]
    moments = [
        {i: {k: v.clone() for k, v in state.items()} for i, state in optimizer.state_dict()["state"].items()}
        for optimizer in (trainer.generator_optimizer, trainer.discriminator_optimizer)
    ]
    trainer.train_step([[batch(7)], [batch(8)]])
    with pytest.raises(NonFiniteLossError, match=f"discriminator loss is nan at step {fails}") as caught:
        trainer.train_step([[batch(9)], [batch(10)]])
    assert (caught.value.step, trainer.step) == (fails, fails + 1)
    for old, module in zip(before, (trainer.generator, trainer.discriminators), strict=True):
        for name, value in weights(module).items():
            torch.testing.assert_close(value, old[name], rtol=0, atol=0, equal_nan=True)
    for old_moments, optimizer in zip(
        moments, (trainer.generator_optimizer, trainer.discriminator_optimizer), strict=True
    ):
        for index, state in optimizer.state_dict()["state"].items():
            assert same(old_moments[index], state)


def test_a_step_that_cannot_be_recorded_is_called(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever its recording failed, as for want of memory while G's losses are computed."""
    trainer = make_trainer()

    def fails(*_: object) -> Losses:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def record(function: Replay) -> Replay:
        with monkeypatch.context() as patch:
            patch.setattr(trainer.generator_losses, "forward", fails)
            return function() or function

    graphed(trainer, record)
    with pytest.warns(UserWarning, match=r"slower\. CUDA out of memory\."):
        some_steps(trainer)
    assert trainer.step == STEPS


# Whole runs


@pytest.fixture
def in_graphs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], contextlib.AbstractContextManager[Stand]]:
    """A context in which trainings record their steps."""

    @contextlib.contextmanager
    def enter() -> Iterator[Stand]:
        stand, original = Stand(), Trainer.__init__

        def init(trainer: Trainer, *arguments: Any) -> None:
            original(trainer, *arguments)
            trainer.verdicts.lag = 1

        with monkeypatch.context() as patch:
            patch.setattr("trivd.training.step.uses_graph", lambda setting, device: True)
            patch.setattr("trivd.training.step.GraphedStep", partial(GraphedStep, record=stand))
            patch.setattr(Trainer, "__init__", init)
            yield stand

    return enter


InGraphs = Callable[[], contextlib.AbstractContextManager[Stand]]


def test_runs_with_and_without_graphs_are_the_same(
    tmp_path: Path, tiny_config: MakeConfig, in_graphs: InGraphs
) -> None:
    """Also one that is stopped and goes on the other way."""
    config = tiny_config(training={"steps": 10, "checkpoint_every": 5})
    half = tiny_config(training={"steps": 5, "checkpoint_every": 5})
    assert run_to(tmp_path / "plain", config)[0]
    with in_graphs() as stand:
        assert run_to(tmp_path / "graphs", config)[0]
        assert run_to(tmp_path / "first graphs", half)[0]
    assert stand.replayed == 7 + 2
    assert_same_run(tmp_path / "graphs", tmp_path / "plain", 10)
    assert run_to(tmp_path / "first graphs", config)[0]
    assert run_to(tmp_path / "first plain", half)[0]
    with in_graphs():
        assert run_to(tmp_path / "first plain", config)[0]
    for mixed in ("first graphs", "first plain"):
        assert_same_state(tmp_path / mixed, tmp_path / "plain", 10)


@pytest.mark.parametrize(("fails", "back"), [(4, 2), (5, 4)], ids=["at a checkpoint", "between two"])
def test_rollbacks_are_the_same(
    fails: int, back: int, tmp_path: Path, tiny_config: MakeConfig, in_graphs: InGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go on with the same clips, though another step had been launched before the failure was known."""
    original = Trainer.train_step
    failed: list[bool] = []

    def step(trainer: Trainer, updates: Sequence[Sequence[Batch]]) -> Losses:
        if trainer.step == fails - 1 and not failed:
            failed.append(True)
            with torch.no_grad():
                next(trainer.generator.parameters()).fill_(torch.nan)
        return original(trainer, updates)

    config = tiny_config(training={"steps": 10, "on_nan": "rollback", "log_every": 50})
    monkeypatch.setattr(Trainer, "train_step", step)
    assert f"Back to step {back}" in run_to(tmp_path / "plain", config)[1]
    failed.clear()
    with in_graphs():
        assert f"Back to step {back}" in run_to(tmp_path / "graphs", config)[1]
    assert_same_state(tmp_path / "graphs", tmp_path / "plain", 10)


@pytest.mark.parametrize("pending", [False, True])
def test_clips_that_are_read_while_the_device_works_are_not_waited_for(
    pending: bool, tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Verdicts, "pending", pending)
    assert run_to(tmp_path / "run", tiny_config())[0]
    shares = [row["speed/wait_share"] for row in Run(tmp_path / "run").log_rows() if "speed/wait_share" in row]
    assert len(shares) == 4
    assert all((share == 0) == pending for share in shares)


# Parts


def test_graphs_need_a_gpu(tiny_config: MakeConfig, tmp_path: Path) -> None:
    assert not uses_graph("auto", CPU)
    assert not uses_graph("off", CPU)
    with pytest.raises(TrivdError, match=r"training\.cuda_graph is on.*cpu; choose auto"):
        run_to(tmp_path / "run", tiny_config(training={"cuda_graph": "on"}))
    assert not Run(tmp_path / "run").checkpoints.exists()


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_recorded_step_is_the_same_on_a_gpu(variant: str, dtype: torch.dtype, tiny_config: MakeConfig) -> None:
    """To rounding: cuDNN may add up a gradient in another order when it runs again."""
    losses = []
    for setting in ("off", "on"):
        changes = VARIANTS[variant] | {"training": {**VARIANTS[variant].get("training", {}), "cuda_graph": setting}}
        trainer = Trainer(tiny_config(**changes), torch.device("cuda"), dtype)
        losses.append(some_steps(trainer))
    for plain, ours in zip(*losses, strict=True):
        assert ours == pytest.approx(plain, rel=1e-3 if dtype == torch.float32 else 5e-2, abs=1e-2)


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")
def test_what_is_sent_to_a_busy_gpu_arrives() -> None:
    device, size = torch.device("cuda"), 1 << 22
    sender, load, sums = Sender([torch.zeros(size)], device), torch.randn(4096, 4096, device=device), []
    for turn in range(20):
        (arrived,) = sender.views(sender.send([torch.full((size,), float(turn))]))
        load @ load  # the buffer is read late
        sums.append(arrived.sum())
    assert [value.item() for value in sums] == [turn * size for turn in range(20)]


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs")
def test_another_gpu_than_the_current_one_is_waited_for(tiny_config: MakeConfig) -> None:
    losses = []
    for number in (0, 1):
        trainer = Trainer(tiny_config(), torch.device("cuda", number), torch.float32)
        load, product = torch.randn(2, 4096, 4096, device=trainer.device)
        losses.append([])
        for step in range(STEPS):
            torch.mm(load, load, out=product)
            losses[-1].append(trainer.train_step([[batch(step)], [batch(step + 50)]])["loss/orthogonality"].item())
        trainer.finish()
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@given(st.lists(st.tuples(st.sampled_from([torch.uint8, torch.int64, torch.float32]), st.integers(0, 40)), max_size=6))
def test_what_is_sent_arrives(kinds: list[tuple[torch.dtype, int]]) -> None:
    sender = Sender([torch.zeros(size, dtype=dtype) for dtype, size in kinds], CPU)
    for turn in range(3):
        tensors = [torch.arange(turn, turn + size).to(dtype) for dtype, size in kinds]
        for sent, arrived in zip(tensors, sender.views(sender.send(tensors)), strict=True):
            assert torch.equal(sent, arrived)


def test_structures_of_tensors_keep_their_form() -> None:
    a, b = torch.zeros(2), torch.ones(3)
    structure = {"x": [(a, b), (a,)], "y": Batch(b, a, ()), "z": [True, {}, False]}
    assert [id(t) for t in tensors_of(structure)] == [id(a), id(b)]
    doubled = with_tensors(structure, [2 * tensor for tensor in tensors_of(structure)])
    assert isinstance(doubled["y"], Batch)
    assert [[t.sum().item() for t in ts] for ts in (*doubled["x"], doubled["y"][:2])] == [[0, 6], [0], [6, 0]]
    assert choices_of(structure) == choices_of(doubled) == (True, False)
