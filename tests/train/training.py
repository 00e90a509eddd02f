"""What the tests of the training share: the one condition under which they are skipped, and a tiny training."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Dict, List

import pytest

ROOT = Path(__file__).resolve().parents[2]


def require_basicsr() -> None:
    """Import basicsr; skip the calling module where it is not installed. Where it is, it has to work."""
    from realesrgan.models.compat import import_basicsr

    if importlib.util.find_spec("basicsr") is None:
        pytest.skip("training needs basicsr, which is not installed (requirements-train.txt)", allow_module_level=True)
    import_basicsr()


def tiny_options(model: str = "RealESRGANModel", **train: Any) -> Dict[str, Any]:
    """options/smoke.yml made so small that a step takes some milliseconds."""
    from realesrgan.models import options as reader

    options = reader.load(ROOT / "options" / "smoke.yml")
    options.update(model_type=model, gt_size=32, queue_size=6, name="tiny")
    options["network_g"].update(num_feat=4, num_grow_ch=4)
    options["network_d"].update(num_feat=4)
    options["datasets"]["train"].update(
        crop_pad_size=40, batch_size_per_gpu=2, dataset_enlarge_ratio=2, textures={"count": 5, "size": 48, "seed": 1}
    )
    options["datasets"]["val"]["textures"] = {"count": 1, "size": 48, "seed": 9}
    options["train"].update(train)
    options["logger"].update(print_freq=1, save_checkpoint_freq=1000)
    options["val"]["val_freq"] = 1000
    for name in ("train", "val"):
        for key in ("dataroot_gt", "dataroot_lq"):
            value = options["datasets"][name].get(key)
            if value:
                options["datasets"][name][key] = value.replace("experiments/", "")
    if model == "RealESRNetModel":
        for key in ("network_d", "l1_gt_usm", "percep_gt_usm", "gan_gt_usm"):
            del options[key]
        for key in ("optim_d", "gan_opt", "net_d_iters", "net_d_init_iters"):
            del options["train"][key]
        options["gt_usm"] = True
    return options


def database(path: Path, folder: Path) -> Path:
    """An lmdb database, as basicsr's tools write it, of the PNGs in a folder."""
    import lmdb

    path.mkdir()
    with lmdb.open(str(path), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for picture in sorted(folder.glob("*.png")):
            transaction.put(picture.stem.encode(), picture.read_bytes())
    lines = [f"{picture.name} (48,48,3) 1" for picture in sorted(folder.glob("*.png"))]
    (path / "meta_info.txt").write_text("\n".join(lines), encoding="utf-8")
    return path


def metrics(experiment: Path) -> List[Dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (experiment / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
