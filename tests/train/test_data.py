"""Data sets, their order, and the pair pool."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Dict, List, Tuple

import cv2
import numpy as np
import pytest
from training import database, require_basicsr, tiny_options

require_basicsr()
pytestmark = pytest.mark.train

import torch  # noqa: E402

from realesrgan.data import sampling, sources  # noqa: E402
from realesrgan.data.realesrgan_dataset import RealESRGANDataset  # noqa: E402
from realesrgan.data.realesrgan_paired_dataset import RealESRGANPairedDataset  # noqa: E402
from realesrgan.errors import InputError, PictureError  # noqa: E402
from realesrgan.models.degradation import PairPool  # noqa: E402


def sharp_options(folder: Path, **changes: Any) -> Dict[str, Any]:
    return {**tiny_options()["datasets"]["train"], "dataroot_gt": str(folder), "scale": 4, "phase": "train", **changes}


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    sources.draw_folder(tmp_path / "그림 HR", 3, 48, 1, tmp_path / "LR", 4)
    return tmp_path / "그림 HR"


def test_items_hold_a_part_and_three_kernels(folder: Path) -> None:
    dataset = RealESRGANDataset(sharp_options(folder, crop_pad_size=64))
    item = dataset[sampling.Draw(1, 5)]
    assert item["gt"].shape == (3, 64, 64)  # the picture of 48 is continued
    assert item["gt"].dtype == torch.float32
    assert 0 <= item["gt"].min() < item["gt"].max() <= 1
    for name in ("kernel1", "kernel2", "sinc_kernel"):
        assert item[name].shape == (11, 11)
        assert item[name].sum().item() == pytest.approx(1, abs=1e-5)


def test_a_draw_hangs_on_its_seed_alone(folder: Path) -> None:
    dataset = RealESRGANDataset(sharp_options(folder))
    first = dataset[sampling.Draw(0, 7)]
    state = random.getstate(), np.random.get_state()[1].tolist()
    again = dataset[sampling.Draw(0, 7)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state
    other = dataset[sampling.Draw(0, 8)]
    assert all(torch.equal(first[name], again[name]) for name in ("gt", "kernel1", "kernel2", "sinc_kernel"))
    assert not torch.equal(first["kernel1"], other["kernel1"])


def names(dataset: RealESRGANPairedDataset) -> List[Tuple[str, str]]:
    """The names of the pairs, ground truth first."""
    return [(Path(pair["gt_path"]).name, Path(pair["lq_path"]).name) for pair in dataset.paths]


def test_an_lmdb_database_gives_the_same_pictures(folder: Path, tmp_path: Path) -> None:
    stored = database(tmp_path / "x.lmdb", folder)
    files = RealESRGANDataset(sharp_options(folder))
    entries = RealESRGANDataset(sharp_options(stored, io_backend={"type": "lmdb"}))
    assert entries.paths == [Path(path).stem for path in files.paths]
    loader = torch.utils.data.DataLoader(entries, sampler=[sampling.Draw(i, i) for i in range(3)], num_workers=1)
    for index, batch in enumerate(loader):  # in a worker: an lmdb environment must not be shared with one
        assert torch.equal(batch["gt"][0], files[sampling.Draw(index, index)]["gt"])
    with pytest.raises(PictureError, match="nothing"):
        entries.source.read("nothing")


def test_lists_may_tell_shapes_and_hold_spaces(folder: Path, tmp_path: Path) -> None:
    (folder / "a (1) b.png").write_bytes((folder / "0000.png").read_bytes())
    meta = tmp_path / "meta.txt"
    meta.write_text("a (1) b.png (48,48,3)\n\n0001.png\n", encoding="utf-8")
    dataset = RealESRGANDataset(sharp_options(folder, meta_info=str(meta)))
    assert [Path(path).name for path in dataset.paths] == ["a (1) b.png", "0001.png"]
    assert dataset[0]["gt"].shape == (3, 40, 40)


def test_sources_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        sources.FolderSource(tmp_path / "none")
    with pytest.raises(InputError, match="no picture"):
        sources.FolderSource(tmp_path).names()
    (tmp_path / "bad.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(PictureError, match=r"bad\.png"):
        sources.FolderSource(tmp_path).read("bad.png")
    with pytest.raises(InputError, match="disk or lmdb"):
        sources.open_source(str(tmp_path), {"io_backend": {"type": "tape"}}, "dataroot_gt")


@pytest.mark.parametrize(("depth", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_grey_alpha_and_16_bit_are_read(depth: type, full: int, tmp_path: Path) -> None:
    for name, shape in (("grey", (4, 5)), ("alpha", (4, 5, 4))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full(shape, full // 5, depth))
        picture = sources.FolderSource.read(str(tmp_path / f"{name}.png"))
        assert (picture.shape, picture.dtype) == ((4, 5, 3), np.float32)
        np.testing.assert_allclose(picture, 0.2, atol=1e-6)


def numbered_pairs(tmp_path: Path, suffix: str = "") -> Dict[str, Any]:
    """The low picture holds every fourth pixel of the high one, so that parts can be compared."""
    for number in range(2):
        high = np.random.default_rng(number).integers(0, 256, (64, 48, 3), dtype=np.uint8)
        for name, pixels in (("gt", high), ("lq", high[::4, ::4])):
            (tmp_path / name).mkdir(exist_ok=True)
            end = suffix if name == "lq" else ""
            cv2.imwrite(str(tmp_path / name / f"{number}{end}.png"), pixels)
    roots = {"dataroot_gt": str(tmp_path / "gt"), "dataroot_lq": str(tmp_path / "lq")}
    return {**roots, "scale": 4, "phase": "train", "gt_size": 32, "use_rot": False, "use_hflip": False}


def test_paired_parts_lie_at_the_same_place(tmp_path: Path) -> None:
    dataset = RealESRGANPairedDataset(numbered_pairs(tmp_path))
    seen = set()
    for seed in range(12):
        item = dataset[sampling.Draw(seed % 2, seed)]
        assert item["gt"].shape == (3, 32, 32)
        assert torch.equal(item["gt"][:, ::4, ::4], item["lq"])
        seen.add(item["lq"].numpy().tobytes())
    assert len(seen) > 6


def test_pairs_are_flipped_alike(tmp_path: Path) -> None:
    options = {**numbered_pairs(tmp_path), "gt_size": 48, "use_hflip": True, "use_rot": True}
    dataset = RealESRGANPairedDataset(options)
    phases = set()
    for seed in range(24):
        item = dataset[sampling.Draw(0, seed)]
        # A mirrored low picture holds the last of every four pixels instead of the first.
        found = [
            (row, column)
            for row in (0, 3)
            for column in (0, 3)
            if torch.equal(item["gt"][:, row::4, column::4], item["lq"])
        ]
        assert len(found) == 1
        phases.update(found)
    assert phases == {(0, 0), (0, 3), (3, 0), (3, 3)}


def test_validation_takes_whole_pictures(tmp_path: Path) -> None:
    item = RealESRGANPairedDataset({**numbered_pairs(tmp_path), "phase": "val"})[1]
    assert (item["gt"].shape, item["lq"].shape) == ((3, 64, 48), (3, 16, 12))
    assert (item["gt_path"], item["lq_path"]) == (str(tmp_path / "gt" / "1.png"), str(tmp_path / "lq" / "1.png"))


def test_partners_by_template_and_by_list(tmp_path: Path) -> None:
    options = numbered_pairs(tmp_path, suffix="_x4")
    with pytest.raises(InputError, match="no partner"):
        RealESRGANPairedDataset(options)
    assert names(RealESRGANPairedDataset({**options, "filename_tmpl": "{}_x4"}))[1] == ("1.png", "1_x4.png")
    meta = tmp_path / "pairs.txt"
    meta.write_text("1.png, 0_x4.png\n", encoding="utf-8")
    assert names(RealESRGANPairedDataset({**options, "meta_info": str(meta)})) == [("1.png", "0_x4.png")]
    wrong = RealESRGANPairedDataset({**options, "filename_tmpl": "{}_x4", "scale": 2})
    with pytest.raises(PictureError, match="do not differ by 2"):
        wrong[0]


def test_pairs_in_databases_are_those_in_folders(tmp_path: Path) -> None:
    options = numbered_pairs(tmp_path, suffix="_x4")
    for name in ("gt", "lq"):
        for picture in (tmp_path / name).iterdir():
            end = "_x4" if name == "lq" else ""
            picture.rename(picture.with_name(picture.name.replace(f"{end}.png", f".v2{end}.png")))
    options["filename_tmpl"] = "{}_x4"
    files = RealESRGANPairedDataset(options)
    roots = {f"dataroot_{name}": str(database(tmp_path / f"{name}.lmdb", tmp_path / name)) for name in ("gt", "lq")}
    entries = RealESRGANPairedDataset({**options, **roots, "io_backend": {"type": "lmdb"}})
    assert names(entries) == [("0.v2", "0.v2_x4"), ("1.v2", "1.v2_x4")]
    for index in range(2):
        one, other = (dataset[sampling.Draw(index, 5)] for dataset in (files, entries))
        assert torch.equal(one["gt"], other["gt"]) and torch.equal(one["lq"], other["lq"])


def order(sampler: sampling.OrderedSampler) -> List[Any]:
    return [(int(draw), draw.seed) for draw in sampler]


def test_every_picture_is_drawn_as_often_as_the_others() -> None:
    whole = order(sampling.OrderedSampler(7, seed=3, ratio=4))
    assert sorted(index for index, _ in whole) == sorted(list(range(7)) * 4)
    assert len({seed for _, seed in whole}) == 28
    halves = [order(sampling.OrderedSampler(7, 3, world_size=2, rank=rank, ratio=4)) for rank in range(2)]
    assert [draw for both in zip(*halves) for draw in both] == whole


def test_an_epoch_starts_anywhere() -> None:
    sampler = sampling.OrderedSampler(9, seed=1, world_size=2, rank=1, ratio=2)
    sampler.set_place(4)
    whole = order(sampler)
    sampler.set_place(4, 5)
    assert order(sampler) == whole[5:]
    assert len(sampler) == len(whole) - 5
    sampler.set_place(5)
    assert order(sampler) != whole


def test_the_pool_keeps_pairs_together_and_loses_none() -> None:
    torch.manual_seed(0)
    pool, given, taken = PairPool(6), [], []
    for step in range(10):
        lq = torch.arange(2.0).view(2, 1, 1, 1) + 2 * step
        one, other = pool.exchange(lq, lq * 10)
        assert torch.equal(one * 10, other)
        given += lq.flatten().tolist()
        if step >= 3:
            taken += one.flatten().tolist()
    inside = pool.lq.flatten().tolist()
    assert len(set(taken)) == len(taken)
    assert sorted(taken + inside) == given
    assert set(taken) != set(given[: len(taken)])  # in another order than they came


def test_a_saved_pool_goes_on_and_takes_a_byte_for_a_level() -> None:
    levels = torch.randint(0, 256, (4, 3, 8, 8)) / torch.tensor(255.0)
    pool = PairPool(4)
    pool.exchange(levels, levels + 0.001)
    state = pool.state_dict()
    assert (state["lq"].dtype, state["gt"].dtype) == (torch.uint8, torch.float32)
    other = PairPool(4)
    other.load_state_dict(state, torch.device("cpu"))
    assert torch.equal(other.lq, levels)
    assert torch.equal(other.gt, levels + 0.001)
    with pytest.raises(InputError, match="queue_size"):
        PairPool(5).load_state_dict(state, torch.device("cpu"))
    with pytest.raises(InputError, match="queue_size"):
        PairPool(3).exchange(levels, levels)
