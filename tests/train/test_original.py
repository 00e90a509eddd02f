"""What users of the original bring along runs as it is: a script, and an option file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from training import ROOT, metrics, require_basicsr

require_basicsr()
pytestmark = pytest.mark.train

import torch  # noqa: E402

from realesrgan.data import sources  # noqa: E402
from realesrgan.train import main  # noqa: E402
from realesrgan.weights.checkpoints import torch_is_breakable  # noqa: E402

# As scripts for the original are written; the first line is the one that has to be added.
SCRIPT = """
import realesrgan
import cv2
from basicsr.archs.rrdbnet_arch import RRDBNet
from realesrgan import RealESRGANer
from realesrgan.archs.srvgg_arch import SRVGGNetCompact

model = RRDBNet(num_in_ch=3, num_out_ch=3, num_feat=8, num_block=1, num_grow_ch=4, scale=4)
upsampler = RealESRGANer(
    scale=4, model_path='net.pth', dni_weight=None, model=model, tile=0, tile_pad=10, pre_pad=0, half=False,
    gpu_id=None)
img = cv2.imread('in.png', cv2.IMREAD_UNCHANGED)
output, img_mode = upsampler.enhance(img, outscale=4)
cv2.imwrite('out.png', output)

assert img_mode == 'RGB'
assert type(upsampler.model).__module__ == 'basicsr.archs.rrdbnet_arch', type(upsampler.model)
"""


def test_a_script_with_basicsrs_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch_is_breakable():
        pytest.skip("on this torch one's own checkpoint needs trust_weights=True, which no such script says")
    from basicsr.archs.rrdbnet_arch import RRDBNet

    torch.manual_seed(0)
    network = RRDBNet(num_in_ch=3, num_out_ch=3, num_feat=8, num_block=1, num_grow_ch=4, scale=4).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        network.conv_last.weight.mul_(0.3)
        network.conv_last.bias.fill_(0.5)
    torch.save({"params_ema": network.state_dict()}, tmp_path / "net.pth")
    picture = sources.draw(4, 40)
    cv2.imwrite(str(tmp_path / "in.png"), picture)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("REALESRGAN_DEVICE", "cpu")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=150
    )
    assert done.returncode == 0, done.stderr
    x = torch.from_numpy(picture[:, :, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = network(x)[0].clamp(0, 1).permute(1, 2, 0).numpy()[:, :, ::-1] * 255
    assert expected.std() > 20
    assert np.abs(cv2.imread(str(tmp_path / "out.png")).astype(float) - expected).max() <= 0.51


# The keys of the original's train_realesrgan_x4plus.yml, every one and in its notation, with values for a tiny network.
OPTIONS = """
name: train_RealESRGANx4plus_400k_B12G4
model_type: RealESRGANModel
scale: 4
num_gpu: auto
manual_seed: 0

l1_gt_usm: True
percep_gt_usm: True
gan_gt_usm: False

resize_prob: [0.2, 0.7, 0.1]  # up, down, keep
resize_range: [0.5, 1.5]
gaussian_noise_prob: 0.5
noise_range: [1, 30]
poisson_scale_range: [0.05, 3]
gray_noise_prob: 0.4
jpeg_range: [30, 95]

second_blur_prob: 0.8
resize_prob2: [0.3, 0.4, 0.3]
resize_range2: [0.8, 1.2]
gaussian_noise_prob2: 0.5
noise_range2: [1, 25]
poisson_scale_range2: [0.05, 2.5]
gray_noise_prob2: 0.4
jpeg_range2: [30, 95]

gt_size: 32
queue_size: 8

datasets:
  train:
    name: DF2K+OST
    type: RealESRGANDataset
    dataroot_gt: datasets/DF2K
    meta_info: datasets/DF2K/meta_info/meta_info_DF2Kmultiscale+OST_sub.txt
    io_backend:
      type: disk

    blur_kernel_size: 7
    kernel_list: ['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso']
    kernel_prob: [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
    sinc_prob: 0.1
    blur_sigma: [0.2, 3]
    betag_range: [0.5, 4]
    betap_range: [1, 2]

    blur_kernel_size2: 7
    kernel_list2: ['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso']
    kernel_prob2: [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
    sinc_prob2: 0.1
    blur_sigma2: [0.2, 1.5]
    betag_range2: [0.5, 4]
    betap_range2: [1, 2]

    final_sinc_prob: 0.8

    gt_size: 32
    use_hflip: True
    use_rot: False

    use_shuffle: true
    num_worker_per_gpu: 1
    batch_size_per_gpu: 2
    dataset_enlarge_ratio: 1
    prefetch_mode: ~

  val:
    name: validation
    type: PairedImageDataset
    dataroot_gt: path_to_gt
    dataroot_lq: path_to_lq
    io_backend:
      type: disk

network_g:
  type: RRDBNet
  num_in_ch: 3
  num_out_ch: 3
  num_feat: 4
  num_block: 1
  num_grow_ch: 4

network_d:
  type: UNetDiscriminatorSN
  num_in_ch: 3
  num_feat: 4
  skip_connection: True

path:
  pretrain_network_g: ~
  param_key_g: params_ema
  strict_load_g: true
  resume_state: ~

train:
  ema_decay: 0.999
  optim_g:
    type: Adam
    lr: !!float 1e-4
    weight_decay: 0
    betas: [0.9, 0.99]
  optim_d:
    type: Adam
    lr: !!float 1e-4
    weight_decay: 0
    betas: [0.9, 0.99]

  scheduler:
    type: MultiStepLR
    milestones: [400000]
    gamma: 0.5

  total_iter: 2
  warmup_iter: -1  # no warm up

  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
  gan_opt:
    type: GANLoss
    gan_type: vanilla
    real_label_val: 1.0
    fake_label_val: 0.0
    loss_weight: !!float 1e-1

  net_d_iters: 1
  net_d_init_iters: 0

val:
  val_freq: !!float 5e3
  save_img: True

  metrics:
    psnr:
      type: calculate_psnr
      crop_border: 4
      test_y_channel: false

logger:
  print_freq: 1
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: false
  wandb:
    project: ~
    resume_id: ~

dist_params:
  backend: nccl
  port: 29500
"""


def test_an_option_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sources.draw_folder(here / "datasets" / "DF2K" / "HR", 4, 420, 1)  # the recipe takes parts of 400 pixels
    sources.draw_folder(here / "path_to_gt", 1, 48, 9, here / "path_to_lq", 4)
    meta = here / "datasets" / "DF2K" / "meta_info"
    meta.mkdir()
    names = "".join(f"HR/{number:04d}.png\n" for number in range(4))
    (meta / "meta_info_DF2Kmultiscale+OST_sub.txt").write_text(names, encoding="utf-8")
    (here / "original.yml").write_text(OPTIONS, encoding="utf-8")
    assert main(["-opt", "original.yml"]) == 0
    experiment = here / "experiments" / "train_RealESRGANx4plus_400k_B12G4"
    lines = metrics(experiment)
    assert [line["iter"] for line in lines if "l_g_gan" in line] == [1, 2]
    assert [line["psnr"] > 5 for line in lines if line.get("validation") == "validation"] == [True]
    assert list((experiment / "visualization").rglob("*.png"))
    assert set(torch.load(experiment / "models" / "net_g_latest.pth", weights_only=True)) == {"params", "params_ema"}
