"""gfpgan's and facexlib's own code over networks of random numbers, with faces planted in the detector's output.

The networks are narrow ones of the same structure; one test builds those of the published shapes.
"""

from __future__ import annotations

import importlib.util
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Tuple

import cv2
import numpy as np
import pytest
import torch
from support.networks import Nearest
from torch import Tensor, nn

import realesrgan  # noqa: F401 - lets gfpgan import beside a new torchvision
from realesrgan import RealESRGANer, devices
from realesrgan.cli import commands as cli
from realesrgan.errors import DeviceLostError, InputError, TileError, WeightsError
from realesrgan.inference.faces import weights as face_weights
from realesrgan.weights import folders as places

if importlib.util.find_spec("gfpgan") is None:  # where it is installed, it has to import
    pytest.skip("gfpgan is not installed (requirements-train.txt)", allow_module_level=True)
import facexlib.detection
import facexlib.parsing
import facexlib.utils.misc
from facexlib.detection.retinaface import RetinaFace
from facexlib.detection.retinaface_utils import PriorBox
from facexlib.parsing.parsenet import ParseNet
from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean

from realesrgan.inference.faces import networks as face_networks
from realesrgan.inference.faces.enhancer import FaceEnhancer

pytestmark = pytest.mark.train

NARROW = 1 / 16
CPU = torch.device("cpu")
# Where the eyes, the nose and the corners of the mouth lie in a face of 512x512 (FFHQ's alignment).
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)


# ------------------------------------------------------------------------------------------- networks and files


def small_detector(network_name: str, half: bool, device: Any) -> nn.Module:
    return RetinaFace("mobile0.25", half=half, device=device)


small_parser = partial(ParseNet, base_ch=8, ch_range=[8, 16], res_depth=1)


def gfpgan(narrow: float) -> nn.Module:
    torch.manual_seed(1)
    network = GFPGANv1Clean(512, 512, 2, None, False, 8, True, True, narrow, True)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("stylegan_decoder") and parameter.shape == (1,):
                parameter.fill_(0.1)  # weight of the noise; a new network has none
    return network.eval()


def states(narrow: bool = True) -> Dict[str, Any]:
    """What the official files hold, of random numbers, in their layouts."""
    restorer = gfpgan(NARROW if narrow else 1)
    torch.manual_seed(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision does not like facexlib's way to ask for a ResNet
        detector = small_detector("", False, CPU) if narrow else RetinaFace("resnet50", device=CPU)
    parser = (small_parser if narrow else ParseNet)(in_size=512, out_size=512, parsing_ch=19)
    return {
        "GFPGANv1.3": {"params_ema": restorer.state_dict()},
        "detection_Resnet50_Final": {f"module.{key}": value for key, value in detector.state_dict().items()},
        "parsing_parsenet": parser.state_dict(),
    }


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with small face weights, where nothing can be downloaded."""
    folder = tmp_path_factory.mktemp("machine")
    (folder / "weights").mkdir()
    for name, state in states().items():
        torch.save(state, folder / "weights" / f"{name}.pth")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(places, "REPOSITORY", None)
        patch.setattr(places, "cache_folder", lambda: folder / "cache")
        patch.delenv("REALESRGAN_WEIGHTS", raising=False)
        patch.delenv("REALESRGAN_DEVICE", raising=False)
        patch.setattr(face_networks, "NARROW", NARROW)
        patch.setattr(facexlib.detection, "RetinaFace", small_detector)
        patch.setattr(facexlib.parsing, "ParseNet", small_parser)
        patch.setattr(facexlib.utils.misc, "download_url_to_file", no_download)
        yield folder
    torch.set_num_threads(threads)


def no_download(*arguments: Any, **options: Any) -> None:
    raise AssertionError(f"facexlib downloads by itself: {arguments}")


def upsampler(**options: Any) -> RealESRGANer:
    return RealESRGANer(4, None, model=Nearest(), **{"device": "cpu", "profile": False, **options})


@pytest.fixture(scope="module")
def shared(machine: Path) -> FaceEnhancer:
    return FaceEnhancer(upsampler(), trust_weights=True)


@pytest.fixture()
def enhancer(shared: FaceEnhancer) -> Iterator[FaceEnhancer]:
    """An enhancer whose parts may be replaced."""
    restorer = shared._restorer
    helper = restorer.face_helper
    before = dict(restorer.__dict__), dict(helper.__dict__)
    yield shared
    restorer.__dict__.update(before[0])
    helper.__dict__.update(before[1])
    restorer._detection.__dict__.pop("forward", None)


# ------------------------------------------------------------------------------------------- planted faces


def alignment(size: float, degrees: float, x: float, y: float) -> np.ndarray:
    """2x3: from the 512x512 face to a picture in which it is ``size`` wide, turned, and has its middle at x, y."""
    angle, scale = np.deg2rad(degrees), size / 512
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array([x, y]) - turn @ [256, 256]
    return np.concatenate([turn, shift[:, None]], axis=1)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: np.ndarray) -> np.ndarray:
    turn = np.linalg.inv(matrix[:, :2])
    return np.concatenate([turn, -(turn @ matrix[:, 2])[:, None]], axis=1)


FACE = alignment(110, 9, 88, 70)
SHAPE = (140, 180)


def plant(enhancer: FaceEnhancer, *faces: np.ndarray) -> None:
    """Let the detecting network see these faces and nothing else: its decoding and all that follows stays real."""
    detection = enhancer._restorer.face_helper.face_det
    detection.forward = seeing(detection, *faces)


def seeing(detection: Any, *faces: np.ndarray) -> Callable[[Tensor], Any]:
    """What the detecting network gives for a picture with these faces."""

    def forward(inputs: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        height, width = inputs.shape[2:]
        priors = PriorBox(detection.cfg, image_size=(height, width)).forward()
        loc, scores, marks = (
            torch.zeros(1, len(priors), 4),
            torch.zeros(1, len(priors), 2),
            torch.zeros(1, len(priors), 10),
        )
        scores[0, :, 0] = 1
        for number, face in enumerate(faces):
            prior = priors[3 * number]
            size = torch.tensor([width, height])
            points = torch.tensor(apply(face, TEMPLATE), dtype=torch.float32) / size
            low, high = points.min(0)[0], points.max(0)[0]
            loc[0, 3 * number, :2] = ((low + high) / 2 - prior[:2]) / (0.1 * prior[2:])
            loc[0, 3 * number, 2:] = torch.log((high - low) / prior[2:]) / 0.2
            marks[0, 3 * number] = ((points - prior[:2]) / (0.1 * prior[2:])).flatten()
            scores[0, 3 * number] = torch.tensor([0.01 * (number + 1), 1 - 0.01 * (number + 1)])
        return loc, scores, marks

    return forward


def outline(enhancer: FaceEnhancer) -> None:
    """Let the parsing network find skin everywhere but in a margin of 60 pixels."""

    enhancer._restorer.face_helper.face_parse = lambda x: [skin_inside()]


def skin_inside() -> Tensor:
    """What the parsing network gives for that."""
    scores = torch.zeros(1, 19, 512, 512)
    scores[:, 0] = 0.5
    scores[:, 1, 60:-60, 60:-60] = 1
    return scores


def restoring(enhancer: FaceEnhancer, network: Callable[[Tensor], Tensor]) -> List[Tensor]:
    """Put ``network`` (RGB, -1..1) in the place of the restoring one; returns the list of what it is given."""
    seen: List[Tensor] = []

    def run(x: Tensor, return_rgb: bool, randomize_noise: bool) -> Tuple[Tensor, List[Tensor]]:
        assert not return_rgb and not randomize_noise
        seen.append(x.clone())
        return network(x), []

    enhancer._restorer.gfpgan = face_networks.Guard(run, enhancer._restorer.placed_on, None)
    return seen


def ramps(x: Tensor) -> Tensor:
    """Red grows from left to right, green from top to bottom, blue is 51/255."""
    line = torch.linspace(-1, 1, 512)
    return torch.stack([line.expand(512, 512), line[:, None].expand(512, 512), torch.full((512, 512), -0.6)])[None]


def picture(channels: int = 3, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    """Smooth, and different in each channel."""
    rows, columns = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    planes = [
        0.5 + 0.45 * np.sin(rows / (9 + 3 * k + seed) + k) * np.cos(columns / (11 + 2 * k) + seed)
        for k in range(channels)
    ]
    values = np.stack(planes, 2) * np.iinfo(dtype).max
    return np.rint(values[:, :, 0] if channels == 1 else values).astype(dtype)


def sampled(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear, by hand; ``points`` Nx2 are x and y of pixel middles, inside the picture."""
    whole = np.floor(points).astype(int)
    part = (points - whole)[:, :, None]
    x, y = whole.T
    upper = image[y, x] * (1 - part[:, 0]) + image[y, x + 1] * part[:, 0]
    lower = image[y + 1, x] * (1 - part[:, 0]) + image[y + 1, x + 1] * part[:, 0]
    return upper * (1 - part[:, 1]) + lower * part[:, 1]


def face_positions(face: np.ndarray, scale: float, shape: Tuple[int, ...]) -> np.ndarray:
    """HxWx2: which x and y of the 512x512 face each pixel of the enlarged picture shows, pixel middles at 0.5."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    points = np.stack([columns, rows], 2).reshape(-1, 2)
    return apply(inverse(face), (points + 0.5) / scale - 0.5).reshape(*shape[:2], 2)


def inside(positions: np.ndarray, margin: float) -> np.ndarray:
    return np.logical_and(positions > margin, positions < 511 - margin).all(2)


# ------------------------------------------------------------------------------------------- what the networks hold


def test_the_networks_hold_the_files_parameters(machine: Path, shared: FaceEnhancer) -> None:
    restorer = shared._restorer
    for name, network in (
        ("GFPGANv1.3", restorer._gfpgan),
        ("detection_Resnet50_Final", restorer.face_helper.face_det),
        ("parsing_parsenet", restorer.face_helper.face_parse),
    ):
        stored = torch.load(machine / "weights" / f"{name}.pth", weights_only=True)
        stored = stored.get("params_ema", stored)
        loaded = network.state_dict()
        assert not network.training
        assert len(loaded) == len(stored)
        assert all(torch.equal(loaded[key.replace("module.", "")], value) for key, value in stored.items())
    assert sorted(path.name for path in machine.iterdir()) == ["weights"], "gfpgan makes a folder of its own otherwise"


def test_the_users_files_are_read_once(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put in their place after they were checked is not loaded."""
    loaded = face_weights.load(trust=True)
    (tmp_path / "weights").mkdir()
    for name in loaded.paths:
        (tmp_path / "weights" / f"{name}.pth").write_bytes(b"something else")
    monkeypatch.chdir(tmp_path)
    restorer = face_networks.Restorer(loaded, devices.Device("cpu", 0, "cpu"))
    assert torch.equal(
        restorer._gfpgan.state_dict()["conv_body_first.weight"], loaded.states["GFPGANv1.3"]["conv_body_first.weight"]
    )


@pytest.mark.slow
def test_the_published_shapes_fit(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_networks, "NARROW", 1)
    monkeypatch.setattr(facexlib.detection, "RetinaFace", RetinaFace)
    monkeypatch.setattr(facexlib.parsing, "ParseNet", ParseNet)
    full = {name: state.get("params_ema", state) for name, state in states(narrow=False).items()}
    sizes = {
        name: sum(value.numel() * value.element_size() for value in state.values()) for name, state in full.items()
    }
    for name, size in sizes.items():
        assert round(size / 1e6) == face_weights.FILES[name].megabytes
    weights = face_weights.FaceWeights("GFPGANv1.3", full, {name: Path(name) for name in full})
    restorer = face_networks.Restorer(weights, devices.Device("cpu", 0, "cpu"))
    assert restorer.face_helper.face_det.backbone == "Resnet50"


@pytest.mark.parametrize("name", ["GFPGANv1.3", "detection_Resnet50_Final", "parsing_parsenet"])
def test_another_networks_parameters_are_refused(machine: Path, name: str) -> None:
    loaded = face_weights.load(trust=True)
    loaded.states[name] = {"conv.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=name) as caught:
        face_networks.Restorer(loaded, devices.Device("cpu", 0, "cpu"))
    assert caught.value.code == "faces.network"


# ------------------------------------------------------------------------------------------- detection, alignment


def test_planted_faces_are_found_where_they_are(enhancer: FaceEnhancer) -> None:
    other = alignment(60, -20, 140, 100)
    plant(enhancer, FACE, other)
    outline(enhancer)
    restoring(enhancer, lambda x: x)
    enhancer.enhance(picture())
    assert enhancer.faces == 2
    helper = enhancer._restorer.face_helper
    for landmarks, box, face, score in zip(helper.all_landmarks_5, helper.det_faces, (FACE, other), (0.99, 0.98)):
        expected = apply(face, TEMPLATE)
        assert np.abs(landmarks - expected).max() < 0.01
        assert np.abs(box[:4] - [*expected.min(0), *expected.max(0)]).max() < 0.01
        assert box[4] == pytest.approx(score)


def test_a_face_is_cut_out_upright_in_rgb(enhancer: FaceEnhancer) -> None:
    plant(enhancer, FACE)
    outline(enhancer)
    seen = restoring(enhancer, lambda x: x)
    img = picture()
    enhancer.enhance(img)
    assert [tuple(x.shape) for x in seen] == [(1, 3, 512, 512)]
    rows, columns = np.mgrid[40:472:9, 40:472:9]
    points = np.stack([columns.ravel(), rows.ravel()], 1)
    expected = sampled(img.astype(float), apply(FACE, points.astype(float)))[:, ::-1]
    given = (seen[0][0].permute(1, 2, 0).numpy()[points[:, 1], points[:, 0]] + 1) * 127.5
    assert np.abs(given - expected).max() < 4
    assert np.abs(given - expected).mean() < 0.6


# ------------------------------------------------------------------------------------------- pasting


@pytest.mark.parametrize("outscale", [None, 2, 3.5, 1, 0.75])
def test_a_restored_face_is_pasted_where_it_was(enhancer: FaceEnhancer, outscale: Any) -> None:
    plant(enhancer, FACE)
    outline(enhancer)
    restoring(enhancer, ramps)
    img = picture()
    result, mode = enhancer.enhance(img, outscale)
    plain, _ = enhancer.upsampler.enhance(img, outscale)
    assert mode == "RGB" and result.shape == plain.shape and result.dtype == np.uint8
    scale = outscale or 4
    positions = face_positions(FACE, scale, result.shape)
    middle = inside(positions, 130)
    assert middle.sum() > 300 * scale
    blue, green, red = (result[middle][:, channel].astype(float) for channel in range(3))
    # facexlib pastes half a pixel off; 0.6 pixels of the result, in levels of a ramp over the face, and rounding
    allowed = 0.6 * (512 / 110) / scale / 511 * 255 * 1.5 + 1.5
    assert np.abs(red - positions[middle][:, 0] / 511 * 255).max() < allowed
    assert np.abs(green - positions[middle][:, 1] / 511 * 255).max() < allowed
    assert np.abs(blue - 51).max() <= 1
    outside = ~inside(positions, -3)
    assert outside.sum() > 1000
    assert np.array_equal(result[outside], plain[outside])
    margin = inside(positions, 0) & ~inside(positions, 5)
    assert np.array_equal(result[margin], plain[margin]), "the margin is no skin"


def test_the_real_network_restores_the_face(enhancer: FaceEnhancer) -> None:
    plant(enhancer, FACE)
    outline(enhancer)
    img = picture()
    result, _ = enhancer.enhance(img)
    again, _ = enhancer.enhance(img)
    assert np.array_equal(result, again), "the noise must not be random"
    crop = cv2.warpAffine(img, inverse(FACE), (512, 512), borderValue=(135, 133, 132))
    x = torch.from_numpy(crop[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        output = enhancer._restorer._gfpgan(x, return_rgb=False, randomize_noise=False)[0][0]
    expected_face = np.rint((output.clamp(-1, 1).permute(1, 2, 0).numpy()[:, :, ::-1] + 1) * 127.5)
    assert expected_face.std() > 10
    # by facexlib's reckoning: half a pixel further than the middle of the pixel
    rows, columns = np.mgrid[0 : result.shape[0], 0 : result.shape[1]]
    points = np.stack([columns, rows], 2).reshape(-1, 2)
    positions = apply(inverse(FACE), points / 4 - 0.5).reshape(*result.shape[:2], 2)
    middle = inside(positions, 130)
    difference = np.abs(result[middle] - sampled(expected_face, positions[middle]))
    assert np.median(difference) < 4
    assert difference.mean() < 0.1 * expected_face.std()


def test_with_the_real_parsing_network(enhancer: FaceEnhancer) -> None:
    plant(enhancer, FACE)
    restoring(enhancer, ramps)
    img = picture()
    result, _ = enhancer.enhance(img)
    plain, _ = enhancer.upsampler.enhance(img)
    outside = ~inside(face_positions(FACE, 4, result.shape), -3)
    assert np.array_equal(result[outside], plain[outside])
    output = (ramps(torch.empty(0)).clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    with torch.no_grad():
        labels = enhancer._restorer._parsing(output)[0].argmax(1)
    skin = torch.isin(labels, torch.tensor([0, 14, 16, 17, 18]), invert=True).float().mean()
    assert (not np.array_equal(result, plain)) == bool(skin > 0.01)


# ------------------------------------------------------------------------------------------- kinds of pictures


KINDS = [(channels, dtype) for channels in (1, 3, 4) for dtype in (np.uint8, np.uint16)]


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
@pytest.mark.parametrize("alpha", ["realesrgan", "bicubic"])
def test_without_faces_it_is_the_upsamplers_picture(
    enhancer: FaceEnhancer, channels: int, dtype: Any, alpha: str
) -> None:
    plant(enhancer)
    seen = restoring(enhancer, ramps)
    img = picture(channels, dtype)
    for outscale in (None, 2.5):
        result, mode = enhancer.enhance(img, outscale, alpha)
        plain, plain_mode = enhancer.upsampler.enhance(img, outscale, alpha)
        assert mode == plain_mode and result.dtype == plain.dtype and np.array_equal(result, plain)
    assert seen == [] and enhancer.faces == 0


@pytest.mark.parametrize(("channels", "dtype"), [kind for kind in KINDS if kind != (3, np.uint8)])
def test_every_kind_of_picture_keeps_its_kind(
    enhancer: FaceEnhancer, caplog: pytest.LogCaptureFixture, channels: int, dtype: Any
) -> None:
    plant(enhancer, FACE)
    outline(enhancer)
    restoring(enhancer, ramps)
    img = picture(channels, dtype)
    result, mode = enhancer.enhance(img)
    enhancer.enhance(img)
    plain, plain_mode = enhancer.upsampler.enhance(img)
    assert mode == plain_mode and result.dtype == plain.dtype and result.shape == plain.shape
    positions = face_positions(FACE, 4, result.shape)
    outside, middle = ~inside(positions, -3), inside(positions, 130)
    assert np.array_equal(result[outside], plain[outside])
    if channels == 4:
        assert np.array_equal(result[:, :, 3], plain[:, :, 3])
    step = 1 if dtype == np.uint8 else 257
    x, y = (positions[middle] / 511 * 255).T
    values = result[middle].astype(float) / step
    if channels == 1:
        assert np.abs(values - (0.299 * x + 0.587 * y + 0.114 * 51)).max() < 4
    else:
        assert np.abs(values[:, 2] - x).max() < 4 and np.abs(values[:, 1] - y).max() < 4
        assert np.abs(values[:, 0] - 51).max() < 1.6
    told = [record for record in caplog.records if getattr(record, "notice_code", "") == "faces.depth"]
    assert len(told) == (1 if dtype == np.uint16 else 0)
    if dtype == np.uint16:
        edge = inside(positions, 0) & ~middle
        assert np.unique(result[edge] % 257).size > 20, "finer levels end where the blend begins"


def test_a_dark_16_bit_picture_is_not_taken_for_8_bit(enhancer: FaceEnhancer) -> None:
    plant(enhancer, FACE)
    outline(enhancer)
    seen = restoring(enhancer, lambda x: x)
    img = picture(3, np.uint8).astype(np.uint16)
    result, _ = enhancer.enhance(img)
    # 130 or so is the grey that stands in for what lies beyond the picture; there is none in the middle
    assert float(seen[0][:, :, 150:350, 150:350].max()) < -0.98
    assert result.max() < 1000


def test_floating_pictures(enhancer: FaceEnhancer) -> None:
    plant(enhancer, FACE)
    outline(enhancer)
    seen = restoring(enhancer, ramps)
    whole, _ = enhancer.enhance(picture())
    floating, _ = enhancer.enhance(picture().astype(np.float32))
    assert np.array_equal(whole, floating)
    assert torch.equal(seen[0], seen[1])


def test_the_background_is_computed_once_and_reported(enhancer: FaceEnhancer, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(enhancer, FACE)
    outline(enhancer)
    restoring(enhancer, ramps)
    calls: List[Any] = []
    real = enhancer.upsampler.enhance
    monkeypatch.setattr(enhancer.upsampler, "enhance", lambda *a, **k: calls.append((a[1:], k)) or real(*a, **k))
    tiles: List[Tuple[int, int]] = []
    progress = lambda done, total: tiles.append((done, total))  # noqa: E731
    enhancer.enhance(picture(), 3, "bicubic", progress=progress)
    assert [arguments for arguments, _ in calls] == [(3, "bicubic")]
    assert tiles and tiles[-1][0] == tiles[-1][1] > 0
    assert enhancer.last_run is enhancer.upsampler.last_run and enhancer.scale == 4


def test_each_face_is_a_sign_of_life(enhancer: FaceEnhancer) -> None:
    """A child process that says nothing for long counts as hung, and a picture may have a hundred faces."""
    said: Dict[int, List[Tuple[int, int]]] = {}
    for count in (1, 2):
        plant(enhancer, *[alignment(40, 0, 40 + 45 * number, 70) for number in range(count)])
        said[count] = []
        enhancer.enhance(picture(), progress=lambda done, total, count=count: said[count].append((done, total)))
        assert enhancer.faces == count
        # one for detection, then each face is restored; after the tiles, each is outlined
        tiles = next(number for number, told in enumerate(said[count]) if told != (0, 1))
        assert said[count][:tiles] == [(0, 1)] * (1 + count)
        assert said[count][-count:] == [said[count][-1]] * count and said[count][-1][0] == said[count][-1][1]
    assert len(said[2]) == len(said[1]) + 2


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 300, 3), (1, 9), (9, 8, 4)])
def test_tiny_pictures(enhancer: FaceEnhancer, shape: Tuple[int, ...]) -> None:
    plant(enhancer)
    img = np.full(shape, 99, np.uint8)
    for outscale in (None, 0.1):
        result, _ = enhancer.enhance(img, outscale)
        assert np.array_equal(result, enhancer.upsampler.enhance(img, outscale)[0])


@pytest.mark.parametrize("outscale", [0, -1, float("nan"), "4"])
def test_wrong_arguments_are_the_upsamplers_errors(enhancer: FaceEnhancer, outscale: Any) -> None:
    with pytest.raises(InputError, match="outscale"):
        enhancer.enhance(picture(), outscale)
    with pytest.raises(InputError, match="NoneType"):
        enhancer.enhance(None)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- failures


def fail(error: BaseException) -> Callable[[Tensor], Tensor]:
    def network(x: Tensor) -> Tensor:
        raise error

    return network


def test_gfpganer_takes_our_upsampler_as_its_background(enhancer: FaceEnhancer) -> None:
    """As scripts for the original hand it over."""
    plant(enhancer, FACE)
    outline(enhancer)
    restoring(enhancer, ramps)
    restorer, img = enhancer._restorer, picture()
    restorer.bg_upsampler, restorer.upscale = enhancer.upsampler, 2
    restorer.face_helper.set_upscale_factor(2)
    cropped, restored, result = restorer.enhance(img, has_aligned=False, only_center_face=False, paste_back=True)
    plain, _ = enhancer.upsampler.enhance(img, outscale=2)
    assert (len(cropped), len(restored), result.shape) == (1, 1, plain.shape)
    outside = ~inside(face_positions(FACE, 2, plain.shape), -3)
    assert np.array_equal(result[outside], plain[outside]) and not np.array_equal(result, plain)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (fail(RuntimeError("no kernel")), "no kernel"),
        (fail(ValueError("bad value")), "bad value"),
        (fail(RuntimeError("CUDA out of memory")), "out of memory"),
        (lambda x: x * float("nan"), "NaN"),
        (lambda x: x / 0, "NaN or infinity"),
    ],
)
def test_a_face_that_cannot_be_restored_fails_the_picture(
    enhancer: FaceEnhancer, capsys: pytest.CaptureFixture, network: Callable[[Tensor], Tensor], reason: str
) -> None:
    plant(enhancer, FACE)
    outline(enhancer)
    restoring(enhancer, network)
    with pytest.raises(TileError, match=reason) as caught:
        enhancer.enhance(picture())
    assert caught.value.code == "faces.failed"
    assert "Failed inference" not in capsys.readouterr().out, "GFPGANer must not get to swallow it"
    restoring(enhancer, ramps)
    enhancer.enhance(picture())


def test_gfpgan_would_have_swallowed_it(enhancer: FaceEnhancer, capsys: pytest.CaptureFixture) -> None:
    """The day this fails, the detour can go."""
    plant(enhancer, FACE)
    outline(enhancer)
    restorer = enhancer._restorer
    restorer.gfpgan = fail(RuntimeError("no kernel"))
    restorer.gfpgan = lambda x, return_rgb, weight: fail(RuntimeError("no kernel"))(x)
    restorer.upscale = 1
    restorer.face_helper.set_upscale_factor(1)
    restorer.enhance(picture())
    assert "Failed inference for GFPGAN: no kernel" in capsys.readouterr().out


class Stuck:
    """A result on a device that is lost before it reaches the host."""

    def all(self) -> bool:
        return True

    def float(self) -> Stuck:
        return self

    def cpu(self) -> Tensor:
        raise RuntimeError("Unknown error -2147024882")


def test_an_error_on_the_way_to_the_host_is_not_swallowed(
    enhancer: FaceEnhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GFPGANer brings the result to the host inside of its own 'try'."""
    plant(enhancer, FACE)
    outline(enhancer)
    restoring(enhancer, lambda x: Stuck())  # type: ignore[arg-type,return-value]
    monkeypatch.setattr(face_networks.torch, "isfinite", lambda x: x if isinstance(x, Stuck) else torch.ones(1))
    with pytest.raises(TileError, match="-2147024882"):
        enhancer.enhance(picture())


@pytest.mark.parametrize("where", ["face_det", "face_parse"])
def test_other_networks_fail_the_picture_too(enhancer: FaceEnhancer, where: str) -> None:
    plant(enhancer, FACE)
    restoring(enhancer, ramps)
    helper = enhancer._restorer.face_helper
    broken = SimpleNamespace(detect_faces=lambda *a: fail(RuntimeError("broken"))(*a[:1]))
    setattr(helper, where, broken if where == "face_det" else fail(RuntimeError("broken")))
    with pytest.raises(TileError, match="broken"):
        enhancer.enhance(picture())


def test_the_upsamplers_error_comes_through(enhancer: FaceEnhancer, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(enhancer, FACE)
    outline(enhancer)
    restoring(enhancer, ramps)
    lost = DeviceLostError("gone")
    monkeypatch.setattr(enhancer.upsampler, "enhance", lambda *a, **k: fail(lost)(a[0]))
    with pytest.raises(DeviceLostError) as caught:
        enhancer.enhance(picture())
    assert caught.value is lost


def test_ctrl_c_is_not_a_failure(enhancer: FaceEnhancer) -> None:
    plant(enhancer, FACE)
    restoring(enhancer, fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        enhancer.enhance(picture())


# ------------------------------------------------------------------------------------------- devices


class Pretended(devices.Device):
    """A card whose tensors are the CPU's."""

    @property
    def torch_device(self) -> Any:
        return CPU


CARD = Pretended("cuda", 0, "pretended card")


def codes(caplog: pytest.LogCaptureFixture) -> List[str]:
    return [record.__dict__["notice_code"] for record in caplog.records if "notice_code" in record.__dict__]


@pytest.fixture()
def on_card(machine: Path, monkeypatch: pytest.MonkeyPatch) -> FaceEnhancer:
    plain = upsampler()
    monkeypatch.setattr(devices, "resolve", lambda request: CARD)
    return FaceEnhancer(plain, trust_weights=True)


def test_a_card_that_is_right_is_used(on_card: FaceEnhancer, caplog: pytest.LogCaptureFixture) -> None:
    restorer = on_card._restorer
    assert restorer.placed_on is CARD and codes(caplog) == []
    assert on_card.describe()["face_device"] == "cuda:0"
    assert on_card.describe()["face_model"] == "GFPGANv1.3"
    assert on_card.describe()["model"] == "Nearest"
    assert restorer.face_helper.face_det is not restorer._detection, "what is on the host stays there, untouched"


def test_memory_that_runs_out_on_a_card_moves_faces_to_the_cpu(
    on_card: FaceEnhancer, caplog: pytest.LogCaptureFixture
) -> None:
    plant(on_card, FACE)
    restoring(on_card, fail(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")))
    restorer = on_card._restorer
    detection = restorer.face_helper.face_det
    restorer._detection.forward = detection.forward
    result, _ = on_card.enhance(picture())
    assert codes(caplog) == ["faces.cpu"] and "memory ran out" in caplog.text and "pretended card" in caplog.text
    assert on_card.faces == 1 and restorer.placed_on.backend == "cpu"
    again, _ = on_card.enhance(picture())
    assert np.array_equal(result, again) and len(codes(caplog)) == 1


def test_a_lost_card_is_reported_as_lost(on_card: FaceEnhancer) -> None:
    plant(on_card, FACE)
    restoring(on_card, fail(RuntimeError("Unknown error -2005270523")))
    with pytest.raises(DeviceLostError, match="pretended card"):
        on_card.enhance(picture())


@pytest.mark.parametrize(
    ("network", "words"), [("_gfpgan", "restores"), ("_detection", "finds"), ("_parsing", "outlines")]
)
def test_a_card_that_gets_one_network_wrong_is_not_used(
    machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    network: str,
    words: str,
) -> None:
    real = face_networks._copied

    def copied(module: Any, place: Any) -> Any:
        result = real(module, place)
        if isinstance(module, kind):
            with torch.no_grad():
                for parameter in result.parameters():
                    parameter.mul_(1.5)
        return result

    kind = {"_gfpgan": GFPGANv1Clean, "_detection": RetinaFace, "_parsing": ParseNet}[network]
    monkeypatch.setattr(face_networks, "_copied", copied)
    restorer = face_networks.Restorer(face_weights.load(trust=True), CARD)
    assert restorer.placed_on.backend == "cpu"
    assert codes(caplog) == ["faces.cpu"]
    assert f"the network that {words} faces is off by" in caplog.text


@pytest.mark.parametrize(
    ("half_result", "fault"),
    [
        (lambda x: x + 0.001, None),
        (lambda x: x * float("nan"), "NaN"),
        (lambda x: x * 0 - 1, "black"),
        (lambda x: x * 0.5, "off by"),
        (fail(RuntimeError("no half kernel")), "no half kernel"),
    ],
)
def test_half_precision_is_guarded_at_first_use(
    caplog: pytest.LogCaptureFixture, half_result: Callable[[Tensor], Tensor], fault: Any
) -> None:
    guard = face_networks.Guard(stub(lambda x: x), CARD, stub(half_result))
    x = ramps(torch.empty(0))
    guard.check_half(x, x)
    assert guard.half == (fault is None)
    assert codes(caplog) == ([] if fault is None else ["faces.single"])
    assert fault is None or fault in caplog.text
    (result,) = guard(x)
    assert result.dtype == torch.float32 and torch.allclose(result, x, atol=0.01)


def test_half_precision_that_fails_later_is_left_for_good(caplog: pytest.LogCaptureFixture) -> None:
    outputs = [1.0, float("nan")]
    guard = face_networks.Guard(stub(lambda x: x), CARD, stub(lambda x: x * outputs.pop(0)))
    x = ramps(torch.empty(0))
    for _ in range(3):
        (result,) = guard(x)
        assert torch.allclose(result, x, atol=0.01)
    assert not guard.half and outputs == []
    assert codes(caplog) == ["faces.single"]


def stub(function: Callable[[Tensor], Tensor]) -> Any:
    return lambda x, return_rgb, randomize_noise: (function(x), [])


def test_half_precision_with_the_real_network(machine: Path, caplog: pytest.LogCaptureFixture) -> None:
    restorer = face_networks.Restorer(face_weights.load(trust=True), CARD, half=True)
    assert restorer.gfpgan.half == ("faces.single" not in codes(caplog))
    (result,) = restorer.gfpgan(ramps(torch.empty(0)))
    assert result.dtype == torch.float32 and bool(torch.isfinite(result).all())
    assert next(restorer._gfpgan.parameters()).dtype == torch.float32


# ------------------------------------------------------------------------------------------- simulated DirectML


def test_the_check_refuses_directml_and_no_trap_bites_afterwards(
    machine: Path, directml: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = FaceEnhancer(upsampler(device="directml"), trust_weights=True)
    probed = list(directml.traps)
    assert probed and {trap.number for trap in probed} == {4}, "the probe of the check itself, and nothing else"
    assert codes(caplog) == ["faces.cpu"]
    assert "bilinear resizing is off by" in caplog.text
    described = made.describe()
    assert (described["device"], described["face_device"]) == ("directml:0", "cpu")
    plant(made, FACE)
    outline(made)
    restoring(made, ramps)
    before = sum(directml.counts.values())
    result, _ = made.enhance(picture())
    assert sum(directml.counts.values()) > before, "the background is computed on the card"
    assert directml.traps == probed and not directml.fallbacks
    plain = FaceEnhancer(upsampler(), trust_weights=True)
    plant(plain, FACE)
    outline(plain)
    restoring(plain, ramps)
    assert np.array_equal(result, plain.enhance(picture())[0])
    assert codes(caplog) == ["faces.cpu"]


def test_directml_is_used_on_the_day_it_resizes_right(
    machine: Path, directml: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The check decides, not the name of the device."""
    from directml_standin import operators

    def right(call: Any) -> Any:
        operators._prepare(call)
        return call.finish(call.compute())

    monkeypatch.setitem(operators.HANDLERS, "upsample_bilinear2d", right)
    made = FaceEnhancer(upsampler(device="directml"), trust_weights=True)
    assert made.describe()["face_device"] == "directml:0"
    assert "faces.cpu" not in codes(caplog)


def test_the_networks_own_check_refuses_directml_as_well(
    machine: Path, directml: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(face_networks, "bilinear_fault", lambda device: None)
    made = FaceEnhancer(upsampler(device="directml"), trust_weights=True)
    assert made.describe()["face_device"] == "cpu"
    assert "the network that restores faces" in caplog.text
    directml.forgive()


# ------------------------------------------------------------------------------------------- the command line


def run_cli(folder: Path, *words: str, pixels: Any = None, faces: bool = True) -> int:
    cv2.imwrite(str(folder / "a.png"), picture() if pixels is None else pixels)
    network = folder / "tiny.pth"
    from support.networks import srvgg

    torch.save({"params": srvgg().state_dict()}, network)
    line = ["-i", str(folder / "a.png"), "-o", str(folder / "out"), "--model_path", str(network), "--device", "cpu"]
    return cli.main([*line, *(["--face_enhance"] if faces else []), "--lang", "en", *words])


def test_the_command_line_says_what_to_download(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(tmp_path) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    for file in face_weights.FILES.values():
        assert file.file_name in told
        assert file.url in told or file.name == "GFPGANv1.4"
    assert str(tmp_path / "weights") in told and "--trust-weights" in told
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_the_command_line_refuses_unverified_files(
    machine: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run_cli(tmp_path) == 2
    told = capsys.readouterr().err
    assert "cannot be verified" in told and "--trust-weights" in told and "Traceback" not in told


def test_the_command_line_with_face_weights(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    loads: List[Any] = []
    real = face_weights.load
    monkeypatch.setattr(face_weights, "load", lambda *a, **k: loads.append(k) or real(*a, **k))
    cv2.imwrite(str(tmp_path / "b.png"), picture(1))
    assert run_cli(tmp_path, "--trust-weights", "-i", str(tmp_path / "a.png"), str(tmp_path / "b.png")) == 0
    assert len(loads) == 1, "once a run, not once a picture"
    assert cv2.imread(str(tmp_path / "out" / "a_out.png")).shape == (560, 720, 3)
    assert cv2.imread(str(tmp_path / "out" / "b_out.png"), cv2.IMREAD_UNCHANGED).shape == (560, 720)


@pytest.mark.parametrize("device", ["cpu", "directml"])
def test_the_command_line_restores_a_planted_face(
    machine: Path, directml: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """All is real but what two networks see. The picture has alpha."""
    with monkeypatch.context() as patch:
        patch.setattr(RetinaFace, "forward", lambda self, x: seeing(self, FACE)(x))
        patch.setattr(ParseNet, "forward", lambda self, x: [skin_inside()])
        words = ["--trust-weights", "--device", device, "--no-isolate"]
        assert run_cli(tmp_path, *words, pixels=picture(4)) == 0
        assert run_cli(tmp_path, *words, "-o", str(tmp_path / "plain"), pixels=picture(4), faces=False) == 0
    result, plain = (
        cv2.imread(str(tmp_path / folder / "a_out.png"), cv2.IMREAD_UNCHANGED) for folder in ("out", "plain")
    )
    assert result.shape == plain.shape == (560, 720, 4)
    positions = face_positions(FACE, 4, result.shape)
    outside, middle = ~inside(positions, -3), inside(positions, 130)
    assert np.array_equal(result[outside], plain[outside])
    assert np.array_equal(result[:, :, 3], plain[:, :, 3])
    assert (result[middle][:, :3] != plain[middle][:, :3]).any(1).mean() > 0.9
    assert {trap.number for trap in directml.traps} <= {4}
    assert (sum(directml.counts.values()) > 100) == (device == "directml")
