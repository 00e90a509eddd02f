"""docs/architecture.md and README.md against the code: modules, who may import whom, models, the two lines."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Dict, Iterator, List, Set

import pytest

from realesrgan import zoo

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "realesrgan"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def modules() -> Set[str]:
    """Modules and sub-packages directly under realesrgan/."""
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    return files | {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}


def rows() -> List[List[str]]:
    """The table of rooms: the modules of each row."""
    table = ARCHITECTURE.split("## Rooms", 1)[1].split("\n## ", 1)[0]
    return [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines() if line.startswith("| `")]


def dotted(path: Path) -> str:
    """``archs.rrdbnet_arch`` for a file; a package's ``__init__`` has the package's name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"}


def imported(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, wherever it does it; for type checkers only does not count."""
    package = ["realesrgan", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            # "from a.b import c": c is a module or something in a.b.
            inside = name[len("realesrgan.") :] if name.startswith("realesrgan.") else ""
            found = [candidate for candidate in (inside, inside.rpartition(".")[0]) if candidate in FILES]
            yield from found[:1]


def graph() -> Dict[str, Set[str]]:
    """Each file's imports of ours."""
    return {name: set(imported(path)) - {name} for name, path in FILES.items()}


def test_the_table_names_every_module_once() -> None:
    named = [name for row in rows() for name in row]
    assert len(named) == len(set(named))
    assert set(named) == modules()


def test_nothing_imports_from_a_lower_row() -> None:
    level = {name: number for number, row in enumerate(rows()) for name in row}
    wrong = []
    for name, targets in graph().items():
        for target in targets:
            here, there = level.get(name.split(".")[0]), level.get(target.split(".")[0])
            if here is not None and there is not None and there > here:  # a missing one is the test above's matter
                wrong.append(f"{name} -> {target}")
    assert wrong == []


def test_there_are_no_cycles() -> None:
    left = graph()
    assert "devices" in left["engine"], "the search must find imports"
    assert "archs.rrdbnet_arch" in left["zoo"], "also those inside functions and sub-packages"
    while left:
        free = {name for name, targets in left.items() if not targets & set(left)}
        assert free, f"a cycle among {sorted(left)}"
        left = {name: targets for name, targets in left.items() if name not in free}


BACKENDS = {"directml", "cuda", "xpu", "mps", "cpu", "privateuseone"}


def deciding_by_name(path: Path) -> Set[int]:
    """Lines that compare something with a backend's name."""
    comparisons = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Compare)
    ]
    return {
        node.lineno
        for node in comparisons
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and part.value in BACKENDS
    }


def test_only_devices_decides_by_a_backends_name() -> None:
    allowed = {"devices", "memory", "tools", "models", "data", "train"}  # training follows basicsr, which knows CUDA
    found = {name.split(".")[0] for name, path in FILES.items() if deciding_by_name(path)}
    assert "devices" in found, "the search must find them"
    assert found <= allowed


def test_functions_that_the_text_names_exist() -> None:
    named = re.findall(r"`(\w+)\.(\w+)`", ARCHITECTURE)
    assert len(named) > 4
    for module, function in named:
        tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
        exported = next(
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        )
        assert function in exported, f"{module}.{function}"


def test_the_readme_has_the_two_lines() -> None:
    lines = README.splitlines()
    assert "python scripts/first_run.py" in lines
    assert "python scripts/first_run.py --test" in lines


@pytest.mark.parametrize("name", zoo.names())
def test_the_readme_lists_the_model(name: str) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{name}`"))
    spec = zoo.get(name)
    assert f"| {spec.scale}x |" in row
    assert ("bundled" in row) == (spec.pypi is not None)
