"""From the bytes of a file to pixels: recognise the format, check the size, decode with Pillow or OpenCV.

Pillow decodes whatever it can hold, because it treats a truncated file as an error; what it would reduce to 8 bit
(16-bit colour, 16-bit grey with alpha) goes through :mod:`realesrgan.files.png` and :mod:`realesrgan.files.tiff`.
"""

from __future__ import annotations

import io
from typing import Callable, Optional, Tuple

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

from . import formats, metadata
from . import png as png_file
from . import tiff as tiff_file
from .decoder_settings import any_size
from .picture import Decoded, Note, Refused, check_size, unsupported

__all__ = ["decode"]

#: Pixels of a picture that are converted at a time, so that a large one is not held several times over.
_BAND = 1 << 21
Convert = Callable[[Image.Image], Image.Image]


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decode the first picture of a file.

    Raises:
        Refused: With the reason. Decoders' own errors of any kind come through: they mean damage.
    """
    kind = formats.recognise(data)
    if kind == "PNG":
        return _decode_png(data, max_pixels)
    if kind == "TIFF":
        return _decode_tiff(data, max_pixels)
    if kind == "WEBP":
        formats.check_webp(data, max_pixels)
    if kind == "JPEG":
        formats.check_jpeg(data)
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
        raise Refused("picture.damaged", f"the file is damaged ({error})") from error


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
    with any_size():
        if tiff.deep_channels:
            planes = [_grey16(_open(view, "TIFF")) for view in tiff.grey_views()]
            decoded = tiff_file.assemble(tiff, planes)
        else:
            image = _open(tiff.plain(), "TIFF")
            check_size(image.width, image.height, max_pixels)
            decoded = _decode_image(image, "TIFF", tiff.icc)
            tiff_file.correct_grey(tiff, decoded)
    decoded.icc = tiff.icc if decoded.icc is None else decoded.icc
    decoded.exif, decoded.orientation = tiff.exif, tiff.orientation
    decoded.notes.extend(tiff.notes)
    return decoded


def _grey16(image: Image.Image) -> np.ndarray:
    image.load()
    return np.asarray(image)


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
