"""The plain networks and the plain step compute what ours do: outputs, gradients, losses and changed weights."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference.plain import PlainGenerator
from reference.plain_discriminators import PlainDiscriminators, plain_state
from reference.plain_step import PlainTrainer
from trivd.config import Config, Decomposition, ModelConfig
from trivd.data.loader import Batch
from trivd.models.discriminators import Discriminators
from trivd.models.generator import Generator
from trivd.models.spectral_norm import SpectralNorm
from trivd.runtime.errors import TrivdError
from trivd.training.step import Trainer, update_rng

CPU = torch.device("cpu")
HALVED = {"reconstruction": 2.0, "reconstruction_half_life": 1}  # 1 at step 1
MakeModel = Callable[..., ModelConfig]
MakeConfig = Callable[..., Config]


def generalise(module: nn.Module) -> None:
    """Give it weights that are not orthogonal, and their exact first singular vectors.

    PyTorch's power iteration starts from v, ours from u; both keep the exact ones.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for layer in module.modules():
            if isinstance(layer, SpectralNorm):
                left, _, right = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
                layer.left.copy_(left[:, 0])
                layer.right.copy_(right[0])


def gradients_of(ours: nn.Module) -> dict[str, Tensor]:
    """The gradients of all parameters, by the names of the plain form."""
    shell = copy.deepcopy(ours)
    for own, parameter in zip(shell.parameters(), ours.parameters(), strict=True):
        own.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return plain_state(shell)


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Up to rounding in float64, of the largest value; biases before a normalisation have gradients that are all 0."""
    difference = (found - expected).abs().max() / expected.abs().max().clamp_min(0.1)
    assert difference <= 1e-9


def assert_same_gradients(plain: nn.Module, ours: nn.Module) -> None:
    expected = gradients_of(ours)
    parameters = dict(plain.named_parameters())
    assert len(parameters) == len(list(ours.parameters()))
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert_near(parameter.grad, expected[name])


def batches(config: Config, count: int) -> list[list[Batch]]:
    rng, model = torch.Generator().manual_seed(7), config.model
    shape = (config.training.batch_size, model.frames, model.resolution, model.resolution, model.image_channels)

    def batch() -> Batch:
        video = torch.randint(256, shape, dtype=torch.uint8, generator=rng)
        return Batch(video, torch.randint(max(1, model.classes), (len(video),), generator=rng))

    return [[batch() for _ in range(config.training.accumulation)] for _ in range(count)]


@pytest.mark.parametrize(
    "changes",
    [
        {"unit": "tsru_p"},
        {"unit": "conv_gru"},
        {"unit": "tsru_p", "classes": 3, "recurrent_resolutions": (16, 32), "image_channels": 1},
        {"unit": "conv_gru", "classes": 3, "recurrent_resolutions": (32,), "predicted_frames": 3},
        {"unit": "tsru_p", "resolution": 64, "kernel_size": 5, "warp_size": 5, "generator_channels": 1},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items()),
)
def test_generator_is_ours(tiny_model: MakeModel, changes: dict[str, Any]) -> None:
    """In float64."""
    config = tiny_model(**changes)
    ours = Generator(config).double()
    generalise(ours)
    plain = PlainGenerator.from_ours(ours)
    frames = torch.rand(2, config.conditioning_frames, config.image_channels, config.resolution, config.resolution)
    inputs = 2 * frames.double() - 1, torch.randn(2, config.latent_dim).double(), torch.tensor([2, 0])
    expected, video = ours(*inputs).video, plain(*inputs)
    assert video.std() > 0.01
    assert_near(video, expected)
    weights = torch.randn_like(video)
    (expected * weights).sum().backward()
    (video * weights).sum().backward()
    assert_same_gradients(plain, ours)


@pytest.mark.parametrize("unit", ["conv_gru", "tsru_p"])
def test_predictions_are_ours(make_generator: Callable[..., Generator], unit: str) -> None:
    """In evaluation mode, with standing statistics; the singular vectors need not be exact."""
    ours = make_generator(unit=unit).double()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    plain = PlainGenerator.from_ours(ours)
    assert not plain.training
    frames, z = torch.rand(3, 2, 3, 32, 32).double(), torch.randn(3, 4).double()
    assert_near(plain(frames, z), ours(frames, z).video)


@pytest.mark.parametrize(
    ("decomposition", "classes"), [("stronger", 0), ("faster", 3), ("dvd_gan_fp", 3), ("mocogan_k1", 0)]
)
def test_discriminators_are_ours(tiny_config: MakeConfig, decomposition: Decomposition, classes: int) -> None:
    config = tiny_config(model={"classes": classes}, discriminator={"decomposition": decomposition})
    ours = Discriminators(config.discriminator, config.model).double()
    generalise(ours)
    plain = PlainDiscriminators.from_ours(ours, config.model)
    assert list(plain) == list(ours.views)
    labels = torch.tensor([2, 0, 1])
    video = 2 * torch.rand(3, config.model.frames, 3, 32, 32).double() - 1
    for view in ours.views:
        seen = ours.draw(view, video, torch.Generator())
        expected, scores = ours[view](seen, labels), plain[view](seen, labels)
        weights = torch.randn_like(scores.video), torch.randn_like(scores.joint)
        for found, own in ((scores.video, expected.video), (scores.joint, expected.joint)):
            assert_near(found, own)
        for answers in (scores, expected):
            (answers.video * weights[0] + answers.joint * weights[1]).sum().backward()
    assert_same_gradients(plain, ours)


@pytest.mark.parametrize(
    ("unit", "changes"),
    [
        ("tsru_p", {"discriminator": {"decomposition": "stronger"}}),
        ("conv_gru", {"discriminator": {"decomposition": "faster", "head": "projection"}, "model": {"classes": 3}}),
        ("tsru_p", {"training": {"accumulation": 2, "reconstruction_samples": 2} | HALVED}),
    ],
)
def test_a_step_is_ours(tiny_config: MakeConfig, unit: str, changes: dict[str, Any]) -> None:
    """Losses, changes of weights in units of the learning rate, and the average.

    With rates so low that both orders of the power iteration give the same, and an epsilon of Adam beside which the
    gradients' rounding is small. A ReLU's input may be zero but for rounding, and its gradient then be theirs or ours:
    with one of three seeds at most.
    """
    furthest = sorted(furthest_change(tiny_config, unit, changes, seed) for seed in range(3))
    assert furthest[1] < 1e-2
    assert furthest[2] < 0.2


def furthest_change(tiny_config: MakeConfig, unit: str, changes: dict[str, Any], seed: int) -> float:
    """Between the changes of weights that a step of theirs and of ours makes; losses and averages must agree."""
    lr = 1e-4
    recipe = {"discriminator_lr": lr, "generator_lr": lr, "epsilon": 0.01, "ema_start": 1, "seed": seed}
    changes = changes | {"model": {"unit": unit} | changes.get("model", {})}
    config = tiny_config(**changes | {"training": changes.get("training", {}) | recipe})
    ours, plain = Trainer(config, CPU, torch.float32), PlainTrainer(config, CPU)
    ours.step = plain.step = 1
    networks = [(ours.generator, plain.generator), (ours.discriminators, plain.discriminators)]
    starts = [plain_state(copy.deepcopy(own)) for own, _ in networks]
    updates = batches(config, 2)
    expected, losses = ours.train_step(updates), plain.train_step(updates)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-4, atol=1e-4)
    furthest = 0.0
    for (own, other), start in zip(networks, starts, strict=True):
        after = plain_state(own)
        changed = {name: (weight.detach() - start[name]) / lr for name, weight in other.named_parameters()}
        assert max(float(change.abs().max()) for change in changed.values()) > 0.9
        for name, change in changed.items():
            furthest = max(furthest, float((change - (after[name] - start[name]) / lr).abs().max()))
    ours.ema.apply_to(ours.generator)
    average = plain_state(ours.generator)
    assert len(plain.average) == len(list(ours.generator.parameters()))
    for name, weight in plain.average.items():
        torch.testing.assert_close(weight, average[name], rtol=0, atol=1e-5)
    return furthest


def test_losses_of_a_first_update_are_ours(tiny_config: MakeConfig) -> None:
    """Before any weight has changed, whatever the rates."""
    config = tiny_config(model={"unit": "tsru_p", "recurrent_resolutions": (8, 16)})
    updates = batches(config, 1)[0]
    expected, losses = (
        trainer.discriminator_update(updates, update_rng(0, 0, 0))
        for trainer in (Trainer(config, CPU, torch.float32), PlainTrainer(config, CPU))
    )
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-5, atol=1e-6)


def test_average_starts_late(tiny_config: MakeConfig) -> None:
    config = tiny_config(training={"ema_start": 2, "ema_decay": 0.5})
    trainer = PlainTrainer(config, CPU)
    parameter = next(trainer.generator.parameters())
    seen = []
    for _ in range(3):
        trainer.train_step(batches(config, 1))
        seen.append(parameter.detach().clone())
        assert bool(trainer.average) == (trainer.step >= 2)
    torch.testing.assert_close(next(iter(trainer.average.values())), (seen[1] + seen[2]) / 2)


@pytest.mark.parametrize("changes", [{"unit": "tsru_s"}, {"read_gate": True}, {"activation": "tanh"}])
def test_other_units_are_refused(tiny_model: MakeModel, changes: dict[str, Any]) -> None:
    with pytest.raises(TrivdError, match=r"conv_gru and tsru_p .* model\.unit"):
        PlainGenerator(tiny_model(**changes))
