"""Picture files: the one door to listing, reading, naming and writing them."""

from __future__ import annotations

from .atomic import remove_leftovers, write_atomically
from .listing import list_pictures
from .naming import OutputPlan, Source, choose_extension, output_path, plan_outputs, same_file
from .picture import MAX_PIXELS, Note, PictureFile
from .reader import read
from .writer import write

__all__ = [
    "MAX_PIXELS",
    "Note",
    "OutputPlan",
    "PictureFile",
    "Source",
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
