"""Read a picture file: everything that can be wrong with it becomes a :class:`PictureError`.

Its content decides the format, its header is checked for the size, and then it is decoded. Pillow decodes whatever it
can represent, because it treats a truncated file as an error; what it would reduce to 8 bit (16-bit colour, 16-bit grey
with alpha) goes through :mod:`realesrgan.files.png` and :mod:`realesrgan.files.tiff`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import struct
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Optional, Tuple

import cv2
import numpy as np
from PIL import (
    BmpImagePlugin,
    DdsImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..errors import Phrase
from . import headers
from . import jpeg as jpeg_file
from . import png as png_file
from . import tiff as tiff_file
from .metadata import LIMIT, Metadata, clean_exif, fit_xmp, icc_fits, icc_space, xmp_orientation
from .paths import PathLike, openable
from .picture import (
    MAX_PIXELS,
    UNDECODABLE,
    Decoded,
    Note,
    PictureFile,
    Refused,
    check_size,
    damaged,
    failure,
    os_failure,
    truncated,
    unsupported,
)

__all__ = ["quiet", "read"]

#: Bytes that a file may have beyond eight a pixel: metadata, thumbnails, further frames.
_SLACK = 1 << 26
#: Pixels of a picture that are converted at a time, so that a large one is not held several times over.
_BAND = 1 << 21
_FIRST_FRAME = Note("note.first_frame", "animation: first frame only; use realesrgan video")
_TURNS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
_asked = threading.local()  # its ``stopped`` is that of the picture that this thread reads
Convert = Callable[[Image.Image], Image.Image]


def read(
    path: PathLike,
    *,
    max_pixels: int = MAX_PIXELS,
    accept_truncated: bool = False,
    stopped: Optional[Callable[[], bool]] = None,
) -> PictureFile:
    """Decode one picture file by its content, whatever its suffix.

    Depth and channels are the file's: 16 bit stay 16, palettes become RGB or RGBA, 1-bit and 2/4-bit grey become
    8-bit grey, CMYK and Lab become sRGB (through the file's profile if it has one). Of several frames or pages the
    first is read, with a note. The orientation that EXIF or XMP names is applied. Floating point and 32 bit become 16
    bit, with a note.

    Args:
        max_pixels: Larger pictures are refused from their header, before anything is decoded.
        accept_truncated: Accept a JPEG that is cut short, with a note; what is missing is grey.
        stopped: Asked now and then; once it is true, reading ends with an error (after Ctrl-C, say).

    Raises:
        PictureError: Always this, with the fields ``path`` and ``reason``: the file is missing, no regular file, not
            readable, empty, of no known format, damaged, truncated, too large or of a kind that is not supported.
    """
    data = _load(path, max_pixels)
    _asked.stopped = stopped
    try:
        with quiet():
            return _finish(_decode(data, max_pixels, PurePath(path).suffix.lower(), accept_truncated))
    except Refused as refused:
        raise failure(path, refused.code, str(refused), **refused.fields) from refused.__cause__
    except MemoryError as error:
        raise failure(path, "picture.memory", "there is not enough memory to decode it") from error
    except Exception as error:
        # Decoders of hostile input raise whatever they like: struct.error, SyntaxError, IndexError, cv2.error ...
        raise failure(path, "picture.damaged", "the file is damaged", detail=error) from error
    finally:
        _asked.stopped = None


def _load(path: PathLike, max_pixels: int) -> bytes:
    try:
        # Not blocking: opening a pipe without a writer would wait for ever.
        descriptor = os.open(openable(path), os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            _check_kind(path, os.fstat(descriptor), max_pixels)
            with open(descriptor, "rb", closefd=False) as stream:
                data = stream.read()
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EACCES and Path(openable(path)).is_dir():  # what Windows says of a folder
            raise failure(path, "picture.directory", "it is a folder, not a picture") from error
        raise os_failure(path, error, "read") from error
    except ValueError as error:  # a NUL character in the name
        reason = Phrase("picture.not_a_path", "this is not a path")
        raise failure(path, "picture.missing", reason) from error
    except MemoryError as error:
        raise failure(path, "picture.memory", "there is not enough memory to read it") from error
    if not data:
        raise failure(path, "picture.empty", "the file is empty")
    return data


def _check_kind(path: PathLike, status: os.stat_result, max_pixels: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise failure(path, "picture.directory", "it is a folder, not a picture")
    if not stat.S_ISREG(status.st_mode):
        raise failure(path, "picture.not_a_file", "it is a device or a pipe, not a file")
    if status.st_size > max_pixels * 8 + _SLACK:
        reason = f"the file has {status.st_size} bytes, more than any picture of {max_pixels} pixels needs"
        raise failure(path, "picture.file_size", reason, bytes=status.st_size, limit=max_pixels)


def _decode(data: bytes, max_pixels: int, suffix: str, accept_truncated: bool) -> Decoded:
    """Decode the first picture of a file. Decoders' own errors of any kind come through: they mean damage."""
    kind = headers.recognise(data, suffix)
    if kind == "PNG":
        return _decode_png(data, max_pixels)
    if kind == "JPEG":
        return _decode_jpeg(data, max_pixels, accept_truncated)
    if kind == "TIFF":
        return _decode_tiff(data, max_pixels)
    if kind in ("PNM", "PFM"):
        return _in_depth(headers.netpbm(data, max_pixels), kind)
    if kind == "HDR":
        headers.check_radiance(data, max_pixels)
        return _in_depth(_by_opencv(data), kind)
    if kind == "JPEG2000":
        bits = headers.jpeg2000(data, max_pixels)
        if bits > 8:
            return _in_depth(_full_range(_by_opencv(data), bits), kind)
    if kind == "WEBP":
        headers.check_webp(data, max_pixels)
    if kind == "DDS":
        headers.check_dds(data)
    image = _open(data, kind)
    check_size(image.width, image.height, max_pixels)
    if kind in ("HEIF", "AVIF"):
        decoded = _decode_iso(data, image, kind)
    else:
        decoded = _decode_image(image, kind)
    _keep_metadata(image, decoded)
    if _is_animated(image):
        decoded.notes.append(_FIRST_FRAME)
    return decoded


def _keep_metadata(image: Image.Image, decoded: Decoded) -> None:
    """What Pillow found in the file."""
    found = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp", "comment": "comment"}
    given: Dict[str, Any] = {name: image.info.get(key) for name, key in found.items()}
    given = {name: value for name, value in given.items() if isinstance(value, bytes) and value}
    decoded.lost += [name.upper() for name, value in given.items() if len(value) > LIMIT]
    given = {name: value for name, value in given.items() if len(value) <= LIMIT}
    if "comment" in given:
        given["comment"] = given["comment"].decode("utf-8", "replace")
    dpi = image.info.get("dpi")
    if isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < value < 1e6 for value in dpi):
        given["dpi"] = (float(dpi[0]), float(dpi[1]))
    decoded.metadata = replace(decoded.metadata, **given)


def _decode_iso(data: bytes, image: ImageFile.ImageFile, kind: str) -> Decoded:
    """HEIC and AVIF: what they say of colour and depth, which Pillow does not pass on."""
    color, bits = headers.iso_media(data)
    if kind == "HEIF" and bits > 8:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]

        array = np.asarray(pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False))
        if array.dtype == np.uint16:
            if array.ndim == 3:
                array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR if array.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
            decoded = _in_depth(array | array >> bits, kind)
            decoded.metadata = Metadata(color=color)
            return decoded
    decoded = _decode_image(image, kind)
    decoded.metadata = Metadata(color=color)
    if bits > 8:
        text = f"{kind} is read with 8 bit: its {bits}-bit values were rounded"
        decoded.notes.append(Note("note.read_depth", text, format=kind, bits=bits))
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
        "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
        "TGA": TgaImagePlugin.TgaImageFile,
        "DDS": DdsImagePlugin.DdsImageFile,
    }
    factory = plugins.get(kind) or _optional_plugin(kind)
    try:
        return factory(_Stream(data))
    except SyntaxError as error:
        raise damaged(error) from error


class _Stream(io.BytesIO):
    """The bytes of a file, as long as the caller of :func:`read` still wants the picture.

    Decoders ask for more again and again: a large picture takes seconds between its first byte and its last.
    """

    def read(self, size: Optional[int] = -1) -> bytes:
        if _asked.stopped is not None and _asked.stopped():
            raise Refused("picture.stopped", "reading it was stopped")
        return super().read(size)


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
    decoded.metadata, decoded.lost = png.metadata, png.lost
    if png.animated:
        decoded.notes.append(_FIRST_FRAME)
    return decoded


def _decode_jpeg(data: bytes, max_pixels: int, accept_truncated: bool) -> Decoded:
    jpeg = jpeg_file.Jpeg(data)
    check_size(jpeg.width, jpeg.height, max_pixels)
    found = jpeg.metadata
    decoded = _decode_image(_open(jpeg.plain(), "JPEG"), "JPEG", found.icc)
    if not jpeg.ended:
        other = _decode_image(_open(jpeg.plain(filling=True), "JPEG"), "JPEG", found.icc)
        whole = jpeg.complete and np.array_equal(decoded.pixels, other.pixels)
        if not whole and not accept_truncated:
            raise truncated(Phrase("truncated.jpeg", "its end is missing; --accept-truncated uses what was read"))
        note = Note("note.no_end", "its end marker is missing, all of its pixels were read")
        decoded.notes.append(note if whole else Note("note.truncated", "it is cut short: what is missing is grey"))
    decoded.metadata, decoded.lost = found, jpeg.lost
    return decoded


def _decode_tiff(data: bytes, max_pixels: int) -> Decoded:
    tiff = tiff_file.parse(data)
    check_size(tiff.width, tiff.height, max_pixels)
    check_size(*tiff.tile_size, max_pixels)
    found = tiff.metadata
    if tiff.unusual is not None:
        raise unsupported(tiff.unusual)
    if tiff.deep:
        planes = [_to_16_bit(_by_opencv(view)) for view in tiff.views()]
        decoded = tiff_file.assemble(tiff, [plane for plane, _ in planes])
        decoded.notes += planes[0][1]
    else:
        with _any_size():
            image = _open(tiff.plain(), "TIFF")
            check_size(image.width, image.height, max_pixels)
            decoded = _decode_image(image, "TIFF", found.icc)
        if tiff.bits == {12} and decoded.pixels.dtype == np.uint16:  # Pillow leaves them in the lower bits
            decoded.pixels = _full_range(decoded.pixels, 12)
    decoded.metadata, decoded.orientation, decoded.lost = found, tiff.orientation, tiff.lost
    decoded.notes += tiff.notes
    return decoded


def _by_opencv(data: bytes) -> np.ndarray:
    """Pixels as OpenCV gives them: HxW, BGR or BGRA of any type."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise damaged(UNDECODABLE)
    return pixels


def _full_range(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Values of 9 to 16 bit in uint16, stretched so that the largest is 65535."""
    return (pixels << (16 - bits)) | (pixels >> (2 * bits - 16))


def _in_depth(pixels: np.ndarray, kind: str) -> Decoded:
    """A picture that another decoder than Pillow gave, with at most 16 bit."""
    mode = "L" if pixels.ndim == 2 else {3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    pixels, notes = _to_16_bit(pixels)
    return Decoded(pixels, mode, kind, notes=notes)


def _to_16_bit(pixels: np.ndarray) -> Tuple[np.ndarray, List[Note]]:
    """uint16 of 32-bit and floating-point values, with a note: 1.0, or the largest value if that is more, is white."""
    if pixels.itemsize <= 2:
        return pixels, []
    if pixels.dtype.kind != "f":
        note = Note("note.deep", "its 32-bit values were rounded to 16 bit")
        return (pixels.view(np.uint32) >> 16).astype(np.uint16), [note]
    colors = 3 if pixels.ndim == 3 else 1  # the others are alpha, whose range is 0 to 1
    color = pixels[..., :3] if pixels.ndim == 3 else pixels
    white = max(1.0, float(np.max(color, where=np.isfinite(color), initial=0.0)))
    out = np.empty(pixels.shape, np.uint16)
    for number, row in enumerate(pixels):  # row by row: the products need more room
        scaled = np.nan_to_num(row.astype(np.float64), posinf=white, neginf=0.0).reshape(len(row), -1)
        scaled[:, :colors] /= white
        out[number] = np.rint(np.clip(scaled, 0.0, 1.0) * 65535).reshape(row.shape)
    told = f"{white:g}"
    return out, [Note("note.float", f"its floating-point values were stored as 16 bit, {told} as white", white=told)]


def _decode_image(image: Image.Image, kind: str, icc: Optional[bytes] = None) -> Decoded:
    """Decode with Pillow; ``icc`` is the file's profile, for CMYK."""
    notes = []
    image.load()
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG"):
        return Decoded(np.asarray(image).astype(np.uint16, copy=False), "L", kind)
    mode, convert = _conversion(image)
    converted = mode == ""
    if converted:
        mode, convert, note = _from_print(image, icc or image.info.get("icc_profile"))
        notes.append(note)
    return Decoded(_to_array(image, mode, convert), mode, kind, converted, notes=notes)


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
    if icc and icc_space(icc) == "CMYK":
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


def _finish(decoded: Decoded) -> PictureFile:
    """Turn the picture upright, and bring its metadata in order."""
    found = decoded.metadata
    notes, lost = list(decoded.notes), list(decoded.lost)
    exif, orientation = _exif(found.exif, notes, lost)
    xmp = found.xmp
    if xmp and len(xmp) > LIMIT:
        lost.append("XMP")
        xmp = None
    orientation = decoded.orientation or orientation or (xmp_orientation(xmp) if xmp else 1)
    pixels = np.ascontiguousarray(_upright(decoded.pixels, orientation))
    size = (pixels.shape[1], pixels.shape[0])
    icc, color = (None, None) if decoded.converted else (found.icc, found.color)
    if icc and not icc_fits(icc, decoded.mode):
        notes.append(Note("note.icc_dropped", "its colour profile does not fit its pixels and is left out"))
        icc = None
    if lost:
        what = ", ".join(dict.fromkeys(lost))
        notes.append(Note("note.lost", f"damaged or too large, and left out in whole or in part: {what}", what=what))
    xmp = fit_xmp(xmp, size, size) if xmp else None
    kept = replace(found, icc=icc or None, exif=exif, xmp=xmp, color=color, size=size)
    return PictureFile(pixels, decoded.mode, decoded.format, kept, tuple(notes))


def _exif(raw: Optional[bytes], notes: List[Note], lost: List[str]) -> Tuple[Optional[bytes], int]:
    """The block in order, and the orientation that it names, 0 where it names none."""
    for _ in range(2):  # some programs put the prefix twice
        raw = raw[6:] if raw and raw.startswith(b"Exif\0\0") else raw
    if not raw:
        return None, 0
    try:
        exif, orientation, whole = clean_exif(raw)
    except (ValueError, struct.error):
        notes.append(Note("note.exif_damaged", "its EXIF block is damaged or too large and is left out"))
        return None, 0
    lost += [] if whole else ["EXIF"]
    return exif, orientation


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror as EXIF says (1 to 8)."""
    if orientation in _TURNS:
        return cv2.rotate(pixels, _TURNS[orientation])
    if orientation == 2:
        return pixels[:, ::-1]
    if orientation == 4:
        return pixels[::-1]
    if orientation == 5:
        return pixels.swapaxes(0, 1)
    if orientation == 7:
        return pixels[::-1, ::-1].swapaxes(0, 1)
    return pixels


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


@_Shared
@contextlib.contextmanager
def _strict_decoders() -> Iterator[None]:
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    log = getattr(getattr(cv2, "utils", None), "logging", None)
    level = log.getLogLevel() if log else 0
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if log:
        log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated
        if log:
            log.setLogLevel(level)


@_Shared
@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """Lift Pillow's own pixel limit, where ours has been checked before."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        # Pillow gives some warnings in its caller's name.
        warnings.filterwarnings("ignore", module=r"realesrgan\.files\.reading$")
        yield


_shared_no_warnings = _Shared(_no_warnings)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings out of ``-W error``, OpenCV's remarks off the console, and Pillow strict about truncation.

    The lines that libtiff itself prints about some damaged files cannot be switched off through Pillow.
    """
    # Newer Pythons can keep the filters of warnings per thread; then each thread needs its own change.
    own = getattr(sys.flags, "context_aware_warnings", 0)
    with _strict_decoders(), _no_warnings() if own else _shared_no_warnings():
        yield
