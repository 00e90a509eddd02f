"""What holds for the package as a whole: what an import costs, what its files say, how it is laid out."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest

import realesrgan

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "realesrgan"
HEAVY = ("torch", "numpy", "cv2", "PIL", "torchvision", "torch_directml", "basicsr", "gfpgan", "facexlib", "matplotlib")
# The only modules that may import basicsr; gfpgan imports it by itself.
TRAINING = ("train.py", "models", "data")


def python(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments] + (["-c", code] if code else [])
    env = dict(os.environ, PYTHONIOENCODING="utf-8")
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, encoding="utf-8", check=False)


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {names!r}:
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Blocked())
"""


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import realesrgan, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = python(code=code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_importtime_names_nothing_heavy() -> None:
    done = python("-X", "importtime", code="import realesrgan")
    names = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "realesrgan" in names, "the measurement itself must have worked"
    assert names.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "module", ["realesrgan", "realesrgan.errors", "realesrgan.cli.messages", "realesrgan.cli.commands"]
)
def test_light_modules_import_where_nothing_is_installed(module: str) -> None:
    done = python(code=BLOCK.format(names=HEAVY) + f"import {module}; print('fine')")
    assert done.stdout.strip() == "fine", done.stderr


def test_help_works_where_nothing_is_installed() -> None:
    code = BLOCK.format(names=HEAVY) + (
        "import runpy; sys.argv = ['realesrgan', '--help']; runpy.run_module('realesrgan', run_name='__main__')"
    )
    done = python(code=code)
    assert done.returncode == 0, done.stderr
    for flag in ("--input", "--model_name", "--tile", "--device", "--fp32", "--alpha_upsampler"):
        assert flag in done.stdout


def test_the_program_at_the_top_is_the_same() -> None:
    done = python("inference_realesrgan.py", "--help")
    assert done.returncode == 0, done.stderr
    assert "--input" in done.stdout


def test_an_exported_name_that_is_missing_says_so() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = realesrgan.no_such_name  # type: ignore[attr-defined]


def test_every_export_exists() -> None:
    assert len(set(realesrgan.__all__)) == len(realesrgan.__all__)
    for name in realesrgan.__all__:
        assert getattr(realesrgan, name) is not None
        assert name in dir(realesrgan)
    assert realesrgan.RealESRGANer.__module__ == "realesrgan.inference.upsampler"


# ---------------------------------------------------------------------------------------- who imports what


def imports_of(path: Path) -> Iterator[Tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0], node.lineno
        elif isinstance(node, ast.Call) and re.search(r"'(import_module|__import__)'", ast.dump(node.func)):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value.split(".")[0], node.lineno


def importers(module: str) -> Set[str]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if any(name == module for name, _ in imports_of(path)):
            found.add(path.relative_to(PACKAGE).as_posix())
    return found


def test_only_training_imports_basicsr() -> None:
    assert {name.split("/")[0] for name in importers("basicsr")} <= set(TRAINING)


@pytest.mark.parametrize("module", ["gfpgan", "facexlib"])
def test_only_faces_imports(module: str) -> None:
    assert all(name.startswith("inference/faces/") for name in importers(module))


def test_only_its_backend_imports_torch_directml() -> None:
    # Others may ask whether it can be found (find_spec), which is not an import.
    assert importers("torch_directml") == {"backends/directml.py"}


# ---------------------------------------------------------------------------------------- files and packaging


def requirement_lines(name: str) -> List[str]:
    lines = [re.sub(r"(^|\s)#.*$", "", line).strip() for line in (ROOT / name).read_text("utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


@pytest.fixture(scope="module")
def pyproject() -> Dict[str, Any]:
    """pyproject.toml, parsed."""
    try:
        import tomllib
    except ImportError:  # before Python 3.11; pytest itself brings the other one
        import tomli as tomllib
    parsed: Dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return parsed


def test_the_package_asks_for_what_the_requirements_say(pyproject: Dict[str, Any]) -> None:
    assert pyproject["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}
    extras = pyproject["project"]["optional-dependencies"]
    assert set(extras) >= {"directml", "face", "train", "dev", "video"}
    assert extras["train"] == requirement_lines("requirements-train.txt")
    for line in extras["vulkan"]:
        assert line in requirement_lines("requirements-vulkan.txt") and line in extras["dev"]
    assert extras["dev"] == requirement_lines("requirements-dev.txt")
    assert set(extras["face"]) <= set(extras["train"])
    assert {re.split(r"[=<>; ]", line)[0] for line in extras["face"]} >= {"gfpgan", "facexlib", "basicsr"}
    assert set(extras["video"]) <= set(extras["dev"])


def test_pre_commit_has_the_same_ruff() -> None:
    pinned = next(line for line in requirement_lines("requirements-dev.txt") if line.startswith("ruff=="))
    version = re.split(r"[=; ]+", pinned)[1]
    assert f"rev: v{version} #" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")


def test_inference_requires_no_training_package() -> None:
    names = {re.split(r"[=<>; ]", line)[0].lower() for line in requirement_lines("requirements.txt")}
    assert {"torch", "torch-directml", "numpy", "opencv-python", "pillow", "tqdm"} <= names
    assert names.isdisjoint({"basicsr", "gfpgan", "facexlib", "torchvision"})


def test_the_version_and_the_console_script(pyproject: Dict[str, Any]) -> None:
    project = pyproject["project"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "realesrgan.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.\w+)?", realesrgan.__version__)
    # setuptools reads the number without running the package; that needs a plain text in the file.
    assert f'__version__ = "{realesrgan.__version__}"' in (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    module, function = project["scripts"]["realesrgan"].split(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert project["requires-python"] == ">=3.8"
    for minor in range(8, 15):
        assert f"Programming Language :: Python :: 3.{minor}" in project["classifiers"]
    assert (PACKAGE / "py.typed").is_file()


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(realesrgan.__version__)} \(\d{{4}}-\d\d-\d\d\)", headings[0])
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", heading) for heading in headings)


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_requirements_are_ascii(path: Path) -> None:
    path.read_bytes().decode("ascii")  # older pips read them in the console's encoding


def test_torch_directml_is_asked_for_only_where_it_exists() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    line = next(line for line in requirement_lines("requirements.txt") if line.startswith("torch-directml"))
    marker = packaging.Requirement(line).marker
    windows = {"sys_platform": "win32", "platform_machine": "AMD64", "python_version": "3.12"}
    assert marker.evaluate(windows)
    assert not marker.evaluate(dict(windows, python_version="3.13"))
    assert not marker.evaluate(dict(windows, platform_machine="ARM64"))
    assert not marker.evaluate(dict(windows, sys_platform="linux"))


def test_the_top_level_is_complete() -> None:
    for name in ("realesrgan", "tests", "weights", "options", "inputs", "docs", "scripts"):
        assert (ROOT / name).is_dir(), name
    for name in ("inference_realesrgan.py", "setup.py", "requirements.txt", "README.md", "LICENSE", "CHANGELOG.md"):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("name", ["astronaut.png", "badge.png", "drawing.png"])
def test_bundled_pictures_are_small_and_open(name: str) -> None:
    from PIL import Image

    path = ROOT / "inputs" / name
    assert path.stat().st_size < 150_000
    with Image.open(path) as image:
        image.load()
        assert image.mode == ("RGBA" if name == "badge.png" else "RGB")
        assert max(image.size) <= 256


def test_the_library_parses_as_python_38() -> None:
    for path in [*PACKAGE.rglob("*.py"), ROOT / "inference_realesrgan.py", ROOT / "setup.py"]:
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 8))
