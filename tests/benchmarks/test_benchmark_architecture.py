"""The script of sizes, FLOPs and the fit of Table 1's times."""

import pytest

from benchmarks.scripts import architecture
from benchmarks.suites.step import PAPER_MS
from trivd.config import ModelConfig

SMALL = ModelConfig(generator_channels=2, discriminator_channels=2)


def of_convolution(inputs: int, outputs: int, taps: int, positions: int) -> int:
    return 2 * inputs * outputs * taps * positions


@pytest.mark.parametrize(("pool_time", "frames"), [(False, (16, 16, 16)), (True, (16, 8, 4))])
def test_flops_are_those_of_the_layers(pool_time: bool, frames: tuple[int, int, int]) -> None:
    """Appendix A's network on clips of 16 frames of 32 pixels, layer by layer; ch 2."""
    widths, expected = [3, 2, 4, 8, 16, 32], 0
    for i in range(5):
        inputs, outputs = widths[i : i + 2]
        taps = 27 if i < 2 else 9
        positions = frames[min(i, 2)] * (32 >> i) ** 2
        expected += of_convolution(inputs, outputs, taps, positions) + of_convolution(outputs, outputs, taps, positions)
        expected += of_convolution(inputs, outputs, 1, positions)
    expected += 2 * 32 * frames[2]  # the linear layer of r_x
    (found,) = architecture.discriminator_costs(SMALL, "downsampled", pool_time).values()
    assert found.flops == expected


def test_the_fit_finds_the_constants_of_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    flops = {
        name: [10**9 * (3 * number + part) for part in range(1 + number % 3)] for number, name in enumerate(PAPER_MS)
    }
    times = {name: 100 + sum(20 + 3 * own / 1e9 for own in each) for name, each in flops.items()}
    monkeypatch.setattr(architecture, "PAPER_MS", times)
    fit = architecture.fit_table1(flops)
    assert (fit.generator, fit.overhead, fit.per_flop) == pytest.approx((100, 20, 3))
    assert fit.error < 1e-6
