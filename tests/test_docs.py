"""The documentation: the paths, settings and commands that it names exist, and its Python runs."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from markdown_it import MarkdownIt
from markdown_it.token import Token

from trivd.commands import main as cli
from trivd.config import Config, DataConfig, ModelConfig
from trivd.models.generator import Generator
from trivd.runtime.errors import TrivdError

ROOT = Path(__file__).parents[1]
FOLDERS = ("trivd", "reference", "benchmarks", "research", "tests", "docs", ".ci")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "trivd").rglob("*.md"))]
SECTIONS = ("model", "discriminator", "data", "training", "evaluation", "limits")
NO_SETTINGS = {"model.safetensors", "model.predict"}
# Where a page may leave out the beginning of a path: tests and results are named from their own folders.
HOMES = (".", "tests", "benchmarks/results")
LONG = "word " * 30


def tokens(page: Path) -> Iterator[Token]:
    """All tokens of a page, those within paragraphs too."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def code(page: Path) -> list[str]:
    """The pieces of code within the text."""
    return [token.content for token in tokens(page) if token.type == "code_inline"]


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code in a language."""
    return [token.content for token in tokens(page) if token.type == "fence" and token.info == language]


def expanded(path: str) -> list[str]:
    """a/{b,c}.py -> a/b.py, a/c.py."""
    head, brace, rest = path.partition("{")
    inner, _, tail = rest.partition("}")
    return [head + part + tail for part in inner.split(",")] if brace else [path]


def paths(text: str) -> Iterator[str]:
    """The paths of this repository in a piece of code; those with a placeholder, as in DATE.json, are left out."""
    for word in text.split():
        for path in expanded(word.rstrip(".,;:")):
            named = re.fullmatch(r"[\w.*-]+(/[\w.*-]+)*/?", path) and (
                path.startswith(tuple(f"{folder}/" for folder in FOLDERS))
                or path.endswith(".py")
                or re.match(r"20\d\d-\d\d-\d\d-.*\.", path)
            )
            if named and not re.search(r"\b(DATE|NAME)\b", path):
                yield path


def exists(path: str) -> bool:
    if path.endswith(".py") and "/" not in path:
        return any(any((ROOT / folder).rglob(path)) for folder in FOLDERS)
    return any(any((ROOT / home).glob(path.rstrip("/"))) for home in HOMES)


def anchors(page: Path) -> set[str]:
    """The names by which links reach the headings of a page."""
    found = list(tokens(page))
    headings = [found[i + 1].content for i, token in enumerate(found) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[list[str]]:
    """The shell commands of a page, as words."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words
    for text in code(page):
        if re.match(r"trivd \w+ [^-]", text) and not re.search(r"--[\w.-]+ [A-Z]+\b", text):  # complete, no placeholder
            yield shlex.split(text)


def arguments(words: list[str]) -> list[str] | None:
    """What follows `trivd` in a command, on its own or under torchrun."""
    if Path(words[0]).name == "trivd":
        return words[1:]
    for place in range(len(words) - 1):
        if words[place : place + 2] == ["-m", "trivd"]:
            return words[place + 2 :]
    return None


pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages
def test_every_path_exists(page: Path) -> None:
    assert [path for text in code(page) for path in paths(text) if not exists(path)] == []


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in tokens(page)]
    for target in targets:
        if not target or target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pages
def test_every_name_of_python_exists(page: Path) -> None:
    for text in code(page):
        if re.fullmatch(rf"({'|'.join(FOLDERS[:4])})(\.\w+)+", text):
            parts = text.split(".")
            while find_spec(parent := ".".join(parts[:-1])) is None or not hasattr(
                importlib.import_module(parent), parts[-1]
            ):
                assert find_spec(".".join(parts)) is None, text
                parts.pop()
            attrgetter(text.removeprefix(f"{parent}."))(importlib.import_module(parent))


@pages
def test_every_setting_exists(page: Path) -> None:
    config = Config()
    for text in code(page):
        for section, name in re.findall(r"(?<![\w./])(?:--)?(\w+)\.([a-z][\w.-]*\w)", text):
            if section in SECTIONS and f"{section}.{name}" not in NO_SETTINGS:
                settings = DataConfig().limits if section == "limits" else getattr(config, section)
                attrgetter(name.replace("-", "_").removeprefix("no_"))(settings)  # --section.no-name is false


@pages
def test_every_command_parses(page: Path) -> None:
    for words in commands(page):
        given = arguments(words)
        if given is not None:
            cli._parse(given)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), words
        elif words[:2] == ["python", "-m"]:
            assert find_spec(words[2]) is not None, words


def test_a_wrong_option_is_found() -> None:
    with pytest.raises((SystemExit, TrivdError)):
        cli._parse(["train", "videos", "--training.batch-sizes", "2"])


@pages
def test_python_imports_what_there_is(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                assert all(importlib.import_module(alias.name) for alias in node.names)


def test_the_unit_of_the_readme_runs() -> None:
    block = next(block for block in blocks(ROOT / "README.md", "python") if "TSRU" in block)
    names: dict[str, object] = {}
    exec(block, names)
    assert [tuple(getattr(names[name], "shape", ())) for name in ("states", "weights")] == [
        (11, 8, 64, 16, 16),
        (11, 8, 1, 9, 16, 16),
    ]


def numbers(kind: str, text: str) -> set[int]:
    """Numbers in "Eq 1-5" or "Figures 1, 3": 1, 2, ..."""
    found: set[int] = set()
    for listed in re.findall(rf"{kind}s? ([\d, -]*\d)", text):
        for part in listed.split(","):
            first, _, last = part.strip().partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    return found


def test_the_map_of_the_paper_is_complete() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    assert numbers("Eq", text) == set(range(1, 23))
    assert numbers("Table", text) == set(range(1, 5))
    assert numbers("Figure", text) == set(range(1, 7))
    first = {cell.strip() for row in text.splitlines() if row.startswith("|") for cell in row.split("|")[1].split(",")}
    wanted = {
        f"{letter}.{number}" for letter, last in zip("CDEF", (2, 3, 3, 5), strict=True) for number in range(1, last + 1)
    }
    wanted |= {"2.3", "3.1", "3.2.1", "3.2.2", "4.1", "4.2", "4.3", "4.4", "A", "B"}
    assert wanted <= first


ARCHITECTURE = ROOT / "docs" / "architecture.md"


def test_the_tree_of_the_architecture_lists_every_folder() -> None:
    tree = next(block for block in blocks(ARCHITECTURE, "text") if block.startswith("trivd/"))
    listed, parents = set(), [ROOT]
    for line in tree.splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        parents[depth + 1 :] = [parents[depth] / name]
        assert parents[-1].exists(), parents[-1]
        listed.add(parents[-1])
    assert {path.parent for path in (ROOT / "trivd").rglob("__init__.py")} <= listed


def test_the_diagrams_name_files_that_exist() -> None:
    diagrams = "".join(blocks(ARCHITECTURE, "mermaid"))
    named = re.findall(r"\b[a-z]+/[\w/]+(?:\.py|/)", diagrams.replace("checkpoints/", "").replace("best/", ""))
    assert len(named) > 10
    assert [path for path in named if not (ROOT / "trivd" / path).exists()] == []


def test_the_diagrams_have_the_shapes_of_the_code() -> None:
    config = ModelConfig()
    with torch.device("meta"):
        generator = Generator(config)
    flow, unit = blocks(ARCHITECTURE, "mermaid")[2:]
    shapes = [
        f"D block<br/>{block.conv2.weight.shape[0]} x {32 >> i} x {32 >> i}"
        for i, block in enumerate(generator.encoder.blocks)
    ]
    shapes += [f"folded: {layer.weight.shape[1]}" for layer in generator.encoder.compress.values()]
    for r, stage in zip(config.generator_resolutions, generator.stages, strict=False):
        channels, wider = stage.conv.weight.shape[0], stage.upsampling_block.conv2.weight.shape[0]
        shapes += [f"{what}{channels} x {r} x {r}" for what in ("h0: ", "unit: ", "3x3 conv<br/>", "G block<br/>")]
        shapes.append(f"G block, x2<br/>{wider} x {2 * r} x {2 * r}")
    assert [shape for shape in shapes if shape not in flow] == []
    kernels, first = generator.stages[0].unit.kernels, generator.stages[0].unit.first.convolutions
    inside = [f"max-pool<br/>{first['kernel_features'].weight.shape[0]} x 4 x 4"]
    inside += [f"linear, ReLU<br/>{kernels.hidden.weight.shape[0]}", f"{kernels.taps} kernels of {kernels.taps} taps"]
    inside += [f"side by side<br/>{first['c'].weight.shape[1]} x 8 x 8", f"S: {first['selection'].weight.shape[0]} x 8"]
    assert [shape for shape in inside if shape not in unit] == []


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"# T\n\n{LONG.strip()}\n", False),
        (f"# T\n\n- {LONG.strip()}\n", False),
        (f"# T\n\n| a |\n|---|\n| {LONG} |\n", True),
        (f"# T\n\n```bash\n{LONG}\n```\n", True),
        (f"# T\n\n<https://example.org/{'x' * 100}>\n", True),
        ("# T\n\nShort lines.\n", True),
    ],
)
def test_lint_finds_long_lines(text: str, clean: bool, tmp_path: Path) -> None:
    """Those of text; tables, code and what cannot be broken may be longer."""
    page = tmp_path / "page.md"
    page.write_text(text)
    run = subprocess.run(
        [sys.executable, "-m", "pymarkdown", "scan", str(page)], cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode == 0) is clean, run.stdout + run.stderr
    assert clean or "MD013" in run.stdout
