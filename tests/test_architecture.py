"""The package as a graph of imports: which package may import which, no cycles, and an import that stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, Set

import pytest

from realesrgan.weights import zoo

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "realesrgan"
# Lowest first: a module imports from its own row and from those above it, wherever in the file it does it.
ORDER = """
errors
archs backends devices files
weights
inference
inference.faces batch
video utils
cli
tools
data
models
train
"""
LEVEL = {name: row for row, names in enumerate(ORDER.split("\n")) for name in names.split()}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).replace(".__init__", "")


FILES = {dotted(path): path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or "__" not in path.stem}


def imported(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, also inside functions."""
    package = ["realesrgan", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names = [".".join([*base, *(node.module or "").split("."), alias.name]) for alias in node.names]
        else:
            continue
        for name in (name.replace("..", ".") for name in names):
            inside = name[len("realesrgan.") :] if name.startswith("realesrgan.") else ""
            yield from [c for c in (inside, inside.rpartition(".")[0]) if c in FILES][:1]


GRAPH: Dict[str, Set[str]] = {name: set(imported(path)) - {name} for name, path in FILES.items()}


def room(name: str) -> str:
    """The row's name that a module belongs to: the longest one."""
    return max((row for row in LEVEL if f"{name}.".startswith(f"{row}.")), key=len, default=name)


def test_packages_import_one_way() -> None:
    assert {room(name) for name in FILES} == set(LEVEL)
    arrows = {(room(name), room(target)) for name, targets in GRAPH.items() for target in targets}
    assert ("weights", "archs") in arrows, "the search must find imports"
    assert [a for a in arrows if LEVEL[a[1]] > LEVEL[a[0]]] == []


def test_there_are_no_cycles() -> None:
    left = {name: set(targets) for name, targets in GRAPH.items()}
    while left:
        free = {name for name, targets in left.items() if not targets & set(left)}
        assert free, f"a cycle among {sorted(left)}"
        left = {name: targets for name, targets in left.items() if name not in free}


@pytest.mark.parametrize(
    "module", ["realesrgan", "realesrgan.cli.commands", "realesrgan.tools.doctor", "realesrgan.utils"]
)
def test_the_import_is_light(module: str) -> None:
    code = (
        f"import sys, {module}; print({{'torch', 'numpy', 'cv2', 'PIL', 'basicsr', 'torchvision'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


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
