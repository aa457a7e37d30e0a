"""The choice of device and precision, and layouts that keep every value."""

import multiprocessing

import pytest
import torch
from torch import nn

from trivd.models.layers import SNConv
from trivd.runtime import hardware
from trivd.runtime.distributed import process_group
from trivd.runtime.errors import TrivdError
from trivd.runtime.hardware import autocast, choose_device, choose_precision, to_channels_last

CPU = torch.device("cpu")


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert choose_device("auto", "--device").type == kind
    assert choose_device("cpu", "--device") == CPU


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also where torch looks for one itself, as NCCL does for objects."""
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *_, device: None)  # there is no GPU here
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, timeout: None)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    with process_group(choose_device(name, "--device"), 5):
        assert taken == [torch.device("cuda:3")]


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "cpu "])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(TrivdError, match=f"^--device is {name}, which cannot be used here; choose auto, cpu or cuda"):
        choose_device(name, "--device")


def test_auto_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    for gains, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(hardware, "gains_from_bfloat16", lambda device, gains=gains: gains)
        assert choose_precision("auto", CPU) == dtype
        assert choose_precision("float32", CPU) == torch.float32
        assert choose_precision("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize(
    ("amx", "avx512", "vendor", "gains"),
    [
        (False, False, "AuthenticAMD", False),
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),
        (False, True, "AuthenticAMD", True),
        (False, True, "", False),
    ],
)
def test_a_cpu_gains_from_amx_and_from_avx512_of_amd(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, vendor: str, gains: bool
) -> None:
    monkeypatch.setattr(hardware, "processor", lambda field: {"vendor_id": vendor}[field])
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert hardware.gains_from_bfloat16(CPU) == gains


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_sets_the_type_of_convolutions(dtype: torch.dtype) -> None:
    layer = SNConv(2, 3)
    with autocast(CPU, dtype):
        assert layer(torch.rand(1, 2, 5, 5)).dtype == dtype
    assert layer(torch.rand(1, 2, 5, 5)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


def denormals_left() -> int:
    """How many products of denormals are not zero in a program of four threads."""
    torch.set_num_threads(4)
    hardware.set_up_program()
    tiny = torch.full((2**22,), 2**20, dtype=torch.int32).view(torch.float32)  # 1.5e-39 each
    return int((tiny * 1).count_nonzero())


def test_a_program_counts_denormals_as_zero_in_all_threads() -> None:
    """In a process of its own: this one keeps its setting."""
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        assert pool.apply(denormals_left) == 0


def test_layouts_change_and_values_do_not() -> None:
    module = nn.Sequential(SNConv(4, 6), SNConv(4, 6, 3, 3), nn.Linear(3, 5))
    before = [parameter.detach().clone() for parameter in module.parameters()]
    parameters = list(module.parameters())
    assert to_channels_last(module) is module
    for parameter, old, same in zip(module.parameters(), before, parameters, strict=True):
        assert parameter is same  # optimizers keep their hold of it
        assert torch.equal(parameter, old)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
