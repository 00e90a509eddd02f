"""The stand-in for torchvision.transforms.functional_tensor."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Iterator, List

import pytest

from realesrgan.models import compat

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A torchvision made of text files; real ones already imported are set aside for the test."""
    transforms = tmp_path / "torchvision" / "transforms"
    transforms.mkdir(parents=True)
    (tmp_path / "torchvision" / "__init__.py").write_text("", encoding="utf-8")
    (transforms / "__init__.py").write_text("", encoding="utf-8")
    (transforms / "functional.py").write_text("def only_here():\n    return 'public'\n", encoding="utf-8")
    (transforms / "_functional_tensor.py").write_text(
        "def rgb_to_grayscale(image):\n    return ('private', image)\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "torchvision"}
    path_before: List[object] = list(sys.meta_path)
    importlib.invalidate_caches()
    yield transforms
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    sys.modules.update(kept)
    sys.meta_path[:] = path_before  # type: ignore[assignment]


def test_gives_what_basicsr_asks_for(fake_torchvision: Path) -> None:
    compat.install()
    module = importlib.import_module(compat.MODULE_NAME)
    assert module.rgb_to_grayscale(7) == ("private", 7)
    assert module.only_here() == "public"
    from torchvision.transforms.functional_tensor import rgb_to_grayscale

    assert rgb_to_grayscale(8) == ("private", 8)


def test_an_unknown_name_is_an_attribute_error_that_names_it(fake_torchvision: Path) -> None:
    compat.install()
    module = importlib.import_module(compat.MODULE_NAME)
    with pytest.raises(AttributeError, match="no_such_function"):
        _ = module.no_such_function
    assert not hasattr(module, "__path__")


def test_nothing_is_looked_up_before_it_is_asked_for(fake_torchvision: Path) -> None:
    compat.install()
    importlib.import_module(compat.MODULE_NAME)
    assert "torchvision.transforms._functional_tensor" not in sys.modules
    assert "torchvision.transforms.functional" not in sys.modules


def test_an_old_torchvision_keeps_its_own_module(fake_torchvision: Path) -> None:
    (fake_torchvision / "functional_tensor.py").write_text("OWN = True\n", encoding="utf-8")
    importlib.invalidate_caches()
    compat.install()
    module = importlib.import_module(compat.MODULE_NAME)
    assert module.OWN is True
    assert module.__file__ is not None
    assert not hasattr(module, "rgb_to_grayscale")


def test_without_torchvision_the_error_names_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)  # type: ignore[arg-type]
    compat.install()
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(compat.MODULE_NAME)
    assert caught.value.name in ("torchvision", "torchvision.transforms")


def ours() -> List[object]:
    return [finder for finder in sys.meta_path if type(finder).__module__ == compat.__name__]


def test_install_is_idempotent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if finder not in ours()])
    compat.install()
    compat.install()
    assert [type(finder).__name__ for finder in ours()] == ["_RegistriesFinder", "_Finder"]
    assert sys.meta_path[-1] is ours()[1], "asked last, so that nothing real is shadowed"


def test_importing_the_package_installs_it() -> None:
    code = "import sys, realesrgan; print('realesrgan.models.compat' in [type(f).__module__ for f in sys.meta_path])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.train
@pytest.mark.slow
def test_basicsr_imports_and_still_needs_us() -> None:
    """The second half fails on the day basicsr imports by itself: then compat.py can go."""
    for package in ("torchvision", "basicsr"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed (requirements-train.txt)")
    version = tuple(int(part) for part in importlib.metadata.version("torchvision").split("+")[0].split(".")[:2])
    if version < (0, 17):
        pytest.skip("this torchvision still has the module")
    with_us = run_python("""
        import realesrgan
        import basicsr
        from basicsr.archs.rrdbnet_arch import RRDBNet
        print(RRDBNet(3, 3, num_feat=4, num_block=1, num_grow_ch=4).conv_first.out_channels)
    """)
    assert with_us.stdout.strip() == "4", with_us.stderr
    alone = run_python("import basicsr")
    assert alone.returncode != 0, "basicsr imports without realesrgan.models.compat: the stand-in is no longer needed"
    assert compat.MODULE_NAME in alone.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation puts into the folder of packages."""
    pytest.importorskip("setuptools")
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "requirements.txt", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "realesrgan", source / "realesrgan", ignore=shutil.ignore_patterns("__pycache__"))
    folder = source / "site"
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_py", "--build-lib", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def starts(installed: Path, folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code where the package is installed, beside a torchvision and a basicsr made of text files."""
    texts = {
        "torchvision/__init__.py": "",
        "torchvision/transforms/__init__.py": "",
        "torchvision/transforms/_functional_tensor.py": "def rgb_to_grayscale(image):\n    return image\n",
        "basicsr/__init__.py": "from . import degradations\n",
        "basicsr/degradations.py": "from torchvision.transforms.functional_tensor import rgb_to_grayscale\n",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    start = f"import sys, site; site.addsitedir({str(installed)!r}); sys.path.insert(0, {str(folder)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", start + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_basicsr_imports_by_itself_where_the_package_is_installed(installed: Path, tmp_path: Path) -> None:
    done = starts(installed, tmp_path, "import basicsr; print(basicsr.degradations.rgb_to_grayscale(5))")
    assert (done.returncode, done.stdout.strip()) == (0, "5"), done.stderr


def test_the_start_imports_nothing(installed: Path, tmp_path: Path) -> None:
    code = "print([name for name in sys.modules if name.split('.')[0] in ('realesrgan', 'torchvision', 'torch')])"
    assert starts(installed, tmp_path, code).stdout.strip() == "[]"


def test_the_start_can_be_left_out(installed: Path, tmp_path: Path) -> None:
    done = starts(installed, tmp_path, "import basicsr", REALESRGAN_STARTUP="0")
    assert done.returncode == 1 and "functional_tensor" in done.stderr


def test_registries_are_filled_when_basicsr_comes() -> None:
    """The same with a registry like basicsr's: its own names win, ours are imported when they are asked for."""
    entries = compat._Entries({"Own": 1}, {"calculate": "models.base", "Own": "models.base"})
    assert "calculate" in entries and "Other" not in entries
    assert entries.get("Own") == 1 and entries.get("Other") is None
    from realesrgan.archs import structure

    entries = compat._Entries({}, {"rrdbnet": "archs.structure"})
    assert entries.get("rrdbnet") is structure.rrdbnet
    assert dict(entries.items()) == {"rrdbnet": structure.rrdbnet} and list(entries) == ["rrdbnet"]
    with pytest.raises(KeyError):
        _ = entries["missing"]
