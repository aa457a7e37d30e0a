"""Launches are counted as a GPU would make them: operators that compute, by kind, and Triton's kernels."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.launches import Launches, Work, launches
from benchmarks.scripts import launches as script
from trivd.ops.gates import mix
from trivd.pictures.markdown import BEGIN, END


def counted(work: Callable[[], object], triton: bool = False) -> dict[str, int]:
    """The launches of each kind that has any."""
    with launches(triton) as counter:
        work()
    return {kind.name: count for kind, count in counter.by_kind().items() if count}


def test_operators_that_compute_nothing_do_not_count() -> None:
    x = torch.randn(2, 3, 4)
    assert counted(lambda: (x.transpose(0, 1).unflatten(2, (2, 2)).unbind(), torch.empty_like(x), x.flatten())) == {}
    assert counted(lambda: x.sum().item()) == {"REST": 1}


def test_each_gradient_of_a_convolution_is_a_kernel() -> None:
    x, weight, bias = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3), torch.randn(3)
    assert counted(lambda: F.conv2d(x, weight)) == {"CONVOLUTIONS": 1}
    assert counted(lambda: F.conv2d(x, weight, bias)) == {"CONVOLUTIONS": 1, "BIASES": 1}
    weight.requires_grad_()
    bias.requires_grad_()
    y = F.conv2d(x, weight, bias)
    assert counted(lambda: y.backward(y.detach())) == {"CONVOLUTIONS": 1, "BIASES": 1}  # x needs none


def test_other_operators_count_once_by_kind() -> None:
    x = torch.randn(4, 4)
    assert counted(lambda: x @ x) == {"PRODUCTS": 1}
    assert counted(lambda: torch.relu(x) + x.bfloat16()) == {"COPIES": 1, "REST": 2}
    assert counted(lambda: torch._foreach_norm([x, x, x])) == {"LISTS": 1}
    assert counted(lambda: F.pad(x, (1, 1))) == {"FILLS": 1, "COPIES": 1}


def test_our_operators_count_as_their_kernels_or_their_plain_form() -> None:
    parts = [torch.randn(1, 2, 3, 3).contiguous(memory_format=torch.channels_last) for _ in range(3)]
    assert counted(lambda: mix(*parts)) == {"REST": 1}  # lerp
    with launches(True) as counter:
        mixed = mix(*parts)
    assert counter.counts == {(Work.OURS, "mix"): 1}
    torch.testing.assert_close(mixed, parts[0].lerp(parts[1], parts[2]))  # values are right all the same
    assert counted(lambda: mix(*parts), triton=True) == {"OURS": 1}
    assert isinstance(counter, Launches)


def test_a_step_is_counted_into_a_file_and_a_document(tmp_path: Path) -> None:
    path, document = tmp_path / "launches.json", tmp_path / "page.md"
    document.write_text(f"{BEGIN.format('launches')}\n{END.format('launches')}\n")
    script.main(path, document, channels=2, batch=1)
    found = json.loads(path.read_text())["launches"]
    totals = {name: sum(way["kinds"].values()) for name, way in found.items()}
    assert totals["Triton"] < totals["plain"]
    assert f"| all | {totals['plain']:,} | {totals['Triton']:,} |" in document.read_text()
    for way in found.values():
        assert sum(way["operators"].values()) == sum(way["kinds"].values())
    plain, triton = (found[name]["kinds"] for name in ("plain", "Triton"))
    assert plain["kernels of trivd"] == 0
    assert triton["kernels of trivd"] > 0
    assert plain["convolutions, forward and backward"] == triton["convolutions, forward and backward"]
