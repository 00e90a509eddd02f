"""From the bytes of a file to pixels: recognise the format, check the size, decode with Pillow or OpenCV.

Pillow decodes whatever it can hold, because it treats a truncated file as an error; what it would reduce to 8 bit
(16-bit colour, 16-bit grey with alpha) goes through :mod:`realesrgan.files.png` and :mod:`realesrgan.files.tiff`.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import struct
import sys
import threading
import warnings
from typing import Callable, ContextManager, Iterator, List, Optional, Tuple

import cv2
import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..errors import Phrase
from . import metadata
from . import png as png_file
from . import tiff as tiff_file
from .picture import Decoded, Note, Refused, check_size, damaged, truncated, unsupported

__all__ = ["any_size", "decode", "quiet"]

#: Pixels of a picture that are converted at a time, so that a large one is not held several times over.
_BAND = 1 << 21
Convert = Callable[[Image.Image], Image.Image]


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decode the first picture of a file.

    Raises:
        Refused: With the reason. Decoders' own errors of any kind come through: they mean damage.
    """
    kind = recognise(data)
    if kind == "PNG":
        return _decode_png(data, max_pixels)
    if kind == "TIFF":
        return _decode_tiff(data, max_pixels)
    if kind == "WEBP":
        check_webp(data, max_pixels)
    if kind == "JPEG":
        check_jpeg(data)
    image = _open(data, kind)
    check_size(image.width, image.height, max_pixels)
    decoded = _decode_image(image, kind)
    if _is_animated(image):
        decoded.notes.append(Note("note.first_frame", "it is animated: only its first frame is used"))
    decoded.icc = image.info.get("icc_profile") if decoded.icc is None else decoded.icc
    decoded.exif = image.info.get("exif")
    return decoded


def _open(data: bytes, kind: str) -> ImageFile.ImageFile:
    """Parse the header with Pillow's reader for exactly this format; no pixels are decoded.

    Not ``Image.open``: that guesses the format, and has a pixel limit of its own beside ours.
    """
    plugins = {
        "PNG": PngImagePlugin.PngImageFile,
        "JPEG": JpegImagePlugin.JpegImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "GIF": GifImagePlugin.GifImageFile,
    }
    factory = plugins.get(kind) or _optional_plugin(kind)
    try:
        return factory(io.BytesIO(data))
    except SyntaxError as error:
        raise damaged(error) from error


def _optional_plugin(kind: str) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    if kind == "HEIF":
        try:
            import pillow_heif  # type: ignore[import-not-found, unused-ignore]

            pillow_heif.register_heif_opener()
        except ImportError:
            pass
    Image.init()
    if kind not in Image.OPEN:
        package = {"HEIF": "pillow-heif", "AVIF": "Pillow 11.3 or newer"}[kind]
        reason = f"{kind} pictures can be read once this is installed: {package}"
        raise Refused("picture.package", reason, format=kind, package=package)
    return Image.OPEN[kind][0]  # type: ignore[return-value]


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001 - the first frame was good; what follows it is of no interest
        return False


def _decode_png(data: bytes, max_pixels: int) -> Decoded:
    png = png_file.parse(data)
    check_size(png.width, png.height, max_pixels)
    png_file.check_amount(png)
    if png.depth == 16 and png.color != png_file.GREY:
        decoded = Decoded(png_file.decode_16bit(png), png.mode, "PNG")
    else:
        decoded = _decode_image(_open(png.plain(), "PNG"), "PNG")
    png_file.apply_color_key(png, decoded)
    decoded.icc, decoded.exif = png.icc, png.exif
    decoded.notes.extend(png.notes)
    return decoded


def _decode_tiff(data: bytes, max_pixels: int) -> Decoded:
    tiff = tiff_file.parse(data)
    check_size(tiff.width, tiff.height, max_pixels)
    check_size(*tiff.tile_size, max_pixels)
    if tiff.unusual is not None:
        raise unsupported(tiff.unusual)
    if tiff.deep:
        decoded = tiff_file.assemble(tiff, [_by_opencv(view, tiff.notes) for view in tiff.views()])
    else:
        with any_size():
            image = _open(tiff.plain(), "TIFF")
            check_size(image.width, image.height, max_pixels)
            decoded = _decode_image(image, "TIFF", tiff.icc)
        if tiff.bits == {12} and decoded.pixels.dtype == np.uint16:  # Pillow leaves them in the lower bits
            decoded.pixels = (decoded.pixels << 4) | (decoded.pixels >> 8)
    decoded.icc = tiff.icc if decoded.icc is None else decoded.icc
    decoded.exif, decoded.orientation = tiff.exif, tiff.orientation
    decoded.notes.extend(tiff.notes)
    return decoded


def _by_opencv(data: bytes, notes: List[Note]) -> np.ndarray:
    """Pixels as OpenCV gives them; 32 bit and floating point become uint16, with a note."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise damaged(Phrase("damaged.pixels", "its pixels cannot be decoded"))
    if pixels.itemsize <= 2:
        return pixels
    if pixels.dtype.kind != "f":
        notes.append(Note("note.deep", "its 32-bit values were rounded to 16 bit"))
        return (pixels.view(np.uint32) >> 16).astype(np.uint16)
    colors = 3 if pixels.ndim == 3 else 1  # the others are alpha, whose range is 0 to 1
    color = pixels[..., :3] if colors == 3 else pixels
    white = max(1.0, float(np.max(color, where=np.isfinite(color), initial=0.0)))
    text = f"its floating-point values were stored as 16 bit, {white:g} as white"
    notes.append(Note("note.float", text, white=f"{white:g}"))
    out = np.empty(pixels.shape, np.uint16)
    for number, row in enumerate(pixels):  # row by row: the products need more room
        scaled = np.nan_to_num(row.astype(np.float64), posinf=white, neginf=0.0).reshape(len(row), -1)
        scaled[:, :colors] /= white
        out[number] = np.rint(np.clip(scaled, 0.0, 1.0) * 65535).reshape(row.shape)
    return out


def _decode_image(image: Image.Image, kind: str, icc: Optional[bytes] = None) -> Decoded:
    """Decode with Pillow. ``icc`` of the result is b"" where the profile has been used up or does not apply."""
    notes = []
    image.load()
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG"):
        return Decoded(np.asarray(image).astype(np.uint16, copy=False), "L", kind)
    mode, convert = _conversion(image)
    used = None
    if mode == "":
        mode, convert, note = _from_print(image, icc or image.info.get("icc_profile"))
        notes.append(note)
        used = b""
    return Decoded(_to_array(image, mode, convert), mode, kind, used, notes=notes)


def _conversion(image: Image.Image) -> Tuple[str, Optional[Convert]]:
    """The mode that the picture is delivered in, and how a part of it is brought there."""
    mode = image.mode
    if mode in ("L", "LA", "RGB", "RGBA"):
        key = image.info.get("transparency")
        if key is not None and not mode.endswith("A"):
            return mode + "A", lambda part: part.convert(mode + "A")
        return mode, None
    targets = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB", "PA": "RGBA"}
    targets.update({"CMYK": "", "LAB": "", "P": "RGBA" if "transparency" in image.info else "RGB"})
    if mode not in targets:
        raise unsupported({"I": "32 bit", "F": "floating point"}.get(mode, mode))
    return targets[mode], lambda part: part.convert(targets[mode])


def _from_print(image: Image.Image, icc: Optional[bytes]) -> Tuple[str, Convert, Note]:
    """How CMYK and Lab become sRGB."""
    srgb = ImageCms.createProfile("sRGB")
    if image.mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), srgb, "LAB", "RGB")
        note = Note("note.lab", "Lab was converted to sRGB")
        return "RGB", lambda part: _apply(part, transform), note
    if icc and metadata.icc_space(icc) == "CMYK":
        try:
            transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(icc)), srgb, "CMYK", "RGB")
            note = Note("note.cmyk_profile", "CMYK was converted to sRGB through its profile")
            return "RGB", lambda part: _apply(part, transform), note
        except (ImageCms.PyCMSError, OSError, ValueError):
            note = Note("note.cmyk_plain", "CMYK was converted to RGB by a plain rule: its profile is damaged")
            return "RGB", lambda part: part.convert("RGB"), note
    note = Note("note.cmyk_plain", "CMYK was converted to RGB by a plain rule: it has no profile")
    return "RGB", lambda part: part.convert("RGB"), note


def _apply(part: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(part, transform)
    assert converted is not None  # None is only for work in place
    return converted


def _to_array(image: Image.Image, mode: str, convert: Optional[Convert]) -> np.ndarray:
    width, height = image.size
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "LA": 4}[mode]
    out = np.empty((height, width) if channels == 1 else (height, width, channels), np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        part = image if rows >= height else image.crop((0, top, width, bottom))
        array = np.asarray(convert(part) if convert else part)
        if mode == "L":
            out[top:bottom] = array
        elif mode == "LA":
            out[top:bottom, :, :3] = array[:, :, :1]
            out[top:bottom, :, 3] = array[:, :, 1]
        else:
            cv2.cvtColor(array, cv2.COLOR_RGB2BGR if mode == "RGB" else cv2.COLOR_RGBA2BGRA, dst=out[top:bottom])
    return out


_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}
_BRANDS.update(dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIF"))


def recognise(data: bytes) -> str:
    """The format's name.

    Raises:
        Refused: It is none that is read.
    """
    if data.startswith(png_file.SIGNATURE):
        return "PNG"
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:2] == b"BM":
        return "BMP"
    if data[4:8] == b"ftyp" and data[8:12] in _BRANDS:
        return _BRANDS[data[8:12]]
    if _is_text(data[:512]):
        what = Phrase("format.text", "it is text, not a picture")
    else:
        what = Phrase("format.unknown", "its content is of no known picture format")
    raise Refused("picture.format", f"{what} (PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF and HEIC are read)", what=what)


def _is_text(start: bytes) -> bool:
    try:
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False


def check_webp(data: bytes, max_pixels: int) -> None:
    """Check length and size from the header, because Pillow reserves the whole canvas when it opens a WebP file."""
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data) or len(data) < 30:
        found, expected = len(data), length + 8
        detail = f"{found} of {expected} bytes"
        raise truncated(Phrase("truncated.bytes", detail, found=found, expected=expected))
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
    check_size(width, height, max_pixels)


def check_jpeg(data: bytes) -> None:
    """Refuse a file without an end, such as a download whose space was reserved and stayed zero.

    Decoders make grey of zeros and find nothing wrong. The end is looked for behind the header, because the thumbnail
    in there has one of its own.
    """
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == 0xDA:
            if data.find(b"\xff\xd9", at) < 0:
                raise truncated()
            return
        at += 2 if 0xD0 <= marker <= 0xD8 or marker == 1 else 2 + struct.unpack_from(">H", data, at + 2)[0]
    # A header that cannot be followed is for the decoder to refuse.


class _Shared:
    """A change to the whole process that threads share: the first in makes it, the last out undoes it."""

    def __init__(self, change: Callable[[], ContextManager[None]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._undo = contextlib.ExitStack()
        self.users = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self.users == 0:
                self._undo.enter_context(self._change())
            self.users += 1
        try:
            yield
        finally:
            with self._lock:
                self.users -= 1
                if self.users == 0:
                    self._undo.close()


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        # Pillow gives some warnings in its caller's name.
        warnings.filterwarnings("ignore", module=r"realesrgan\.files\.decoding$")
        yield


@contextlib.contextmanager
def _decoders() -> Iterator[None]:
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    getter, setter = getattr(cv2, "getLogLevel", None), getattr(cv2, "setLogLevel", None)
    level = getter() if getter else 0
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if getter and setter:
        setter(0)
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated
        if getter and setter:
            setter(level)


@contextlib.contextmanager
def _no_limit() -> Iterator[None]:
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


_shared_decoders = _Shared(_decoders)
_shared_warnings = _Shared(_no_warnings)

#: Lift Pillow's own pixel limit, where ours has been checked before.
any_size = _Shared(_no_limit)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings out of ``-W error``, OpenCV's remarks off the console, and Pillow strict about truncation.

    The lines that libtiff itself prints about some damaged files cannot be switched off through Pillow.
    """
    # Newer Pythons can keep the filters of warnings per thread; then each thread needs its own change.
    own = getattr(sys.flags, "context_aware_warnings", 0)
    with _shared_decoders(), _no_warnings() if own else _shared_warnings():
        yield
