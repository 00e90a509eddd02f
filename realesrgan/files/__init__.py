"""Picture files: the one door to listing, reading, naming and writing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_door

if TYPE_CHECKING:
    from .atomic import remove_leftovers, write_atomically
    from .listing import list_pictures
    from .metadata import Metadata
    from .naming import OutputPlan, Source, choose_extension, output_path, plan_outputs
    from .paths import same_file
    from .picture import MAX_PIXELS, Note, PictureFile
    from .reading import read
    from .writing import check_result, write

__all__ = [
    "MAX_PIXELS",
    "Metadata",
    "Note",
    "OutputPlan",
    "PictureFile",
    "Source",
    "check_result",
    "choose_extension",
    "list_pictures",
    "output_path",
    "plan_outputs",
    "read",
    "remove_leftovers",
    "same_file",
    "write",
    "write_atomically",
]

__getattr__, __dir__ = lazy_door(
    __name__,
    {
        "atomic": ["remove_leftovers", "write_atomically"],
        "listing": ["list_pictures"],
        "metadata": ["Metadata"],
        "naming": ["OutputPlan", "Source", "choose_extension", "output_path", "plan_outputs"],
        "paths": ["same_file"],
        "picture": ["MAX_PIXELS", "Note", "PictureFile"],
        "reading": ["read"],
        "writing": ["check_result", "write"],
    },
)
