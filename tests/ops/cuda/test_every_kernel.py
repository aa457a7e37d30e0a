"""Every operator's Triton kernel against its plain form."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from operator_cases import CASES, as_in_networks, converted
from torch import Tensor
from triton_checks import DEVICES, close

import trivd

NAMES = [name for name, (operator, _, _) in CASES.items() if operator.compiled is not None]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("innermost", "dtype"), [(True, torch.float64), (True, torch.bfloat16), (False, torch.float32)], ids=str
)
@pytest.mark.parametrize("name", NAMES)
def test_kernels_give_what_the_plain_form_gives(
    name: str, innermost: bool, dtype: torch.dtype, device: torch.device
) -> None:
    operator, make, _ = CASES[name]
    assert operator.compiled is not None
    arguments = [converted(as_in_networks(a) if innermost else a, device, dtype) for a in make()]
    ours, plain = operator.compiled(*arguments), operator.plain(*arguments)
    if isinstance(plain, Tensor):
        ours, plain = [ours], [plain]
    for a, b in zip(ours, plain, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
        close(a, b, dtype)


@pytest.mark.parametrize(
    ("capability", "dtype", "numbers"),
    [(80, "float32", "given"), (90, "bfloat16", "given"), (100, "float64", "ones")],
)
def test_all_kernels_compile_for_a_gpu(capability: int, dtype: str, numbers: str, tmp_path: Path) -> None:
    """The interpreter takes more than the compiler does, which needs no GPU: here an A100, H100 and B200."""
    script = Path(__file__).parents[2] / "support" / "compile_kernels.py"
    environment = {
        "TRITON_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": f"{Path(trivd.__file__).parents[1]}:{script.parent}",
    }
    done = subprocess.run(
        [sys.executable, str(script), str(capability), dtype, numbers, *NAMES],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == NAMES
