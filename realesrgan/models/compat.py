"""Lets basicsr and gfpgan import beside a torchvision that no longer has what they ask for, and know our classes.

basicsr 1.4.2 imports ``torchvision.transforms.functional_tensor``, which torchvision 0.17 removed; its functions
live on in ``torchvision.transforms._functional_tensor``. :func:`install` puts a finder at the *end* of
``sys.meta_path``: it is asked only after every other finder has failed, so a torchvision that still has the module is
never shadowed, and nothing is imported until somebody imports that very name.

As soon as basicsr is imported, its registries know this package's networks, data sets and models as well, as they do
where the original is installed: a class is imported when it is first asked for by its name.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import MappingProxyType, ModuleType
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

__all__ = ["MODULE_NAME", "OURS", "install", "spec_of", "uninstall"]

MODULE_NAME = "torchvision.transforms.functional_tensor"
# Asked in this order. The first is where the functions went, but its name says that it is private; the second is public
# and contains those that basicsr needs.
_HOMES = ("torchvision.transforms._functional_tensor", "torchvision.transforms.functional")

REGISTRIES = "basicsr.utils.registry"
#: Registry of basicsr -> name of a class -> module of this package that has it. RRDBNet stays basicsr's own there.
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


class _Entries(Dict[str, Any]):
    """A registry's entries, among which ours are imported when they are asked for."""

    def __init__(self, present: Mapping[str, Any], ours: Mapping[str, str]) -> None:
        super().__init__(present)
        self._ours = {name: module for name, module in ours.items() if name not in present}

    def _known(self, name: object) -> bool:
        # While basicsr is being imported it registers classes of its own, and must not be told that they are there.
        spec = getattr(sys.modules.get("basicsr"), "__spec__", None)
        return name in self._ours and not getattr(spec, "_initializing", False)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or self._known(name)

    def __missing__(self, name: str) -> Any:
        if not self._known(name):
            raise KeyError(name)
        self[name] = getattr(importlib.import_module(f"{__package__.partition('.')[0]}.{self._ours[name]}"), name)
        return self[name]

    def get(self, name: str, default: Any = None) -> Any:  # type: ignore[override]
        return self[name] if name in self else default  # noqa: SIM401 - this is what it is made of

    def _import_all(self) -> None:
        for name in self._ours:
            self.get(name)

    def items(self) -> Any:
        self._import_all()
        return super().items()

    def keys(self) -> Any:
        self._import_all()
        return super().keys()

    def values(self) -> Any:
        self._import_all()
        return super().values()

    def __iter__(self) -> Iterator[str]:
        self._import_all()
        return super().__iter__()


def _fill(module: ModuleType) -> None:
    """Let basicsr's registries know our classes."""
    for registry, ours in OURS.items():
        found = getattr(module, registry, None)
        entries = getattr(found, "_obj_map", None)
        if isinstance(entries, dict) and not isinstance(entries, _Entries):
            found._obj_map = _Entries(entries, ours)


class _RegistriesLoader(importlib.abc.Loader):
    """basicsr's own module of registries, filled when it has been executed."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Optional[ModuleType]:
        result: Optional[ModuleType] = self._inner.create_module(spec)
        return result

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        _fill(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _RegistriesFinder(importlib.abc.MetaPathFinder):
    """Finds exactly one module, before all others, as they would find it."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname != REGISTRIES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegistriesLoader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Makes a module whose attributes are looked up in today's torchvision when they are asked for."""

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


class _Finder(importlib.abc.MetaPathFinder):
    """Finds exactly one module, after all others have failed to."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        return spec_of(fullname)


def spec_of(fullname: str) -> Optional[importlib.machinery.ModuleSpec]:
    """What stands in for :data:`MODULE_NAME`; None for any other name."""
    return importlib.util.spec_from_loader(fullname, _Loader(), origin=__name__) if fullname == MODULE_NAME else None


def install() -> None:
    """Put both finders in place. Calling it again changes nothing; it imports nothing."""
    if not any(_is_ours(finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
        sys.meta_path.insert(0, _RegistriesFinder())
    registries = sys.modules.get(REGISTRIES)
    if registries is not None:  # basicsr was first
        _fill(registries)


def uninstall() -> None:
    """Take both out again, for the tests that ask whether they are still needed."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not _is_ours(finder)]
    module = sys.modules.get(MODULE_NAME)
    if module is not None and isinstance(getattr(module, "__loader__", None), _Loader):
        del sys.modules[MODULE_NAME]


def _is_ours(finder: object) -> bool:
    # By name, not by class: a reloaded module has a second _Finder class.
    return type(finder).__module__ == __name__ and type(finder).__name__ in (
        _Finder.__name__,
        _RegistriesFinder.__name__,
    )
