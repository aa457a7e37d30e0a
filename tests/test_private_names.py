"""Names of PyTorch that it does not call public: those in use, each with the reason, and no others."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import trivd

PACKAGE = Path(trivd.__file__).parent
FOLDERS = [PACKAGE, *(PACKAGE.parent / name for name in ("reference", "benchmarks", "research"))]
REASONS = {
    "torch._foreach_norm": "lengths of many vectors in one call; there is no public function over lists",
    "torch._foreach_div": "the same for quotients",
    "torch._foreach_add": "the same for sums",
    "torch._foreach_mul_": "the same, in place",
    "torch._foreach_copy_": "the same for copies",
    "torch._C._current_graph_task_id": "tells one backward pass from the next; torch.utils.checkpoint relies on it too",
    "torch._C._cuda_endAllocateToPool": "what torch leaves out if a recording fails; nothing public does it",
    "torch._C._cuda_releasePool": "the same",
    "torch.autograd.forward_ad._current_level": "whether tangents are computed, which operators would drop silently",
    "torch.cpu._is_amx_tile_supported": "whether bfloat16 gains on this processor; torch.backends.cpu names less",
    "torch.cpu._is_avx512_bf16_supported": "the same",
    "torch.utils._python_dispatch.TorchDispatchMode": "sees every operator that is called; there is no public way",
}


def private_names(source: str) -> Iterator[str]:
    """Full names of torch with a part that begins with an underscore, as a module uses or imports them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "torch":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            full = ast.unparse(node)
            names = [full] if full.replace(".", "").isidentifier() else []  # not of what a call returns
        else:
            continue
        for name in names:
            parts = name.split(".")
            private = [part for part in parts if part.startswith("_") and not part.endswith("__")]
            if parts[0] == "torch" and private and (parts[-1] != "_C"):
                yield name


def test_private_names_are_those_with_a_reason() -> None:
    used = {name for folder in FOLDERS for path in folder.rglob("*.py") for name in private_names(path.read_text())}
    assert used == set(REASONS)


@pytest.mark.parametrize(
    "source",
    ["torch._foreach_add(x, y)", "from torch._C import f", "import torch._dynamo", "torch.nn._reduction.get_enum(x)"],
)
def test_private_names_are_found(source: str) -> None:
    assert list(private_names(source))
