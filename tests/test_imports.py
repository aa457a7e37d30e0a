"""The layers of the package: no module imports one that lies above its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import trivd

PACKAGE = Path(trivd.__file__).parent
REPOSITORY = PACKAGE.parent
# From the lowest to the highest; those of one row do not import each other.
LAYERS = [
    {"runtime"},
    {"config", "pictures", "ops"},
    {"presets", "data", "models"},
    {"evaluation"},
    {"training"},
    {"prediction"},
    {"commands"},
]
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
FACE = {"__init__", "__main__", "metrics"}  # the public face, which imports anything
ALLOWED = {"reference": {"trivd.config"}}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def room(name: str) -> str | None:
    """Folder or module of the package's root that a full name lies in; None for those of others."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "trivd" else None


def upward(path: Path) -> Iterator[str]:
    """The imports of a module that its layer does not allow."""
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for line, name in imports(path):
        other = room(name)
        if other is None or other == own or own in FACE:
            continue
        if other not in LEVELS or LEVELS[other] >= LEVELS[own]:
            yield f"{path.relative_to(REPOSITORY)}:{line} imports {name}"


def test_every_module_of_the_package_has_a_layer() -> None:
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert found == set(LEVELS) | FACE


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_upwards(path: Path) -> None:
    assert list(upward(path)) == []


def test_an_upward_import_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_imports.PACKAGE", tmp_path)
    monkeypatch.setattr("test_imports.REPOSITORY", tmp_path)
    (tmp_path / "ops").mkdir()
    module = tmp_path / "ops" / "warp.py"
    module.write_text(
        "def f():\n    from trivd.models import warping\n\nimport trivd.pictures.plots, trivd.runtime.files\n"
    )
    assert sorted(upward(module)) == [
        "ops/warp.py:2 imports trivd.models.warping",
        "ops/warp.py:4 imports trivd.pictures.plots",
    ]


@pytest.mark.parametrize("name", ["reference"])
def test_the_reference_stands_alone(name: str) -> None:
    """It knows nothing of trivd but the configuration, so that it is an independent answer."""
    for path in sorted((REPOSITORY / name).rglob("*.py")):
        for line, imported in imports(path):
            if imported.startswith(("trivd", "benchmarks", "research", "tests")):
                assert imported.rpartition(".")[0] in ALLOWED[name], f"{path}:{line} imports {imported}"


def test_the_package_needs_nothing_beside_it() -> None:
    beside = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - {"trivd"}
    for path in PACKAGE.rglob("*.py"):
        for line, imported in imports(path):
            assert imported.partition(".")[0] not in beside, f"{path}:{line} imports {imported}"
