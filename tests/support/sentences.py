"""The sentences of the package, found in its source, and English that reaches a Korean reader."""

from __future__ import annotations

import ast
import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any, FrozenSet, Iterator, List, Optional, Set

import realesrgan
from realesrgan.cli import messages
from realesrgan.cli.ko import KOREAN
from realesrgan.errors import Phrase

PACKAGE = Path(realesrgan.__file__).parent
# These speak English only.
_ENGLISH_ONLY = {"train.py", "models", "data"}
_CODE = re.compile(r"[a-z][a-z_0-9]*(\.\w+)+|environment")
# Where a call has its code, its English text and its fields: the position of the code among the arguments.
_CALLS = {"notice": 1, "Phrase": 0, "Note": 0, "phrase": 0, "say": 0, "warn": 0, "Refused": 0, "failure": 1}
_NO_FIELDS = {"code", "level", "once", "problem"}
_ADDED = frozenset({"path", "reason", "detail"})  # by realesrgan.files.picture.failure

#: Fields that hold what a user, a file or the machine calls something.
NAMES = frozenset(
    re.findall(
        r"\w+",
        """backend codec command container device encoder files folder folders format input inputs library listing model
        models name nearest network other output package parameter path paths pix_fmt searched target url urls value
        variable""",
    )
)
_QUOTED = re.compile(r"“[^”]*”|'[^']*'")
_COMMAND = re.compile(r"(?:python|pip|py|realesrgan|wsl|ffmpeg)(?: [\w./:=\[\]<>,+-]+)+", re.ASCII)
_ENGLISH = re.compile(r"\b[A-Za-z]+(?: [a-z]+){2,}")


@dataclass(frozen=True)
class Said:
    """A place in the source that says a sentence.

    Attributes:
        fields: The names of the keyword arguments; None where some are not written out.
        english: The names in the English text's braces: fields of a template, or variables of an f-string.
        template: Whether the text is a template, formatted later with the fields.
        finding: Whether it is a finding of the doctor, or its next step.
    """

    code: str
    where: str
    fields: Optional[FrozenSet[str]]
    english: FrozenSet[str]
    template: bool
    finding: bool = False


def files() -> List[Path]:
    """The modules that speak both languages."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in _ENGLISH_ONLY)


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def fields_of(template: str) -> FrozenSet[str]:
    """The names of the fields of a template."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(template) if name)


def said() -> Iterator[Said]:
    """Every place of the package whose code is written out."""
    for path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
            if called(node) == "Finding":  # severity, code, what, step
                fields = frozenset(str(name) for name in keywords)
                for value in _codes(node.args[1]):
                    yield Said(f"doctor.{value}", where, fields, _names(node.args[2]), True, True)
                    yield Said(f"doctor.{value}.next", where, fields, _names(node.args[3]), True, True)
                continue
            place = _CALLS.get(called(node))
            code = keywords.get("code")
            if code is None and place is not None and len(node.args) > place:
                code = node.args[place]
            more = _ADDED if called(node) in ("Refused", "failure") else frozenset()
            texts = [argument for argument in node.args if argument is not code]
            for value in _codes(code):
                yield Said(
                    value,
                    where,
                    None if None in keywords else frozenset(set(keywords) - _NO_FIELDS) | more,
                    frozenset().union(*map(_names, texts)),
                    called(node) in ("say", "warn", "phrase"),
                )


def texts() -> Set[str]:
    """Every text that is written out in the package, but for the Korean table."""
    found: Set[str] = set()
    for path in files():
        if path.name != "ko.py":
            constants = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            found |= {
                node.value for node in constants if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
    return found


def _codes(node: Optional[ast.AST]) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from _codes(node.body)
        yield from _codes(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _CODE.fullmatch(node.value):
        yield node.value


def _names(text: ast.AST) -> FrozenSet[str]:
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        try:
            return fields_of(text.value)
        except ValueError:
            return frozenset()
    found: Set[str] = set()
    for value in ast.walk(text):
        if isinstance(value, ast.FormattedValue):
            found |= {name.id for name in ast.walk(value.value) if isinstance(name, ast.Name)}
    return frozenset(found)


def english_in(text: str) -> List[str]:
    """English sentences of three words or more in a Korean one; commands and quotations are none."""
    return _ENGLISH.findall(without_commands(text))


def without_commands(text: str) -> str:
    """The text without commands to type and without quotations."""
    return _COMMAND.sub("", _QUOTED.sub("", text))


def english_for_a_korean(sentence: Any) -> List[str]:
    """English that an error or a phrase shows to a Korean reader, apart from names of the user's own."""
    if sentence.code not in KOREAN or not fields_of(KOREAN[sentence.code]) <= set(sentence.fields):
        return []  # made by a test; other tests find codes and fields that the package lacks
    return english_in(messages.render(_without_names(sentence), "ko"))


def _without_names(sentence: Any) -> Phrase:
    fields = {}
    for name, value in sentence.fields.items():
        if isinstance(value, Phrase):
            value = _without_names(value)
        elif name in NAMES:
            value = "…"
        elif isinstance(value, tuple):
            value = tuple(_without_names(item) if isinstance(item, Phrase) else item for item in value)
        fields[name] = value
    return Phrase(sentence.code, str(sentence), **fields)
