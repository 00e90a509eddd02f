"""Lets basicsr and gfpgan import beside a torchvision that no longer has what they ask for.

basicsr 1.4.2 imports ``torchvision.transforms.functional_tensor``, which torchvision 0.17 removed; its functions
live on in ``torchvision.transforms._functional_tensor``. :func:`install` puts a finder at the *end* of
``sys.meta_path``: it is asked only after every other finder has failed, so a torchvision that still has the module is
never shadowed, and nothing is imported until somebody imports that very name.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Optional, Sequence

__all__ = ["MODULE_NAME", "install", "uninstall"]

MODULE_NAME = "torchvision.transforms.functional_tensor"
# Asked in this order. The first is where the functions went, but its name says that it is private; the second is public
# and contains those that basicsr needs.
_HOMES = ("torchvision.transforms._functional_tensor", "torchvision.transforms.functional")


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
        if fullname != MODULE_NAME:
            return None
        return importlib.util.spec_from_loader(fullname, _Loader(), origin=__name__)


def install() -> None:
    """Put the stand-in in place. Calling it again changes nothing; it imports nothing."""
    if not any(_is_ours(finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def uninstall() -> None:
    """Take the stand-in out again, for the tests that ask whether it is still needed."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not _is_ours(finder)]
    module = sys.modules.get(MODULE_NAME)
    if module is not None and isinstance(getattr(module, "__loader__", None), _Loader):
        del sys.modules[MODULE_NAME]


def _is_ours(finder: object) -> bool:
    # By name, not by class: a reloaded module has a second _Finder class.
    return type(finder).__module__ == __name__ and type(finder).__name__ == _Finder.__name__
