"""The degradation, statistic by statistic, against formulas and against Pillow."""

from __future__ import annotations

import io
import random
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from PIL import Image
from training import require_basicsr, tiny_options

require_basicsr()
pytestmark = pytest.mark.train

import torch  # noqa: E402

from realesrgan.data import sources  # noqa: E402
from realesrgan.errors import InputError  # noqa: E402
from realesrgan.models import degradation  # noqa: E402
from realesrgan.models.degradation import UnsharpMask  # noqa: E402

CPU = torch.device("cpu")


def options(**changes: Any) -> Dict[str, Any]:
    return {**tiny_options(), **changes}


def make(**changes: Any) -> degradation.Degradation:
    return degradation.Degradation(options(**changes), CPU)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def noise_of(pictures: torch.Tensor, **changes: Any) -> torch.Tensor:
    pipeline = make(**changes)
    return pipeline.noise(pictures, pipeline.first) - pictures


@pytest.mark.parametrize("sigma", [1.0, 10.0, 30.0])
def test_gaussian_noise_has_the_asked_deviation(sigma: float) -> None:
    grey = torch.full((4, 3, 128, 128), 0.5)
    noise = noise_of(grey, gaussian_noise_prob=1.0, noise_range=[sigma, sigma], gray_noise_prob=0.0)
    assert noise.std().item() == pytest.approx(sigma / 255, rel=0.01)
    assert abs(noise.mean().item()) < 3 * sigma / 255 / noise.numel() ** 0.5
    channels = np.corrcoef(noise.transpose(0, 1).reshape(3, -1).numpy())
    assert np.abs(channels - np.eye(3)).max() < 0.02


def test_gaussian_noise_strengths_fill_their_range() -> None:
    """Each picture has a strength of its own, uniform from 5 to 25 levels."""
    grey = torch.full((400, 3, 16, 16), 0.5)
    noise = noise_of(grey, gaussian_noise_prob=1.0, noise_range=[5, 25], gray_noise_prob=0.0)
    deviations = noise.flatten(1).std(dim=1).numpy() * 255
    assert deviations.mean() == pytest.approx(15, rel=0.06)
    assert deviations.std() == pytest.approx(20 / 12**0.5, rel=0.12)
    assert 4 < deviations.min() < 6.5
    assert 23 < deviations.max() < 28


@pytest.mark.parametrize("gaussian", [0.0, 1.0])
def test_grey_noise_is_the_same_in_all_channels(gaussian: float) -> None:
    grey = torch.full((2, 3, 32, 32), 0.5)
    noise = noise_of(grey, gaussian_noise_prob=gaussian, gray_noise_prob=1.0)
    assert noise.std() > 0
    assert torch.equal(noise[:, 0], noise[:, 1])
    assert torch.equal(noise[:, 0], noise[:, 2])


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_poisson_noise_grows_with_the_light(scale: float) -> None:
    """256 levels are counted in units of 1/256: the variance of level v is v/256, times the scale squared."""
    levels = (torch.arange(256.0) / 255).view(1, 1, 256, 1).expand(1, 3, 256, 2000).contiguous()
    noise = noise_of(levels, gaussian_noise_prob=0.0, poisson_scale_range=[scale, scale], gray_noise_prob=0.0)
    inner = slice(40, 200)  # away from what is clipped
    measured = noise[0, :, inner].transpose(0, 1).reshape(160, -1).var(dim=1)
    expected = levels[0, 0, inner, 0] / 256 * scale**2
    assert (measured / expected).mean().item() == pytest.approx(1, rel=0.01)
    assert (measured / expected - 1).abs().max().item() < 0.1


def test_noise_is_gaussian_or_poisson_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    said: List[str] = []
    for name in ("gaussian", "poisson"):
        attribute = f"random_add_{name}_noise_pt"
        monkeypatch.setattr(degradation, attribute, lambda pictures, *_, name=name: said.append(name) or pictures)
    pipeline = make(gaussian_noise_prob=0.3)
    for _ in range(1000):
        pipeline.noise(torch.zeros(1), pipeline.first)
    assert said.count("gaussian") == pytest.approx(300, abs=60)


def pillow_table(quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer).quantization[0]).reshape(8, 8)


def basis(vertical: int, horizontal: int) -> np.ndarray:
    """The picture whose block DCT (orthonormal) has a single 1."""
    places = (np.arange(8) + 0.5) * np.pi / 8
    scale = [np.sqrt(1 / 8) if k == 0 else np.sqrt(2 / 8) for k in (vertical, horizontal)]
    return scale[0] * scale[1] * np.outer(np.cos(places * vertical), np.cos(places * horizontal))


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize("place", [(1, 0), (0, 2), (2, 1)])
def test_jpeg_quantises_as_pillow_does(quality: int, place: Tuple[int, int]) -> None:
    """A grey picture of one frequency comes out with its strength rounded to steps: those of Pillow's table."""
    step = pillow_table(quality)[place]
    strengths = np.linspace(0.2, 1.6, 57) * step
    blocks = 128 + strengths[:, None, None] * basis(*place)
    pictures = torch.from_numpy(np.tile(blocks, (1, 2, 2)) / 255).float()[:, None].repeat(1, 3, 1, 1)
    out = make().jpeg(pictures, (quality, quality))[:, 0, :8, :8].numpy() * 255 - 128
    found = (out * basis(*place)).sum(axis=(1, 2))
    # Pillow's table is rounded to whole numbers, the approximation's is not.
    ours = np.median(found[found > 0.5 * step])
    assert ours == pytest.approx(step, abs=0.51)
    multiples = np.round(strengths / ours)
    sure = np.abs(strengths / ours % 1 - 0.5) > 0.02
    np.testing.assert_allclose(found[sure], (multiples * ours)[sure], atol=0.02)


def luma(picture: np.ndarray) -> np.ndarray:
    return picture.astype(float) @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_jpeg_loses_as_much_as_pillow(quality: int) -> None:
    """In luma: Pillow enlarges the halved colours by interpolation, the approximation by repetition."""
    picture = np.ascontiguousarray(sources.draw(3, 128)[:, :, ::-1])
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=2)
    theirs = np.asarray(Image.open(buffer))
    given = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]
    ours = make().jpeg(given, (quality, quality))[0].permute(1, 2, 0).numpy() * 255.0

    def psnr(result: np.ndarray) -> float:
        return float(10 * np.log10(255**2 / ((luma(result) - luma(picture)) ** 2).mean()))

    assert psnr(ours) == pytest.approx(psnr(theirs), abs=1.0)


def test_jpeg_qualities_fill_their_range_and_are_not_shared() -> None:
    pipeline = make()
    seen: List[torch.Tensor] = []
    pipeline.jpeger = lambda pictures, quality: seen.append(quality.clone()) or pictures  # type: ignore[assignment]
    pipeline.jpeg(torch.zeros(2000, 1, 1, 1), (30.0, 95.0))
    qualities = seen[0].numpy()
    assert 30 <= qualities.min() < 31
    assert 94 < qualities.max() <= 95
    assert qualities.mean() == pytest.approx(62.5, abs=1.5)
    assert len(np.unique(qualities)) > 1900


def test_resize_factors_follow_their_chances() -> None:
    factors = np.array([degradation.resize_factor([0.2, 0.7, 0.1], (0.15, 1.5)) for _ in range(4000)])
    up, down = factors[factors > 1], factors[factors < 1]
    assert len(up) / 4000 == pytest.approx(0.2, abs=0.03)
    assert len(down) / 4000 == pytest.approx(0.7, abs=0.03)
    assert up.max() <= 1.5
    assert up.mean() == pytest.approx(1.25, abs=0.02)
    assert down.min() >= 0.15
    assert down.mean() == pytest.approx(0.575, abs=0.02)


def pulses(batch: int, size: int = 7) -> torch.Tensor:
    kernels = torch.zeros(batch, size, size)
    kernels[:, size // 2, size // 2] = 1
    return kernels


def test_the_whole_gives_levels_at_the_low_size() -> None:
    gt = torch.rand(3, 3, 96, 80)
    out = make()(gt, pulses(3), pulses(3), pulses(3))
    assert out.shape == (3, 3, 24, 20)
    assert torch.equal((out * 255).round() / torch.tensor(255.0), out)
    assert not torch.allclose(out, make()(gt, pulses(3), pulses(3), pulses(3)))


def test_without_any_degradation_only_the_size_and_the_jpeg_are_left() -> None:
    """All ranges at "nothing": the result is the picture made smaller, but for the two JPEGs of quality 99."""
    nothing = {"resize_prob": [0, 0, 1], "resize_prob2": [0, 0, 1], "gaussian_noise_prob": 1, "gaussian_noise_prob2": 1}
    ranges = {"noise_range": [0, 0], "noise_range2": [0, 0], "jpeg_range": [99, 99], "jpeg_range2": [99, 99]}
    flat = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1).expand(1, 3, 64, 64).contiguous()
    out = make(**nothing, **ranges)(flat, pulses(1), pulses(1), pulses(1))
    assert (out - flat[:, :, :16, :16]).abs().max() < 3 / 255


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"jpeg_range": [30, 100]}, "jpeg_range"),
        ({"noise_range2": [25, 1]}, "noise_range2"),
        ({"resize_prob": [0.5, 0.5]}, "resize_prob"),
        ({"gray_noise_prob": 2}, "gray_noise_prob"),
        ({"second_blur_prob": None}, "second_blur_prob"),
    ],
)
def test_impossible_values_are_refused_by_name(changes: Dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=f"'{word}'"):
        make(**changes)


def test_pictures_too_small_for_the_kernel_are_refused() -> None:
    with pytest.raises(InputError, match="crop_pad_size"):
        make()(torch.rand(1, 3, 16, 16), pulses(1, 21), pulses(1, 21), pulses(1, 21))


def test_unsharp_mask_equals_the_unseparated_one() -> None:
    from basicsr.utils import USMSharp

    picture = torch.from_numpy(sources.draw(5, 80).astype(np.float32) / 255).permute(2, 0, 1)[None]
    torch.testing.assert_close(UnsharpMask()(picture), USMSharp()(picture), rtol=0, atol=2e-6)
    assert (UnsharpMask()(picture) - picture).abs().max() > 0.05
