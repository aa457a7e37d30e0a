"""Generators with weights normalised once and recorded functions: the futures of the generator itself, bit for bit."""

from collections.abc import Callable

import pytest
import torch
from stand_ins import Means, call_directly, record_as_a_gpu
from test_scorer import CLIPS, SAMPLES, Noise
from torch import Tensor
from triton_checks import HAS_GPU

from trivd.config import Unit
from trivd.evaluation.collecting import Columns, collect
from trivd.evaluation.fixed import FixedGenerator
from trivd.evaluation.scorer import ModelForecaster, Scorer
from trivd.models.generator import Generator
from trivd.runtime.graphs import WARM_UPS, Record, Replay, record_cuda_graph

MakeGenerator = Callable[..., Generator]
F32, BF16 = torch.float32, torch.bfloat16


def inputs(generator: Generator, clips: int, seed: int, samples: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, z and labels."""
    rng, config = torch.Generator().manual_seed(seed), generator.config
    frames = torch.rand(clips, config.conditioning_frames, 3, config.resolution, config.resolution, generator=rng)
    labels = torch.randint(3, (samples or clips,), generator=rng)
    return 2 * frames - 1, torch.randn(samples or clips, config.latent_dim, generator=rng), labels


@pytest.mark.parametrize("record", [None, call_directly, record_as_a_gpu])
@pytest.mark.parametrize(("unit", "dtype"), [("conv_gru", F32), ("tsru_p", F32), ("tsru_p", BF16), ("k_traj_gru", F32)])
def test_futures_are_those_of_the_generator(
    make_generator: MakeGenerator, unit: Unit, dtype: torch.dtype, record: Record | None
) -> None:
    generator = make_generator(unit=unit, classes=3)
    fixed, kept = FixedGenerator(generator, dtype, record), []
    for call in range(2 * WARM_UPS + 3):  # of two sizes in turn
        given, warps = inputs(generator, 2 + call % 2, call), call != 1
        drawn = fixed(*given, return_warps=warps)
        with torch.no_grad(), torch.autocast("cpu", BF16, enabled=dtype == BF16):
            kept.append((drawn, generator(*given, return_warps=warps)))
    for drawn, expected in kept:
        assert torch.equal(drawn.video, expected.video)
        assert list(drawn.warps) == list(expected.warps)
        assert all(torch.equal(drawn.warps[r], expected.warps[r]) for r in expected.warps)


@pytest.mark.parametrize("record", [call_directly, record_as_a_gpu])
def test_samples_of_one_clip_share_its_states(make_generator: MakeGenerator, record: Record) -> None:
    generator = make_generator(classes=3)
    fixed = FixedGenerator(generator, F32, record)
    for seed in range(WARM_UPS + 2):
        frames, z, labels = inputs(generator, 1, seed, samples=3)
        with torch.no_grad():
            states = {r: state.expand(3, -1, -1, -1) for r, state in generator.encoder(frames).items()}
            expected = generator.decode(states, z, labels).video
            alone = generator(frames.expand(3, -1, -1, -1, -1), z, labels).video
        torch.testing.assert_close(fixed(frames, z, labels).video, expected)
        torch.testing.assert_close(expected, alone, rtol=1e-4, atol=1e-5)
        assert torch.equal(FixedGenerator(generator, F32, None)(frames, z, labels).video, alone)


def out_of_memory(function: Replay) -> Replay:
    raise torch.OutOfMemoryError("CUDA out of memory.")


def scored(generator: Generator, record: Record | None, size: int = 2) -> Columns:
    """All columns of several and of one future, in batches of which the last is smaller."""
    scorer = Scorer(Noise(), 2, Means(), True, torch.device("cpu"))
    model = ModelForecaster(generator, F32, 7, 0.8, record)
    columns = collect(lambda numbers: scorer.several(model, 0, SAMPLES, (SAMPLES,), numbers), range(CLIPS), size)
    return columns | collect(lambda numbers: scorer.single(model, 1, numbers), range(CLIPS), size)


@pytest.mark.filterwarnings("ignore:No CUDA graph")
@pytest.mark.parametrize("record", [call_directly, record_as_a_gpu, out_of_memory])
def test_scores_are_the_same(make_generator: MakeGenerator, record: Record) -> None:
    generator = make_generator(classes=3)
    plain, recorded = scored(generator, None), scored(generator, record)
    assert plain.keys() == recorded.keys()
    assert all(torch.equal(plain[name], recorded[name]) for name in plain)


def test_several_models_do_not_disturb_each_other(make_generator: MakeGenerator) -> None:
    generators = [make_generator(classes=3), make_generator(classes=3, unit="conv_gru")]
    fixed = [FixedGenerator(generator, F32, record_as_a_gpu) for generator in generators]
    for seed in range(WARM_UPS + 2):
        given = inputs(generators[0], 2, seed)
        drawn = [each(*given).video for each in fixed]
        with torch.no_grad():
            assert all(torch.equal(a, g(*given).video) for a, g in zip(drawn, generators, strict=True))


def test_a_forecaster_sees_what_changes_between_runs(make_generator: MakeGenerator) -> None:
    generator, scorer = make_generator(classes=3), Scorer(Noise(), 2, None, True, torch.device("cpu"))
    model, clips = ModelForecaster(generator, F32, 7, None, record_as_a_gpu), scorer.load([0, 1])
    before = [next(model.futures(clips, 1, 0)) for _ in range(WARM_UPS + 2)]
    assert all(torch.equal(video, before[0]) for video in before)
    with torch.no_grad():
        generator.output_norm.standing_mean += 1
        generator.output.weight *= -2  # whose normalised form is the negative
    model.prepare(1)
    after = next(model.futures(clips, 1, 0))
    assert torch.equal(after, next(ModelForecaster(generator, F32, 7, None).futures(clips, 1, 0)))
    assert not torch.equal(after, before[0])


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_graphs_of_a_gpu_draw_the_same_futures(make_generator: MakeGenerator, dtype: torch.dtype) -> None:
    generator = make_generator(classes=3).cuda()
    recorded, called = (FixedGenerator(generator, dtype, record) for record in (record_cuda_graph, call_directly))
    for seed in range(WARM_UPS + 3):
        given = [value.cuda() for value in inputs(generator, 3, seed)]
        a, b = (fixed(*given, return_warps=True) for fixed in (recorded, called))
        torch.testing.assert_close(a.video, b.video)
        assert all(torch.equal(a.warps[r], b.warps[r]) or dtype == BF16 for r in b.warps)
