"""Run with TRITON_INTERPRET=1: compares the kernels with PyTorch on the processor and prints what agreed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from realesrgan import devices
from realesrgan.archs import structure
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.inference import network as tile_network
from realesrgan.inference.arrays import Plane
from realesrgan.inference.cuda_conv import Convolution, Picture, Shape, enlarging
from realesrgan.inference.cuda_stages import CudaSequenceStages
from realesrgan.inference.stages import Runtime
from realesrgan.inference.tiling import Box

SHAPE = Shape(4, 16, 32, 2, 4)
HEIGHT, WIDTH = 7, 19


def convolved(x: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
    """H x W x channels by PyTorch, in FP32."""
    return F.conv2d(x.float().permute(2, 0, 1)[None], weight.half().float(), bias, padding=1)[0].permute(1, 2, 0)


def close(result: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(result.float(), expected, rtol=3e-3, atol=3e-3)


def weights(out: int, channels: int) -> torch.Tensor:
    return torch.randn(out, channels, 3, 3) / (9 * channels) ** 0.5


def convolutions() -> None:
    torch.manual_seed(1)
    tensor = torch.randn(4, HEIGHT, WIDTH, 64).half()
    planes = Picture(tensor)
    bias, slope = torch.randn(32), torch.rand(32)
    weight = weights(32, 32)
    before = tensor.clone()

    conv = Convolution(weight, bias, slope, SHAPE, hopper=False)
    conv(planes, planes, plane=1, channel=32, out_plane=2, out_channel=32)
    expected = convolved(before[1, :, :, 32:], weight, bias)
    close(tensor[2, :, :, 32:], torch.where(expected >= 0, expected, expected * slope))
    assert torch.equal(tensor[2, :, :, :32], before[2, :, :, :32]) and torch.equal(tensor[3], before[3])
    print("plain")

    before = tensor.clone()
    conv(planes, planes, plane=1, out_plane=1, out_channel=32, add=1)
    expected = convolved(before[1, :, :, :32], weight, bias) + before[1, :, :, 32:].float()
    close(tensor[1, :, :, 32:], torch.where(expected >= 0, expected, expected * slope))
    print("added")

    before = tensor.clone()
    conv(planes, planes, plane=3, out_plane=0, add=2, ratio=0.2, entry=0)
    expected = convolved(before[3, :, :, :32], weight, bias)
    expected = before[2, :, :, :32] + 0.2 * torch.where(expected >= 0, expected, expected * slope)
    close(tensor[0, :, :, :32], before[0, :, :, :32] + 0.2 * expected)
    print("residual")

    weight = weights(16, 64)
    larger = Picture(torch.zeros(1, 2 * HEIGHT, 2 * WIDTH, 16).half())
    Convolution(enlarging(weight), None, 1.0, SHAPE, hopper=False)(planes, larger, plane=3)
    doubled = tensor[3].float().repeat_interleave(2, 0).repeat_interleave(2, 1)
    close(larger.tensor[0], convolved(doubled, weight.half()))
    print("doubled")

    weight = weights(16, 192)
    out = Picture(torch.zeros(1, HEIGHT, WIDTH, 16).half())
    Convolution(weight, None, 1.0, SHAPE, hopper=False)(planes, out, plane=0, follow=2)
    close(out.tensor[0], convolved(torch.cat((tensor[0], tensor[2], tensor[3]), 2), weight))
    print("planes")


def enlargement() -> None:
    stages = CudaSequenceStages(SRVGGNetCompact(), Runtime(devices.HOST, structure.of(SRVGGNetCompact(), 4), half=True))
    features, x = torch.randn(9, 11, 64).half(), torch.rand(1, 3, 9, 11).half()
    result = stages._enlarged(features, x, Box(2, 3, 8, 10), 4)
    whole = F.pixel_shuffle(features.permute(2, 0, 1)[None, :48].float(), 4)
    whole = whole + F.interpolate(x.float(), scale_factor=4, mode="nearest")
    close(result, whole[:, :, 8:32, 12:40])
    print("shuffled")


def quantising() -> None:
    values = torch.randn(1, 3, 5, 1030).mul_(0.6).add_(0.5).half()
    for dtype, largest in ((np.uint8, 255.0), (np.uint16, 65535.0), (np.float32, 255.0)):
        for shape in ((1, 1), (1, 1, 3)):
            plane = Plane(np.zeros(shape, dtype), largest)
            for given in (values, values.contiguous(memory_format=torch.channels_last)[:, :, 1:, 3:]):
                result, health = tile_network.finished(given, plane, dtype, own_kernels=True)
                assert torch.equal(result, tile_network.quantise(given, plane, dtype))
                assert torch.equal(health, tile_network.health(given).reshape(-1))
    for wrong in (float("nan"), float("inf"), -float("inf")):
        values[0, 1, 4, 1029] = wrong
        assert tile_network.finished(values, plane, np.uint8, own_kernels=True)[1][0] == 1
    print("quantised")


convolutions()
enlargement()
quantising()
