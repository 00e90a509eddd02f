"""What scripts and tests for the original do with its data sets and models, done with ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import cv2
import numpy as np
import pytest
from training import ROOT, database, require_basicsr, tiny_options

require_basicsr()
pytestmark = pytest.mark.train

import torch  # noqa: E402

from realesrgan.data import sources  # noqa: E402
from realesrgan.data.realesrgan_dataset import RealESRGANDataset  # noqa: E402
from realesrgan.data.realesrgan_paired_dataset import RealESRGANPairedDataset  # noqa: E402

KINDS = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]


@pytest.fixture()
def pictures(here: Path) -> Path:
    """Two pictures and their small partners, as files, in databases, and in a list."""
    sources.draw_folder(here / "data" / "gt", 2, 64, 3, here / "data" / "lq", 4)
    for kind in ("gt", "lq"):
        database(here / "data" / f"{kind}.lmdb", here / "data" / kind)
    (here / "data" / "list.txt").write_text("0000.png\n0001.png\n", encoding="utf-8")
    return here


def sharp(**changes: Any) -> Dict[str, Any]:
    kernels = {
        "blur_kernel_size": 21,
        "kernel_list": KINDS,
        "kernel_prob": [1, 1, 60, 1, 1, 1],
        "sinc_prob": 1,
        "blur_sigma": [0.2, 3],
        "betag_range": [0.5, 4],
        "betap_range": [1, 2],
    }
    return {
        "name": "Demo",
        "type": "RealESRGANDataset",
        "dataroot_gt": "data/gt",
        "meta_info": "data/list.txt",
        "io_backend": {"type": "disk"},
        **kernels,
        **{f"{key}2": value for key, value in kernels.items()},
        "final_sinc_prob": 1,
        "gt_size": 128,
        "use_hflip": True,
        "use_rot": False,
        **changes,
    }


@pytest.mark.parametrize("backend", ["disk", "lmdb"])
@pytest.mark.parametrize("sinc", [0, 1])
def test_the_data_set_of_sharp_pictures(pictures: Path, backend: str, sinc: int) -> None:
    root = "data/gt" if backend == "disk" else "data/gt.lmdb"
    options = sharp(dataroot_gt=root, io_backend={"type": backend}, sinc_prob=sinc, sinc_prob2=sinc)
    dataset = RealESRGANDataset(options)
    assert dataset.io_backend_opt["type"] == backend
    assert len(dataset) == len(dataset.paths) == 2
    assert dataset.kernel_list == KINDS and dataset.betag_range2 == [0.5, 4]
    item = dataset[1]
    assert {"gt", "kernel1", "kernel2", "sinc_kernel", "gt_path"} <= set(item)
    assert item["gt"].shape == (3, 400, 400)
    assert all(item[name].shape == (21, 21) for name in ("kernel1", "kernel2", "sinc_kernel"))
    assert item["gt_path"] == (str(Path("data/gt/0001.png")) if backend == "disk" else "0001")


def test_a_script_that_changes_the_kernels(pictures: Path) -> None:
    dataset = RealESRGANDataset(sharp(sinc_prob=0, sinc_prob2=0, final_sinc_prob=0))
    dataset.kernel_list, dataset.kernel_prob, dataset.blur_sigma = ["iso"], [1.0], [0.2, 0.2]
    kernel = dataset[0]["kernel1"]
    assert float(kernel.max()) > 0.99, "a Gaussian that narrow is nearly one pixel"


def test_a_database_that_is_none(pictures: Path) -> None:
    with pytest.raises(ValueError, match="lmdb"):
        RealESRGANDataset(sharp(io_backend={"type": "lmdb"}))


def paired(**changes: Any) -> Dict[str, Any]:
    return {
        "name": "Demo",
        "type": "RealESRGANPairedDataset",
        "scale": 4,
        "dataroot_gt": "data/gt",
        "dataroot_lq": "data/lq",
        "meta_info": "data/list.txt",
        "io_backend": {"type": "disk"},
        "phase": "train",
        "gt_size": 32,
        "use_hflip": True,
        "use_rot": False,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        **changes,
    }


@pytest.mark.parametrize("backend", ["disk", "lmdb"])
@pytest.mark.parametrize("listed", [True, False])
def test_the_data_set_of_pairs(pictures: Path, backend: str, listed: bool) -> None:
    ending = "" if backend == "disk" else ".lmdb"
    options = paired(io_backend={"type": backend}, dataroot_gt=f"data/gt{ending}", dataroot_lq=f"data/lq{ending}")
    options["meta_info"] = options["meta_info"] if listed else None
    dataset = RealESRGANPairedDataset(options)
    assert dataset.io_backend_opt["type"] == backend and dataset.mean == dataset.std == [0.5] * 3
    assert len(dataset) == 2
    item = dataset[0]
    assert (item["gt"].shape, item["lq"].shape) == ((3, 32, 32), (3, 8, 8))
    assert float(item["gt"].min()) < 0
    expected = ("data/gt/0000.png", "data/lq/0000.png") if backend == "disk" else ("0000", "0000")
    assert (item["gt_path"], item["lq_path"]) == tuple(map(str, map(Path, expected)))
    whole = RealESRGANPairedDataset({**options, "phase": "val", "mean": None, "std": None})[1]
    assert (whole["gt"].shape, whole["lq"].shape) == ((3, 64, 64), (3, 16, 16))
    assert float(whole["gt"].min()) >= 0


def model_options(here: Path, kind: str) -> Dict[str, Any]:
    """Options as a test of the original hands them to a model: without the loop that fills in the rest."""
    options = tiny_options(kind)
    options.update(is_train=True, dist=False, num_gpu=0, queue_size=1, scale=4)
    options["path"] = {"pretrain_network_g": None, "strict_load_g": True, "visualization": str(here)}
    options["val"]["metrics"] = {"psnr": {"type": "calculate_psnr", "crop_border": 4, "test_y_channel": False}}
    return options


class Pairs(torch.utils.data.Dataset):
    """A data set of a test's own."""

    def __init__(self) -> None:
        self.opt = {"name": "Test"}

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Dict[str, Any]:
        return {"lq": torch.rand(3, 8, 8), "gt": torch.rand(3, 32, 32), "lq_path": f"{index}.png", "gt_path": "x.png"}


@pytest.mark.parametrize("kind", ["RealESRNetModel", "RealESRGANModel"])
def test_the_models(here: Path, kind: str) -> None:
    from basicsr.archs.rrdbnet_arch import RRDBNet
    from basicsr.losses.basic_loss import L1Loss
    from basicsr.models import build_model
    from basicsr.utils.registry import ARCH_REGISTRY

    options = model_options(here, kind)
    options["model_type"] = kind
    model = build_model(options)
    assert type(model).__name__ == kind
    assert isinstance(model.net_g, (RRDBNet, ARCH_REGISTRY.get("RRDBNet")))
    assert isinstance(model.cri_pix, L1Loss) and isinstance(model.optimizers[0], torch.optim.Adam)
    if kind == "RealESRGANModel":
        assert type(model.net_d).__module__ == "realesrgan.archs.discriminator_arch"
    kernels = {name: torch.rand(1, 5, 5) for name in ("kernel1", "kernel2", "sinc_kernel")}
    data = {"gt": torch.rand(1, 3, 64, 64), **kernels}
    model.opt["gt_size"] = 32
    for _ in range(2):  # the second batch takes the first one's out of the queue
        model.feed_data(data)
        assert (model.lq.shape, model.gt.shape) == ((1, 3, 8, 8), (1, 3, 32, 32))
    assert model.queue_ptr == model.queue_size == 1
    assert model.queue_lr.shape == (1, 3, 8, 8) and model.queue_gt.shape == (1, 3, 32, 32)
    squeezed = model.jpeger(torch.rand(1, 3, 16, 16), quality=torch.tensor([20.0]))
    assert squeezed.shape == (1, 3, 16, 16)
    for key in ("gaussian_noise_prob", "gray_noise_prob", "second_blur_prob", "gaussian_noise_prob2"):
        model.opt[key] = 0
    model.feed_data(data)
    assert model.degradation.first.gaussian_noise_prob == 0 and model.degradation.second.blur_prob == 0
    model.optimize_parameters(1)
    assert model.output.shape == (1, 3, 32, 32)
    expected = {"l_pix"} if kind == "RealESRNetModel" else {"l_g_pix", "l_g_gan", "l_d_real", "out_d_fake"}
    assert expected <= set(model.log_dict)

    loader = torch.utils.data.DataLoader(Pairs(), batch_size=1)
    assert model.is_train is True
    model.nondist_validation(loader, 1, None, save_img=True)
    assert model.is_train is True and isinstance(model.metric_results["psnr"], float)
    assert list(here.rglob("*.png"))


@pytest.mark.parametrize(
    "imports",
    [
        "import realesrgan\nfrom basicsr.utils.registry import ARCH_REGISTRY as A, DATASET_REGISTRY as D\n"
        "from basicsr.utils.registry import MODEL_REGISTRY as M",
        "import realesrgan, basicsr\nfrom basicsr.utils.registry import ARCH_REGISTRY as A, DATASET_REGISTRY as D\n"
        "from basicsr.utils.registry import MODEL_REGISTRY as M",
    ],
)
def test_the_registries_know_our_classes(imports: str) -> None:
    code = f"""
import sys
{imports}
heavy = [name for name in sys.modules if name.startswith("realesrgan.archs.disc")]
assert not heavy, heavy
assert A.get("UNetDiscriminatorSN").__module__ == "realesrgan.archs.discriminator_arch"
assert A.get("SRVGGNetCompact").__module__ == "realesrgan.archs.srvgg_arch"
assert A.get("RRDBNet").__module__ == "basicsr.archs.rrdbnet_arch"
assert D.get("RealESRGANPairedDataset").__module__ == "realesrgan.data.realesrgan_paired_dataset"
assert M.get("RealESRGANModel").__module__ == "realesrgan.models.realesrgan_model"
assert "RealESRNetModel" in M and "RealESRNetModel" in dict(iter(M))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_basicsr_first_then_our_package(tmp_path: Path) -> None:
    """In a checkout, where nothing runs at Python's start, the stand-in comes with the first import of ours."""
    code = (
        "from realesrgan.models import startup\n"
        "import basicsr\nfrom basicsr.utils.registry import ARCH_REGISTRY\nimport realesrgan\n"
        "print(ARCH_REGISTRY.get('UNetDiscriminatorSN').__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "realesrgan.archs.discriminator_arch", done.stderr


def test_pictures_are_read_as_they_are(pictures: Path) -> None:
    item = RealESRGANPairedDataset(paired(phase="val", mean=None, std=None))[0]
    stored = cv2.imread(str(pictures / "data" / "gt" / "0000.png"))[:, :, ::-1].astype(np.float32) / 255
    assert np.array_equal(item["gt"].numpy().transpose(1, 2, 0), stored)
