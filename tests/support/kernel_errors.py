"""How far the Triton kernels of each operator are from its plain form, as a table in a Markdown file.

    PYTHONPATH=. python tests/support/kernel_errors.py docs/benchmarks.md

Where there is no GPU, Triton's interpreter runs them.
"""

import sys
from collections import defaultdict
from pathlib import Path

import torch
import triton_interpreter  # noqa: F401  # before anything that imports Triton
from operator_cases import CASES, as_in_networks, converted
from torch import Tensor
from torch.utils._pytree import tree_leaves

from trivd.pictures.markdown import fill, markdown_table, read_document
from trivd.runtime.files import write_atomically

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
HEADING = ["operator", "its first tensor", *(str(dtype).removeprefix("torch.") for dtype in DTYPES)]


def largest_difference(name: str, dtype: torch.dtype, device: torch.device) -> float:
    """Of a case, relative to the largest value of each result."""
    operator, make, _ = CASES[name]
    assert operator.compiled is not None
    torch.manual_seed(0)
    arguments = [converted(as_in_networks(argument), device, dtype) for argument in make()]
    pairs = zip(tree_leaves(operator.compiled(*arguments)), tree_leaves(operator.plain(*arguments)), strict=True)
    return max(float((a.double() - b.double()).abs().max() / b.double().abs().max()) for a, b in pairs)


def main(document: Path) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases: dict[str, list[str]] = defaultdict(list)
    for name, (operator, _, _) in CASES.items():
        cases[operator.name.removeprefix("trivd::")].append(name)
    rows = []
    for operator_name, names in cases.items():
        first = [next(x for x in tree_leaves(CASES[name][1]()) if isinstance(x, Tensor)) for name in names]
        sizes = ", ".join(dict.fromkeys(" x ".join(map(str, tensor.shape)) for tensor in first))
        errors = [max(largest_difference(name, dtype, device) for name in names) for dtype in DTYPES]
        rows.append([operator_name, sizes, *(f"{error:.0e}" if error else "0" for error in errors)])
    text = fill(read_document(document), "kernel errors", markdown_table(HEADING, rows), document)
    write_atomically(document, text.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
