"""The files of the face networks: where they lie, whether they may be used, and what to do where they are missing.

They are looked for in the same folders as the upscaling weights and read by the same code. No SHA-256 of them is known
from two sources that do not depend on each other, so they are used only by those who say that they trust them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple

from ...errors import InputError, Lines, WeightsError, notice, one_line
from ...weights import checkpoints, folders
from ...weights.download import Progress, download, sha256_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DETECTION", "FILES", "PARSING", "RESTORERS", "FaceFile", "FaceWeights", "load"]

logger = logging.getLogger(__name__)

_GFPGAN = "https://github.com/TencentARC/GFPGAN/releases/download/"
_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/"


@dataclass(frozen=True)
class FaceFile:
    """One file that face enhancement needs.

    Attributes:
        name: Its name, by which gfpgan and facexlib know it, without ``.pth``.
        url: Where its authors publish it.
        megabytes: Its size, computed from the network's parameters.
        sha256: Recorded only if two independent public sources agree on it; empty otherwise.
    """

    name: str
    url: str
    megabytes: int
    sha256: str = ""

    @property
    def file_name(self) -> str:
        return f"{self.name}.pth"


RESTORERS = ("GFPGANv1.3", "GFPGANv1.4")
"""The networks that restore a face, any of which will do; the first is the original program's."""
DETECTION = "detection_Resnet50_Final"
PARSING = "parsing_parsenet"

FILES: Mapping[str, FaceFile] = MappingProxyType(
    {
        file.name: file
        for file in (
            FaceFile("GFPGANv1.3", _GFPGAN + "v1.3.0/GFPGANv1.3.pth", 349),
            FaceFile("GFPGANv1.4", _GFPGAN + "v1.3.0/GFPGANv1.4.pth", 349),
            FaceFile(DETECTION, _FACEXLIB + "v0.1.0/detection_Resnet50_Final.pth", 109),
            FaceFile(PARSING, _FACEXLIB + "v0.2.2/parsing_parsenet.pth", 85),
        )
    }
)


@dataclass(frozen=True)
class FaceWeights:
    """Parameters of the three networks, float32 on the CPU.

    Attributes:
        restorer: Which of :data:`RESTORERS` it is.
        states: State dicts by the name of their file.
        paths: Where they were read from, likewise.
        sha256: Of the three files, hexadecimal, with a plus between them.
    """

    restorer: str
    states: Dict[str, Dict[str, Tensor]]
    paths: Dict[str, Path]
    sha256: str = ""


def load(model: Optional[str] = None, *, trust: bool = False, progress: Optional[Progress] = None) -> FaceWeights:
    """Find, fetch, verify and read the files.

    Args:
        model: One of :data:`RESTORERS`; None uses the first that is available.
        trust: Use files whose SHA-256 is not recorded here, and download those that are missing.
        progress: Called while downloading, with the bytes done and in all (0 if not known).

    Raises:
        InputError: No such model.
        WeightsError: Files are missing or not trusted (the message names all of them and the way out), cannot be
            downloaded, or are not checkpoints.
    """
    if model is not None and model not in RESTORERS:
        raise InputError(
            f"The face model is one of {', '.join(RESTORERS)}, not {model!r}.",
            code="faces.model",
            model=str(model),
            known=RESTORERS,
        )
    candidates = RESTORERS if model is None else (model,)
    restorer = next((name for name in candidates if folders.find(name) is not None), candidates[0])
    files = [FILES[name] for name in (restorer, DETECTION, PARSING)]
    found = {file.name: folders.find(file.name) for file in files}
    missing = [file for file in files if found[file.name] is None]
    if any(not (trust or file.sha256) for file in missing):
        raise _missing(missing, len(candidates) > 1)
    paths = {name: path for name, path in found.items() if path is not None}
    doubtful = [(file, paths[file.name]) for file in files if file.name in paths and not (trust or file.sha256)]
    if doubtful:
        raise _untrusted(doubtful)
    for file in missing:
        paths[file.name] = _fetch(file, missing, len(candidates) > 1, progress)
    states = {}
    hashes = []
    for file in files:
        # trust: the SHA-256 was compared, or the user vouches for the file. No other check is lifted by it.
        path = paths[file.name]
        sha256 = file.sha256 if path.suffix.lower() == ".pth" else ""
        content = checkpoints.read(path, trust=True, sha256=sha256)
        states[file.name] = content.state_dict
        hashes.append(content.sha256)
    used = tuple(map(str, paths.values()))
    notice(
        logger,
        "faces.weights_used",
        f"Face weights: {restorer}, own files: {', '.join(used)}",
        level=logging.INFO,
        name=restorer,
        paths=used,
    )
    return FaceWeights(restorer, states, paths, "+".join(hashes))


def _fetch(file: FaceFile, missing: Sequence[FaceFile], any_restorer: bool, progress: Optional[Progress]) -> Path:
    try:
        target = folders.download_folder() / file.file_name

        def check(data: bytes, path: Path) -> None:
            checkpoints.parse(data, path, trust=True)

        # A hash is recorded for none of them: what is kept is at least a checkpoint that runs no code.
        return download(file.url, target, sha256=file.sha256, check=check, progress=progress, patient=False)
    except WeightsError as error:
        raise _missing(missing, any_restorer, error) from error


def _missing(files: Sequence[FaceFile], any_restorer: bool, error: Optional[WeightsError] = None) -> WeightsError:
    lines = []
    for file in files:
        other = next((name for name in RESTORERS if name != file.name), "")
        also = f" (or {other}.pth)" if any_restorer and file.name in RESTORERS else ""
        lines.append(f"  {file.file_name}{also}, {file.megabytes} MB: {file.url}")
    listing = Lines(lines)
    searched = Lines(f"  {folder}" for folder in folders.search_folders())
    if error is not None:
        way = (
            f"Downloading failed: {one_line(error)}. Fetch them elsewhere and put them into one of these folders:\n"
            f"{searched}"
        )
    else:
        way = (
            f"Put them into one of these folders:\n{searched}\nand run with --trust-weights (trust_weights=True): no "
            "SHA-256 of these files is recorded here from two independent sources, so that you must vouch for them. "
            "With --trust-weights, missing ones are also downloaded from the addresses above."
        )
    return WeightsError(
        f"--face_enhance needs weights that are not here:\n{listing}\n{way}",
        code="faces.download" if error else "faces.weights",
        files=tuple(file.file_name for file in files),
        urls=tuple(file.url for file in files),
        searched=folders.listed(),
        listing=listing,
        folders=searched,
        reason=error or "",
    )


def _untrusted(doubtful: Sequence[Tuple[FaceFile, Path]]) -> WeightsError:
    lines: List[str] = []
    for file, path in doubtful:
        lines.append(f"  {path}: SHA-256 {_sha256(path)}, to be compared with {file.url}")
    listing = Lines(lines)
    return WeightsError(
        f"These face weights cannot be verified, and are not used:\n{listing}\nNo SHA-256 of them is recorded here "
        "from two independent sources. If you trust where you have them from, run with --trust-weights "
        "(trust_weights=True).",
        code="faces.untrusted",
        files=tuple(str(path) for _, path in doubtful),
        listing=listing,
    )


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        return f"unknown ({one_line(error)})"
