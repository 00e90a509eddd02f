"""Videos: frames in, enlarged frames out, everything else as it was.

``pyav`` is the only module that imports PyAV; ``tasks`` says what there is to do, ``probe`` what a file contains;
``source`` and ``animation`` give its frames, ``pixels`` turns them into arrays and back, ``encoding`` and ``journal``
write them in segments that survive a crash, ``join`` puts the segments and the file's other streams together, and
``run`` leads one video through all of it. Where several devices work, ``pieces`` cuts the video, ``worker`` does a
piece, and ``shared`` hands them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_door

if TYPE_CHECKING:
    from .pyav import VideoError

__all__ = ["VideoError"]

__getattr__, __dir__ = lazy_door(__name__, {"pyav": __all__})
