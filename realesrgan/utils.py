"""Names that older scripts import: RealESRGANer, PrefetchReader and IOConsumer from here, and modules by old paths.

New code uses :class:`realesrgan.RealESRGANer` and :func:`realesrgan.batch.run.run`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import queue
import sys
import threading
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any, Iterator, List, Optional, Sequence, Union

from . import files
from .errors import PictureError

if TYPE_CHECKING:
    import numpy as np

    from .inference.upsampler import RealESRGANer

__all__ = ["IOConsumer", "PrefetchReader", "RealESRGANer", "install_old_names"]

_log = logging.getLogger(__name__)

PathLike = Union[str, "os.PathLike[str]"]


class PrefetchReader(threading.Thread):
    """Reads pictures ahead in a thread; iterate it for the pixels, in the order of the list.

    A picture that cannot be read raises its :class:`PictureError` when its turn comes; ``next`` then goes on with
    the one after it.

    Args:
        img_list: Paths.
        num_prefetch_queue: How many pictures may wait.
    """

    def __init__(self, img_list: Sequence[PathLike], num_prefetch_queue: int) -> None:
        super().__init__(name="prefetch-reader", daemon=True)
        self.img_list = img_list
        self.que: queue.Queue[Union[np.ndarray, PictureError, None]] = queue.Queue(max(1, num_prefetch_queue))

    def run(self) -> None:
        for path in self.img_list:
            try:
                self.que.put(files.read(path).pixels)
            except PictureError as error:
                self.que.put(error)
        self.que.put(None)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        if self.ident is None:
            self.start()
        item = self.que.get()
        if item is None:
            self.que.put(None)  # whoever asks again gets the same answer, and does not wait for ever
            raise StopIteration
        if isinstance(item, PictureError):
            raise item
        return item


class IOConsumer(threading.Thread):
    """Writes pictures that come through a queue, until the message ``'quit'`` comes.

    A message is a mapping with ``output`` (pixels as :func:`realesrgan.files.write` accepts them) and ``save_path``.

    Args:
        opt: Taken for the sake of older scripts; not used.
        que: The queue.
        qid: A number for the log.

    Attributes:
        errors: What could not be written. Each is logged too, and ends nothing.
    """

    def __init__(self, opt: Any, que: queue.Queue[Any], qid: int) -> None:
        super().__init__(name=f"io-consumer-{qid}")
        self.opt = opt
        self.qid = qid
        self.errors: List[PictureError] = []
        self._queue = que

    def run(self) -> None:
        while True:
            message = self._queue.get()
            if isinstance(message, str) and message == "quit":
                _log.debug("writer %s is done", self.qid)
                return
            try:
                files.write(message["save_path"], message["output"])
            except PictureError as error:
                self.errors.append(error)
                _log.error("%s", error)


def __getattr__(name: str) -> Any:
    # RealESRGANer brings torch along; reading and writing do not need it.
    if name != "RealESRGANer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .inference.upsampler import RealESRGANer as value

    globals()[name] = value
    return value


# Version 0.1 had its modules flat in one folder. Package -> modules that are in it now, as "old_name=new_name" where
# the name changed too; "tools:tools.doctor" tells that the old path was below realesrgan.tools.
_MOVED = {
    "files": (
        "alpha atomic decoder_settings=reading decoders=reading encoders=writing formats=reading listing metadata "
        "naming packing=writing picture pipeline=threads png_file=png reader=reading tiff_file=tiff writer=writing"
    ),
    "inference": (
        "assemble=upsampler child engine faces image=arrays memory=tiling network pace=engine planes=cpu_rrdb "
        "precision profile=tuned stages steps=upsampler tiling transfer=network upsampler winograd=cpu_rrdb "
        "worker=isolated worker_child=isolated"
    ),
    "video:video": (
        "problems=pyav inputs=tasks folder=source remarks=run rotation=join segments=encoding ledger=journal"
    ),
    "batch": "batch_plan=plan batch_steps=steps batch_types=run launcher=torchrun monitor report",
    "weights": "checkpoints convert download fetching=loading ncnn_weights=ncnn places=folders transport=download zoo",
    "inference.faces": "face_checks=networks face_networks=networks face_weights=weights",
    "cli": (
        "cli_console=console cli_options=options cli_run=run cli_show=show messages messages_faces=ko "
        "messages_pictures=ko messages_table=ko messages_video=ko messages_weights=ko video_cli=video "
        "video_options=options"
    ),
    "models": "compat",
    "backends": "windows",
    "archs:archs": "limits=structure",
    "data:data": (
        "kernels=realesrgan_dataset paired_dataset=realesrgan_paired_dataset patches=sampling textures=sources"
    ),
    "models:models": (
        "measures=base perceptual=base pool=degradation registration=compat sharpen=degradation state=base"
    ),
    "tools:tools.doctor": (
        "doctor_text=checks doctor_text_devices=checks facts checks private=command probe reference"
    ),
    "tools:tools.tune": "measure",
    "tools:tools.stability": "drift faults long_run repeated rounds=long_run vitals=drift",
    "tools:tools": (
        "benchmark_cells=benchmark benchmark_options=benchmark benchmark_output=benchmark_table "
        "benchmark_types=benchmark_table corpus=made_pictures textured=made_pictures"
    ),
}


def _new_path(old: str) -> Optional[str]:
    """Where a module of an old path is now, relative to the package; None for any other path."""
    if old == "version":
        return ""  # the package itself has __version__
    for place, modules in _MOVED.items():
        before, _, package = place.rpartition(":")
        for entry in modules.split():
            name, _, renamed = entry.partition("=")
            if old == (f"{before}.{name}" if before else name):
                return f"{package}.{renamed or name}"
    return None


class _OldNames(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules by the paths that they had in version 0.1, and warns."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        package, _, old = fullname.partition(".")
        new = _new_path(old) if package == __package__ else None
        if new is None:
            return None
        new = f"{package}.{new}".rstrip(".")
        message = f"{fullname} is {new} since version 0.2; the old path will go in 0.4."
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return importlib.machinery.ModuleSpec(fullname, self, loader_state=new)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.loader_state)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It has been executed under its own name; the import system has just given it the old path's spec.
        module.__spec__ = getattr(module.__spec__, "loader_state", module.__spec__)

    def get_code(self, fullname: str) -> Any:
        """For ``python -m``."""
        found = importlib.util.find_spec(f"{__package__}.{_new_path(fullname.partition('.')[2])}")
        loader: Any = found.loader if found else None
        return loader.get_code(found.name) if found else None


def install_old_names() -> None:
    """Let modules be imported by the paths of version 0.1. Calling it again changes nothing."""
    if not any(type(finder).__name__ == _OldNames.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_OldNames())
