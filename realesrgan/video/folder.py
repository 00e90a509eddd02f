"""A folder of pictures as a video."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Iterator, List, Optional, Sequence

import cv2
import numpy as np

from .. import files
from ..errors import PictureError, notice
from . import pyav
from .probe import Colour, VideoInfo
from .problems import VideoError
from .source import REPEATED, Anchor, Shot

__all__ = ["FolderSource"]

logger = logging.getLogger(__name__)


class FolderSource:
    """The pictures of a folder, one frame each, by name.

    Rule for damage: in the place of a picture that cannot be read the one before is shown again (at the start: the
    first readable one).

    Args:
        folder: Stands for the input in messages.
        paths: The pictures, in order.
        rate: Frames a second.

    Raises:
        VideoError: None of them can be read.
    """

    step = 1

    def __init__(self, folder: Path, paths: Sequence[Path], rate: Fraction) -> None:
        self._paths = list(paths)
        first = next(filter(lambda pixels: pixels is not None, map(self._read, self._paths)), None)
        if first is None:
            raise VideoError(
                f"{folder}: none of its {len(self._paths)} pictures can be read.",
                code="video.unreadable",
                path=str(folder),
                reason="no picture can be read",
            )
        unknown = pyav.UNKNOWN
        alpha = first.ndim == 3 and first.shape[2] == 4
        self.info = VideoInfo(
            path=folder,
            index=-1,
            width=int(first.shape[1]),
            height=int(first.shape[0]),
            time_base=1 / rate,
            rate=rate,
            frames=len(self._paths),
            duration=float(len(self._paths) / rate),
            pix_fmt="bgra" if alpha else "bgr24",
            depth=16 if first.dtype == np.uint16 else 8,
            alpha=alpha,
            is_rgb=True,
            colour=Colour(0, pyav.FULL_RANGE, unknown, unknown),
            assumed=False,
            sar=Fraction(1),
            rotation=None,
            interlaced=False,
        )

    def _read(self, path: Path) -> Optional[np.ndarray]:
        try:
            return files.read(path).pixels
        except PictureError as error:
            notice(logger, error.code, str(error), **error.fields)
            return None

    def shots(self, anchor: Optional[Anchor] = None) -> Iterator[Shot]:
        """The frames, all or those after ``anchor``.

        Raises:
            VideoError: A picture has another size than the first.
        """
        start = 0 if anchor is None else anchor.index + 1
        before: Optional[np.ndarray] = None
        waiting: List[int] = []
        for index in range(start, len(self._paths)):
            pixels = self._read(self._paths[index])
            if pixels is None and before is None:
                waiting.append(index)
                continue
            concealed = REPEATED if pixels is None else ""
            picture = before if pixels is None else self._fit(pixels, self._paths[index])
            for early in waiting:
                yield Shot(early, early, early, picture, REPEATED)
            waiting = []
            before = picture
            yield Shot(index, index, index, picture, concealed)

    def _fit(self, pixels: np.ndarray, path: Path) -> np.ndarray:
        info = self.info
        if pixels.shape[:2] != (info.height, info.width):
            raise VideoError(
                f"{path} has {pixels.shape[1]}x{pixels.shape[0]} pixels, the pictures before it {info.width}x"
                f"{info.height}: the frames of a video have one size.",
                code="video.frame_size",
                path=str(path),
                size=f"{pixels.shape[1]}x{pixels.shape[0]}",
                first=f"{info.width}x{info.height}",
            )
        if info.depth == 8 and pixels.dtype == np.uint16:
            pixels = (pixels / 257.0).round().astype(np.uint8)
        elif info.depth == 16 and pixels.dtype == np.uint8:
            pixels = pixels.astype(np.uint16) * 257
        if pixels.ndim == 2:
            pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
        if pixels.shape[2] == 3 and info.alpha:
            pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA))
        return pixels if info.alpha or pixels.shape[2] == 3 else np.ascontiguousarray(pixels[:, :, :3])
