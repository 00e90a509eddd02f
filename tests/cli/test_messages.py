"""The sentences that a user reads, in both languages."""

from __future__ import annotations

import ast
import logging
import re
import string
from pathlib import Path

import pytest

import realesrgan
from realesrgan.cli import messages
from realesrgan.errors import DeviceOutOfMemoryError, PictureError, RealESRGANError, notice

PACKAGE = Path(realesrgan.__file__).parent
CODES = sorted(messages.MESSAGES)


@pytest.mark.parametrize("code", CODES)
def test_both_languages_say_the_same_fields(code):
    sentences = messages.MESSAGES[code]
    assert set(sentences) == set(messages.LANGUAGES)
    english, korean = (
        {name for _, name, _, _ in string.Formatter().parse(sentences[lang]) if name} for lang in ("en", "ko")
    )
    assert english == korean


def words(code, language):
    return re.sub(r"{\w+}", "", messages.MESSAGES[code][language])


@pytest.mark.parametrize("code", [code for code in CODES if re.search("[a-z]{4}", words(code, "en"))])
def test_korean_is_korean(code):
    assert re.search("[가-힣]", words(code, "ko"))


@pytest.mark.parametrize("language", messages.LANGUAGES)
@pytest.mark.parametrize("code", CODES)
def test_every_sentence_can_be_said(code, language):
    fields = {name: f"<{name}>" for name in messages.fields_of(messages.MESSAGES[code]["en"])}
    said = messages.say(code, language, **fields)
    assert all(value in said for value in fields.values())
    assert "{" not in said


def sources():
    """The package's files without training and tools, which have words of their own."""
    others = {"train.py", "models", "data", "tools"}
    return sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in others)


def uses():
    """(code, names of the fields) of every notice and error in the package whose code is written out."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            code = node.args[1] if name == "notice" and len(node.args) > 1 else keywords.get("code")
            if isinstance(code, ast.Constant) and isinstance(code.value, str) and None not in keywords:
                yield code.value, set(keywords) - {"code", "level"}, f"{path.name}:{node.lineno}"


def test_the_package_gives_every_field_that_a_sentence_names():
    """A sentence whose field is not given would silently stay English."""
    missing = [
        (where, code, field)
        for code, fields, where in uses()
        if code in messages.MESSAGES
        for field in messages.fields_of(messages.MESSAGES[code]["en"]) - fields
    ]
    assert missing == []


def test_every_notice_is_in_the_table():
    """Notices are what a user reads while all goes well: none may be left out."""
    known = set(messages.MESSAGES)
    for path in sources():
        for match in re.finditer(r'\bnotice\(\s*\w+,\s*"([\w.]+)"', path.read_text(encoding="utf-8")):
            assert match.group(1) in known, f"{path.name} says {match.group(1)}"


def test_every_fault_of_a_weight_file_is_in_the_table():
    """``expected`` and ``found`` are named in both languages where the error has them."""
    own = {"checkpoints.py", "fetch.py", "loading.py", "ncnn.py"}
    arguments = {"weights.from", "weights.dni", "weights.mix_count", "weights.destination"}
    codes = {code: fields for code, fields, where in uses() if where.split(":")[0] in own}
    assert len(codes) > 20
    for code in set(codes) - arguments:
        for language in messages.LANGUAGES:
            named = messages.fields_of(messages.MESSAGES[code][language])
            assert named >= codes[code] & {"expected", "found", "path"}, code


def test_an_error_is_rendered():
    error = DeviceOutOfMemoryError("English.", device="directml:0", name="RX 580", tried=(512, 256, 32))
    assert messages.render(error, "en") == "English."
    korean = messages.render(error, "ko")
    assert "512, 256, 32" in korean
    assert "메모리가 부족합니다" in korean


def test_what_cannot_be_translated_stays_english():
    assert messages.render(RealESRGANError("Of no known code.", code="nobody.knows"), "ko") == "Of no known code."
    assert messages.render(PictureError("Without its fields.", code="picture.empty"), "ko") == "Without its fields."


def test_braces_in_a_name_do_no_harm():
    error = PictureError("x", code="picture.empty", path="{0}{path}.png", reason="r")
    assert messages.render(error, "ko").startswith("{0}{path}.png:")


def test_a_notice_is_translated_by_its_code():
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record)

    logger = logging.getLogger("test.messages")
    logger.propagate = False
    logger.addHandler(Keep())
    notice(logger, "tile.smaller", "English.", device="RX 580", tile=512, smaller=256)
    logger.warning("plain %s", "text")
    assert [messages.render_record(record, "en") for record in records] == ["English.", "plain text"]
    korean = [messages.render_record(record, "ko") for record in records]
    assert "512" in korean[0]
    assert "줄여 계속합니다" in korean[0]
    assert korean[1] == "plain text"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.eucKR"}, "ko"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "C", "LC_MESSAGES": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "", "LC_ALL": "ko"}, "ko"),
    ],
)
def test_the_systems_language(environment, expected):
    assert messages.system_language(environment) == expected


@pytest.mark.parametrize(("identifier", "expected"), [(0x0412, "ko"), (0x0409, "en"), (0x0C12, "ko")])
def test_the_language_of_windows(monkeypatch, identifier, expected):
    import ctypes

    class Kernel:
        @staticmethod
        def GetUserDefaultUILanguage():
            return identifier

    monkeypatch.setattr(ctypes, "WinDLL", lambda name: Kernel, raising=False)
    monkeypatch.setattr(messages.sys, "platform", "win32")
    assert messages.system_language({}) == expected
