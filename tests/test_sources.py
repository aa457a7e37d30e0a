"""The package's own sources: nothing in them unpickles, or runs text as a program."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import trivd

PACKAGE = Path(trivd.__file__).parent
BESIDE = [PACKAGE.parent / name for name in ("benchmarks", "reference", "research")]
SOURCES = sorted(path for folder in (PACKAGE, *BESIDE) for path in folder.rglob("*.py"))
RUNS_WHAT_IT_READS = {
    *(
        f"{module}.{name}"
        for module in ("pickle", "marshal", "yaml", "dill", "cloudpickle")
        for name in ("load", "loads")
    ),
    *("pickle.Unpickler", "shelve.open", "joblib.load", "torch.jit.load", "torch.hub.load", "yaml.unsafe_load"),
    *("os.system", "os.popen", "eval", "exec", "__import__"),
}
NEEDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}


def findings(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of what may run the contents of a file."""
    tree = ast.parse(source)
    known = dict(_imported(tree))

    def full_name(node: ast.expr) -> str:
        first, dot, rest = ast.unparse(node).partition(".")
        return known.get(first, first) + dot + rest

    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from ((node.lineno, full_name(b)) for b in node.bases if full_name(b) in RUNS_WHAT_IT_READS)
        if not isinstance(node, ast.Call):
            continue
        name = full_name(node.func)
        given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        if name in NEEDED and given.get(NEEDED[name][0]) is not NEEDED[name][1]:
            yield node.lineno, f"{name} without {NEEDED[name][0]}={NEEDED[name][1]}"
        if name in RUNS_WHAT_IT_READS or given.get("shell") is True or given.get("allow_pickle") is True:
            yield node.lineno, name


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names in a module, and what they stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.asname, name.name) for name in node.names if name.asname is not None)
        if isinstance(node, ast.ImportFrom):
            yield from ((name.asname or name.name, f"{node.module}.{name.name}") for name in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_nothing_unpickles(path: Path) -> None:
    assert list(findings(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "pickle.load(f)",
        "from pickle import loads; loads(b)",
        "import pickle as p; p.loads(b)",
        "from torch import load; load(f)",
        "from numpy import load as read; read(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(text, shell=True)",
        "class A(pickle.Unpickler): pass",
    ],
)
def test_what_unpickles_is_found(source: str) -> None:
    assert list(findings(source))
