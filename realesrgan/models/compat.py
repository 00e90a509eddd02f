"""basicsr beside today's libraries: imported, helped along, and told of this package's classes.

* basicsr 1.4.2 and gfpgan import ``torchvision.transforms.functional_tensor``, which torchvision 0.17 removed; its
  functions live on in ``torchvision.transforms._functional_tensor``. :func:`install` (``import realesrgan`` calls it)
  puts a finder at the *end* of ``sys.meta_path``: it is asked only after every other finder has failed, so a
  torchvision that still has the module is never shadowed.
* As soon as basicsr is imported, its registries know this package's classes, as they do where the original is
  installed: a class is imported when it is first asked for by its name. :func:`register` puts them in place of
  basicsr's own, when a training starts.
* basicsr imports ``scipy.ndimage.filters``, which warns: :func:`import_basicsr` keeps that from the user.
* ``basicsr.utils.DiffJPEG`` writes into the qualities it is given, its tables ask for gradients, and they are
  transposed: :mod:`realesrgan.models.degradation` gives it a copy, no gradients, and pictures seen across.
* basicsr's launcher and resume code need CUDA: :mod:`realesrgan.train` has its own.

Nothing heavy is imported before somebody asks for it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from types import MappingProxyType, ModuleType
from typing import Any, Dict, Iterator, Mapping, MutableMapping, Optional, Sequence

from ..errors import RealESRGANError

__all__ = ["MODULE_NAME", "OURS", "import_basicsr", "install", "register", "spec_of"]

MODULE_NAME = "torchvision.transforms.functional_tensor"
# Asked in this order. The first is where the functions went, but its name says that it is private; the second is public
# and contains those that basicsr needs.
_HOMES = ("torchvision.transforms._functional_tensor", "torchvision.transforms.functional")

REGISTRIES = "basicsr.utils.registry"
#: Registry of basicsr -> name of ours -> module of this package that has it. RRDBNet stays basicsr's own there.
OURS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "ARCH_REGISTRY": {"SRVGGNetCompact": "archs.srvgg_arch", "UNetDiscriminatorSN": "archs.discriminator_arch"},
        "DATASET_REGISTRY": {
            "RealESRGANDataset": "data.realesrgan_dataset",
            "RealESRGANPairedDataset": "data.realesrgan_paired_dataset",
        },
        "MODEL_REGISTRY": {
            "RealESRGANModel": "models.realesrgan_model",
            "RealESRNetModel": "models.realesrnet_model",
        },
    }
)
#: What a training puts there besides.
_IN_TRAINING = {"ARCH_REGISTRY": {"RRDBNet": "archs.rrdbnet_arch"}, "METRIC_REGISTRY": {"calculate_l1": "models.base"}}

_TOO_NEW = (3, 13)  # for basicsr 1.4.2
_INSTALL = "Training needs basicsr: python scripts/first_run.py --train --install-only (or see requirements-train.txt)"
_OTHER_PYTHON = "Training needs basicsr, which does not build on Python {}.{}; use Python 3.9 to 3.12"


def import_basicsr() -> None:
    """Import basicsr, the first time without the warnings of what it imports.

    Raises:
        RealESRGANError: It is not installed or does not import here; the message has the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            import basicsr  # noqa: F401
    except ImportError as error:
        # It cannot be installed there: the lines of the train extra leave it out.
        advice = _INSTALL if sys.version_info < _TOO_NEW else _OTHER_PYTHON.format(*sys.version_info)
        raise RealESRGANError(f"{advice}: {error}", code="train.basicsr", reason=str(error)) from error


def register() -> None:
    """Make ``type: RealESRGANModel`` and the like mean ours, in place of basicsr's own where it has one of that name.

    Calling it again changes nothing.
    """
    import_basicsr()
    registries = importlib.import_module(REGISTRIES)
    for table in (OURS, _IN_TRAINING):
        for registry, ours in table.items():
            entries = getattr(registries, registry)._obj_map
            entries.update((name, _imported(module, name)) for name, module in ours.items())


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"{__package__.partition('.')[0]}.{module}"), name)


class _Entries(MutableMapping[str, Any]):
    """A registry's entries, among which ours are imported when they are asked for."""

    def __init__(self, present: Mapping[str, Any], ours: Mapping[str, str]) -> None:
        self._present: Dict[str, Any] = dict(present)
        self._ours = ours

    def _names(self) -> Dict[str, Any]:
        # While basicsr is being imported it registers classes of its own, and must not be told that they are there.
        spec = getattr(sys.modules.get("basicsr"), "__spec__", None)
        return self._present if getattr(spec, "_initializing", False) else {**self._present, **self._ours}

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __getitem__(self, name: str) -> Any:
        if name not in self._present and name in self:
            self._present[name] = _imported(self._ours[name], name)
        return self._present[name]

    def __setitem__(self, name: str, entry: Any) -> None:
        self._present[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._present[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._names()))

    def __len__(self) -> int:
        return len(self._names())


def _fill(registries: ModuleType) -> None:
    """Let basicsr's registries know our classes."""
    for registry, ours in OURS.items():
        found = getattr(registries, registry, None)
        entries = getattr(found, "_obj_map", None)
        if isinstance(entries, dict):
            found._obj_map = _Entries(entries, ours)


class _RegistriesFinder(importlib.abc.MetaPathFinder):
    """Finds basicsr's module of registries, before all others, as they would find it; it is filled when it has run."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname != REGISTRIES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_fill(module: ModuleType) -> None:
                execute(module)
                _fill(module)

            spec.loader.exec_module = execute_and_fill  # type: ignore[method-assign]
        return spec


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds :data:`MODULE_NAME` after all others have failed to; its attributes are looked up in today's torchvision
    when they are asked for."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        return importlib.util.spec_from_loader(fullname, self, origin=__name__) if fullname == MODULE_NAME else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Optional[ModuleType]:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def look_up(name: str) -> object:
            if not name.startswith("__"):
                for home in _HOMES:
                    try:
                        return getattr(importlib.import_module(home), name)
                    except (ModuleNotFoundError, AttributeError):
                        continue
            raise AttributeError(f"module {MODULE_NAME!r} has no attribute {name!r}, nor has today's torchvision")

        module.__doc__ = "Stands in for a module that torchvision 0.17 removed; put here by realesrgan.models.compat."
        module.__getattr__ = look_up  # type: ignore[method-assign]


def spec_of(fullname: str) -> Optional[importlib.machinery.ModuleSpec]:
    """What stands in for :data:`MODULE_NAME`; None for any other name."""
    return _Finder().find_spec(fullname)


def install() -> None:
    """Put both finders in place. Calling it again changes nothing; it imports nothing."""
    # By name, not by class: a reloaded module has other classes of the same names.
    if all(type(finder).__module__ != __name__ for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
        sys.meta_path.insert(0, _RegistriesFinder())
    registries = sys.modules.get(REGISTRIES)
    if registries is not None:  # basicsr was first
        _fill(registries)
