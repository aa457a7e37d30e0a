"""The generator: shapes, widths, conditioning, independence of clips, and appendix A read line by line."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, get_args

import pytest
import torch
from agreement import assert_same, plainly, scramble, settle, use_batch_statistics
from torch import Tensor
from torch.nn import functional as F
from triton_checks import triton_on_the_cpu

from reference.generator import Generator as PlainGenerator
from reference.layers import load
from trivd.config import ModelConfig, Unit
from trivd.models.frame_norm import FrameNormReLU
from trivd.models.generator import Generator
from trivd.models.spectral_norm import SpectralNorm

ModelFactory = Callable[..., ModelConfig]
UNITS = get_args(Unit)
WARPING = [unit for unit in UNITS if "tsru" in unit or "traj" in unit]


def inputs(config: ModelConfig, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Conditioning frames and z."""
    shape = (batch, config.conditioning_frames, config.image_channels, config.resolution, config.resolution)
    return torch.rand(shape) * 2 - 1, torch.randn(batch, config.latent_dim)


def collect(model: Generator, on: bool) -> None:
    for norm in model.modules():
        if isinstance(norm, FrameNormReLU):
            norm.collect(on)


def ready(model: Generator, batches: int = 2) -> Generator:
    """The model in evaluation mode, with standing statistics."""
    model.eval()
    collect(model, True)
    with torch.no_grad():
        for _ in range(batches):
            model(*inputs(model.config, 4))
    collect(model, False)
    return model


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_output_shape(resolution: int, channels: int, tiny_model: ModelFactory) -> None:
    config = tiny_model(resolution=resolution, image_channels=channels)
    with torch.no_grad():
        video, warps = Generator(config)(*inputs(config))
    assert video.shape == (2, 2, channels, resolution, resolution)
    assert video.dtype == torch.float32
    assert -1 <= video.min() < 0 < video.max() <= 1
    assert warps == {}


def test_what_a_gpu_fuses_is_the_same(tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_model(conditioning_frames=1, predicted_frames=1, recurrent_resolutions=(8,), unit="tsru_p")
    model = scramble(Generator(config))
    use_batch_statistics(model)
    frames, z = (x.double() for x in inputs(config, 1))
    sources = list(model.parameters())
    results = []
    for fused in (False, True):
        with triton_on_the_cpu(monkeypatch) if fused else nullcontext():
            video = model(frames, z).video
            results.append(
                [video.detach(), *torch.autograd.grad(video.square().sum(), sources, materialize_grads=True)]
            )
    for ours, plain in zip(*reversed(results), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9 * max(1, float(plain.abs().max())))


@pytest.mark.parametrize(("conditioning", "predicted"), [(1, 1), (1, 4), (3, 2)])
@pytest.mark.parametrize("unit", ["tsru_p", "conv_lstm"])
def test_clip_lengths_are_settings(unit: str, conditioning: int, predicted: int, tiny_model: ModelFactory) -> None:
    config = tiny_model(unit=unit, conditioning_frames=conditioning, predicted_frames=predicted)
    assert Generator(config)(*inputs(config, 3)).video.shape == (3, predicted, 3, 32, 32)


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_trains(unit: str, tiny_model: ModelFactory) -> None:
    """Every parameter gets a finite gradient, every weight one that is not zero."""
    config = tiny_model(unit=unit, classes=3, recurrent_resolutions=(8, 16, 32), predicted_frames=3)
    model = Generator(config)
    video, warps = model(*inputs(config, 3), labels=torch.tensor([0, 1, 2]), return_warps=True)
    assert video.shape == (3, 3, 3, 32, 32)
    assert model.warps == (unit in WARPING)
    expected = {r: (3, 3, 1, 9, r, r) for r in (8, 16, 32)} if unit in WARPING else {}
    assert {resolution: tuple(weights.shape) for resolution, weights in warps.items()} == expected
    (video * torch.randn_like(video)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.dim() == 1 or parameter.grad.any(), name  # norms make some offsets irrelevant


@pytest.mark.parametrize("recurrent", [(8,), (16,), (32,), (64,), (32, 8), (8, 16, 32), (8, 16, 32, 64)])
def test_recurrent_resolutions(recurrent: tuple[int, ...], tiny_model: ModelFactory) -> None:
    config = tiny_model(resolution=64, recurrent_resolutions=recurrent)
    model = Generator(config)
    video, warps = model(*inputs(config), return_warps=True)
    assert video.shape == (2, 2, 3, 64, 64)
    assert set(warps) == set(recurrent)
    # Every step reads the same z: it is the state, even of a single unit, that makes frames differ.
    assert not torch.allclose(video[:, 0], video[:, 1])


@pytest.mark.parametrize(
    ("resolution", "widths"),
    [(32, [32, 32, 16]), (64, [32, 32, 16, 8]), (128, [32, 32, 16, 8, 4]), (256, [32, 32, 16, 8, 4, 2])],
)
def test_channel_widths(resolution: int, widths: list[int], tiny_model: ModelFactory) -> None:
    """ch = 4: 8ch at 8 and 16 pixels, 4ch at 32, 2ch at 64, ch at 128, ch/2 at 256."""
    recurrent = tuple(8 * 2**i for i in range(len(widths)))
    model = Generator(tiny_model(resolution=resolution, generator_channels=4, recurrent_resolutions=recurrent))
    assert model.first.weight.shape == (widths[0] * 8 * 8, 4 + 4)
    units = [stage.unit for stage in model.stages] + [model.output_unit]
    for unit, width in zip(units, widths, strict=True):
        assert (unit.input_channels, unit.hidden_channels) == (width, width)
    for stage, before, after in zip(model.stages, widths, widths[1:], strict=False):
        assert stage.conv.weight.shape == (before, before, 3, 3)
        assert stage.block.conv2.weight.shape == (before, before, 3, 3)
        assert stage.upsampling_block.conv1.weight.shape == (after, before, 3, 3)
    assert model.output.weight.shape == (3, widths[-1], 3, 3)


def test_default_model_is_the_papers() -> None:
    """All defaults but the width: z and the class embedding, of 128 each, are what every conditional norm reads."""
    model = Generator(ModelConfig(generator_channels=1, discriminator_channels=1))
    assert model.first.weight.shape == (8 * 8 * 8, 256)
    conditional = [
        norm for norm in model.modules() if isinstance(norm, FrameNormReLU) and norm is not model.output_norm
    ]
    assert len(conditional) == 3 * 2 * 2  # stages, G blocks, norms
    assert all(norm.scale.weight.shape[1] == 256 and norm.standing_mean.shape[0] == 11 for norm in conditional)
    assert isinstance(model.output_norm.scale, torch.nn.Parameter)
    assert [type(stage.unit).__name__ for stage in model.stages] == ["TSRU"] * 3
    assert model.output_unit is None


NETWORKS: list[dict[str, Any]] = [
    *({"unit": unit} for unit in UNITS),
    {"unit": "tsru_c", "read_gate": True, "activation": "tanh"},
    {"unit": "k_traj_gru", "links": 2, "recurrent_resolutions": (16, 32), "warp_size": (3, 5), "warp_kernels": 4},
    {"unit": "tsru_p", "classes": 3, "recurrent_resolutions": (16, 32), "image_channels": 1},
    {"unit": "conv_gru", "classes": 3, "recurrent_resolutions": (32,)},
    {"unit": "tsru_p", "resolution": 64, "kernel_size": 5, "warp_size": (5, 3), "generator_channels": 1},
]


@pytest.mark.parametrize("changes", NETWORKS, ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()))
def test_generator_is_appendix_a(changes: dict[str, Any], tiny_model: ModelFactory) -> None:
    """The whole network with batch statistics: its plain form, gradients included."""
    config = tiny_model(**{"predicted_frames": 3} | changes)
    model, plain = scramble(Generator(config)), PlainGenerator(config)
    expected = plainly(plain, model)
    for network in (model, plain):
        use_batch_statistics(network)
    labels = torch.tensor([2, 0])  # not read without classes
    given = [*(tensor.double().requires_grad_() for tensor in inputs(config)), labels]
    videos = model(*given).video, expected(*given)
    assert videos[1].std() > 0.01
    assert_same([videos[0]], [videos[1]], [*given[:2], *model.parameters()], deep=True)


@pytest.mark.parametrize("unit", ["conv_gru", "tsru_p"])
def test_generator_in_training_is_appendix_a(unit: str, tiny_model: ModelFactory) -> None:
    """With exact singular vectors, which the power iterations of both forms keep."""
    config = tiny_model(unit=unit)
    model = settle(scramble(Generator(config))).train()
    given = [tensor.double() for tensor in inputs(config)]
    expected = plainly(PlainGenerator(config), model)(*given)
    assert_same([model(*given).video], [expected], [*model.parameters()], deep=True)


@pytest.mark.parametrize("unit", UNITS)
def test_predictions_are_those_of_the_plain_form(unit: str, make_generator: Callable[..., Generator]) -> None:
    """With standing statistics; loaded, not called with our parameters."""
    model = scramble(make_generator(unit=unit))
    plain = load(PlainGenerator(model.config), model.state_dict()).eval()
    given = [tensor.double() for tensor in inputs(model.config)]
    torch.testing.assert_close(plain(*given), model(*given).video, rtol=1e-9, atol=1e-9)


def test_first_frames_do_not_depend_on_how_many_follow(tiny_model: ModelFactory) -> None:
    """Statistics and states of a step know nothing of later ones."""
    short, long = Generator(tiny_model(predicted_frames=2)), Generator(tiny_model(predicted_frames=5))
    weights = {name: tensor for name, tensor in short.state_dict().items() if "standing" not in name}
    long.load_state_dict(weights, strict=False)
    frames, z = inputs(short.config, 3)
    torch.testing.assert_close(long(frames, z).video[:, :2], short(frames, z).video, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("unit", UNITS)
def test_clips_of_a_batch_do_not_influence_each_other(unit: str, tiny_model: ModelFactory) -> None:
    """In evaluation; in training the batch statistics tie them together."""
    config = tiny_model(unit=unit)
    model = ready(Generator(config)).double()
    frames, z = (tensor.double() for tensor in inputs(config, 3))
    with torch.no_grad():
        together = model(frames, z).video
        alone = torch.cat([model(frames[b : b + 1], z[b : b + 1]).video for b in range(3)])
        torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)
        assert not together.isnan().any()
        model.train()
        tied = model(frames, z).video[:1]
        assert not torch.allclose(tied, model(frames[:1], z[:1]).video, atol=1e-3)


def test_z_and_the_given_frames_decide(tiny_model: ModelFactory) -> None:
    config = tiny_model()
    model = ready(Generator(config))
    frames, z = inputs(config, 2)
    with torch.no_grad():
        first = model(frames, z).video
        assert torch.equal(model(frames, z).video, first)
        assert not torch.allclose(model(frames, z.flip(0)).video, first, atol=1e-4)
        assert not torch.allclose(model(frames.flip(0), z).video, first, atol=1e-4)


def test_labels_matter_only_to_a_model_with_classes(tiny_model: ModelFactory) -> None:
    zeros, ones = torch.tensor([0, 0]), torch.tensor([1, 1])
    for classes in (0, 2):
        config = tiny_model(classes=classes)
        model = ready(Generator(config))
        frames, z = inputs(config)
        with torch.no_grad():
            first, second = model(frames, z, zeros).video, model(frames, z, ones).video
        assert torch.equal(first, second) == (classes == 0)
        if classes == 0:
            assert torch.equal(model(frames, z).video, first)


def test_samples_may_share_the_encoders_states(tiny_model: ModelFactory) -> None:
    config = tiny_model(classes=2)
    model = ready(Generator(config))
    frames, z = inputs(config)
    labels = torch.tensor([1, 0])
    with torch.no_grad():
        states = model.encoder(frames)
        assert torch.equal(model.decode(states, z, labels).video, model(frames, z, labels).video)
        # Three samples of each clip: the states repeated are the frames repeated.
        many, more_labels = torch.randn(6, config.latent_dim), labels.repeat_interleave(3)
        shared = {size: state.repeat_interleave(3, 0) for size, state in states.items()}
        torch.testing.assert_close(
            model.decode(shared, many, more_labels).video,
            model(frames.repeat_interleave(3, 0), many, more_labels).video,
        )


def test_warps_are_those_of_the_units(tiny_model: ModelFactory) -> None:
    config = tiny_model(warp_size=(5, 3), recurrent_resolutions=(8, 32))
    model = ready(Generator(config))
    frames, z = inputs(config)
    with torch.no_grad():
        video, warps = model(frames, z, return_warps=True)
        assert torch.equal(video, model(frames, z).video)
    assert {r: tuple(w.shape) for r, w in warps.items()} == {8: (2, 2, 1, 25, 8, 8), 32: (2, 2, 1, 9, 32, 32)}
    for weights in warps.values():
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(3), torch.ones_like(weights.sum(3)))


def test_a_saved_model_is_the_same_model(tiny_model: ModelFactory) -> None:
    config = tiny_model()
    model = ready(Generator(config))
    twin = Generator(config).eval()
    twin.load_state_dict(model.state_dict())
    frames, z = inputs(config)
    with torch.no_grad():
        assert torch.equal(twin(frames, z).video, model(frames, z).video)


def test_bfloat16_autocast_agrees_with_float32(tiny_model: ModelFactory) -> None:
    config = tiny_model(predicted_frames=3)
    model = ready(Generator(config))
    frames, z = inputs(config)
    with torch.no_grad():
        exact = model(frames, z).video
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(frames, z).video
    assert rounded.dtype == torch.float32
    error = (rounded - exact).norm() / exact.norm()
    assert 0 < error < 0.05


def test_training_moves_every_estimate_once(tiny_model: ModelFactory) -> None:
    """One power iteration per layer and pass, the conditional norms' included (E.2)."""
    config = tiny_model()
    model = Generator(config)
    for layer in model.modules():
        if isinstance(layer, SpectralNorm):
            with torch.no_grad():
                layer.weight.add_(0.3 * torch.randn_like(layer.weight))
    expected = {}
    for name, layer in model.named_modules():
        if isinstance(layer, SpectralNorm):
            matrix = layer.weight.detach().flatten(1)
            left = matrix @ F.normalize(matrix.T @ layer.left, dim=0)
            expected[name] = left / left.norm()
    model(*inputs(config))
    layers = dict(model.named_modules())
    for name, left in expected.items():
        torch.testing.assert_close(layers[name].left, left, rtol=1e-4, atol=1e-5, msg=name)
