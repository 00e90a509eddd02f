"""The sentences that a user reads, in both languages."""

from __future__ import annotations

import ast
import errno
import logging
import pickle
import re
from pathlib import Path

import pytest

from realesrgan import errors
from realesrgan.cli import messages
from realesrgan.cli import options as cli_options
from realesrgan.cli.console import Console
from realesrgan.cli.ko import KOREAN
from realesrgan.errors import (
    DeviceOutOfMemoryError,
    InputError,
    Lines,
    Phrase,
    PictureError,
    RealESRGANError,
    WeightsError,
    notice,
    one_line,
    visible,
)
from tests.support import sentences

SAID = list(sentences.said())
WITHOUT_CODE = ("device.lost", "device.memory")  # of a class


def test_the_search_finds_every_way_of_saying():
    codes = {said.code for said in SAID}
    assert codes >= {"output.file", "tile.smaller", "cli.summary", "note.first_frame", "cli.untiled"}
    assert len(codes) > 150


def test_every_code_has_a_korean_sentence():
    assert [(said.where, said.code) for said in SAID if said.code not in KOREAN] == []


def test_every_korean_sentence_is_said_somewhere():
    known = {"quote", *WITHOUT_CODE, *sentences.texts(), *(said.code for said in SAID)}
    assert [code for code in KOREAN if code not in known and not code.startswith("os.")] == []


def test_every_error_has_a_code_of_its_own():
    """An error without one cannot be said in Korean."""
    ours = {name for name in errors.__all__ if name.endswith("Error")} | {"VideoError"}
    default = {"DeviceLostError", "DeviceOutOfMemoryError"}
    for path in sentences.files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and sentences.called(node) in ours - default:
                assert any(keyword.arg in ("code", None) for keyword in node.keywords), f"{path}:{node.lineno}"


@pytest.mark.parametrize("said", SAID, ids=lambda said: f"{said.code}-{said.where}")
def test_both_languages_say_the_same_fields(said):
    korean = sentences.fields_of(KOREAN[said.code])
    if said.template:
        assert korean == said.english
    if said.fields is not None:
        assert korean <= said.fields | {"text"}, "the Korean sentence names a field that is not given"
        assert said.fields & said.english <= korean, "the Korean sentence leaves a value out"


@pytest.mark.parametrize("code", sorted(KOREAN))
def test_korean_is_korean(code):
    words = sentences.without_commands(re.sub(r"{\w+}", "", KOREAN[code]))
    assert re.search("[가-힣]", words) or not re.search("[a-z]{4}", words)
    assert sentences.english_in(words) == []


@pytest.mark.parametrize("code", sorted(KOREAN))
def test_every_sentence_can_be_said(code):
    fields = {name: f"<{name}>" for name in sentences.fields_of(KOREAN[code])}
    said = messages.render(Phrase(code, "English", **fields), "ko")
    assert all(value in said for value in fields.values())
    assert "{" not in said


def test_an_error_is_rendered():
    error = DeviceOutOfMemoryError("English.", device="directml:0", name="RX 580", tried=(512, 256, 32))
    assert messages.render(error, "en") == "English."
    korean = messages.render(error, "ko")
    assert "512, 256, 32" in korean
    assert "메모리가 부족합니다" in korean


@pytest.mark.english
def test_what_cannot_be_translated_stays_english():
    assert messages.render(RealESRGANError("Of no known code.", code="nobody.knows"), "ko") == "Of no known code."
    assert messages.render(PictureError("Without its fields.", code="picture.empty"), "ko") == "Without its fields."


@pytest.mark.parametrize("windows", [False, True])
def test_a_reason_is_said_in_the_readers_language(windows, monkeypatch):
    refused = 10061 if windows else errno.ECONNREFUSED
    if windows:  # as Python names it there
        monkeypatch.setitem(errno.errorcode, refused, "WSAECONNREFUSED")
    reached = WeightsError(
        "http://x cannot be reached: it is off. Check the connection.",
        code="weights.unreachable",
        url="http://x",
        reason=OSError(refused, "Connection refused"),
    )
    error = WeightsError(
        f"a was not downloaded: {one_line(reached)}.", code="weights.download_failed", name="a", reason=reached
    )
    assert str(error).count(".") == 2
    korean = messages.render(error, "ko")
    assert sentences.english_in(korean) == []
    assert "연결할 수 없습니다: 상대가 연결을 거부했습니다." in korean
    assert ".." not in korean


def test_a_text_of_another_program_is_a_quotation():
    error = WeightsError("x", code="weights.damaged", path="a.pth", reason=ValueError("bad magic number here"))
    assert "“bad magic number here”" in messages.render(error, "ko")
    assert sentences.english_in(messages.render(error, "ko")) == []


@pytest.mark.english
def test_the_search_finds_english():
    error = WeightsError("x", code="weights.damaged", path="a.pth", reason="it is too short")
    assert sentences.english_for_a_korean(error) == ["it is too short"]
    assert sentences.english_for_a_korean(WeightsError("x", code="weights.empty", path="it is my file.pth")) == []


@pytest.mark.parametrize("language", messages.LANGUAGES)
def test_control_characters_of_a_name_are_shown_as_escapes(language):
    name = "a\x1b[31m\nb\u202egnp.\r"
    error = PictureError(f"{name}: the file is empty.", code="picture.empty", path=name)
    for said in (str(error), messages.render(error, language), messages.render(errors.as_field(error), language)):
        assert r"a\x1b[31m\nb\u202egnp.\r" in said
        assert said == visible(said)
    assert error.fields["path"] == name
    listed = InputError(
        f"'{name}': one of\n{Lines(['x', 'y'])}", code="test.lines", name=name, models=Lines(["x", "y"])
    )
    assert str(listed).count("\n") == 2
    assert visible(name) in str(listed)
    said = messages.phrase("cli.failed_again", "  failed: {reason}.", reason=error)
    assert messages.render(said, language) == visible(messages.render(said, language))


def test_lines_escape_what_each_item_holds():
    assert Lines(["a\nb", "c"]) == "a\\nb\nc"


def test_braces_in_a_name_do_no_harm():
    error = PictureError("x", code="picture.empty", path="{0}{path}.png", reason="r")
    assert messages.render(error, "ko").startswith("{0}{path}.png:")
    assert "{0}" in messages.phrase("cli.failed_again", "  failed: {reason}.", reason=error.fields["path"])


def test_errors_and_phrases_travel_to_another_process():
    error = WeightsError("x.", code="weights.damaged", path=Path("a"), reason=PictureError("y.", code="picture.empty"))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code, again.fields) == (WeightsError, "x.", error.code, error.fields)
    assert again.fields["reason"].code == "picture.empty"
    lines = pickle.loads(pickle.dumps(Lines(["a", "b"])))
    assert (type(lines), lines) == (Lines, "a\nb")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("a\n  b."), "a b"),
        (ValueError(), "ValueError"),
        (OSError(2, "No such file or directory", "x"), "No such file or directory"),
        (RuntimeError("x" * 300), "x" * 200),
        (RuntimeError("\x1b[31mred"), r"\x1b[31mred"),
    ],
)
def test_what_an_error_says_in_one_line(error, expected):
    assert one_line(error) == expected


@pytest.mark.parametrize(
    ("words", "english", "korean"),
    [
        ("--foo", "unrecognized arguments: --foo", "알 수 없는 인수입니다: --foo"),
        ("x.png", "x.png (pictures are given with -i)", "(그림은 -i로 지정합니다)"),
        ("-i", "(a name that begins with a dash", "값이 하나 이상 필요합니다 (-로 시작하는"),
        ("-o", "argument -o/--output: expected one argument", "-o/--output: 값이 하나 필요합니다"),
        ("-t x", "'x' is not a whole number from 0 up", "'x'은(는) 쓸 수 없습니다. 필요한 값: 0 이상의 정수"),
        ("-s 0", "'0' is not a number above 0", "필요한 값: 0보다 큰 수"),
        ("--jpeg-quality 900", "'900' is not a whole number from 1 to 100", "1에서 100 사이의 정수"),
        ("-dn 2", "'2' is not a number from 0 to 1", "0에서 1 사이의 수"),
        ("--shard 5/4", "the share '5/4' must be between 1/4 and 4/4", "1/4에서 4/4 사이여야 합니다"),
        ("--shard x", "'x' is not of the form i/n", "i/n 형식이 아닙니다"),
        ("--ext exe", "invalid choice: 'exe'", "'exe'은(는) 쓸 수 없습니다. 쓸 수 있는 값: 'auto'|쓸 수 있는 값: auto"),
        ("--fp32 --fp16", "not allowed with argument --fp32", "--fp16은(는) --fp32와(과) 함께 쓸 수 없습니다"),
        ("--f", "ambiguous option: --f could match", "--f은(는) 뜻이 분명하지 않습니다"),
        ("--recursive=1", "ignored explicit argument '1'", "--recursive에는 값을 줄 수 없습니다: '1'"),
    ],
)
def test_wrong_usage_is_said_in_the_readers_language(words, english, korean, capsys, monkeypatch):
    for lang, expected in (("en", english), ("ko", korean)):
        with pytest.raises(SystemExit) as ended:
            cli_options.parse(["--lang", lang, *words.split()])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert any(text in said for text in expected.split("|")), said
        assert lang == "en" or sentences.english_in(said) == []
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    with pytest.raises(SystemExit):
        cli_options.parse(words.split())
    assert "오류" in capsys.readouterr().err


def test_a_notice_is_translated_by_its_code(caplog):
    logger = logging.getLogger("realesrgan.test")
    notice(logger, "tile.smaller", "English.", device="RX 580", tile=512, smaller=256)
    logger.warning("plain %s", "te\nxt")
    assert [messages.of_record(record) for record in caplog.records] == ["English.", r"plain te\nxt"]
    korean = [messages.render(messages.of_record(record), "ko") for record in caplog.records]
    assert "512" in korean[0]
    assert "줄여 계속합니다" in korean[0]
    assert korean[1] == r"plain te\nxt"


def test_a_notice_is_said_once(caplog):
    logger = logging.getLogger("realesrgan.test")
    for device in ("a", "b", "a"):
        notice(logger, "test.once", f"{device} is slow.", once=True, device=device)
    assert [record.getMessage() for record in caplog.records] == ["a is slow.", "b is slow."]
    errors.SAID.clear()
    notice(logger, "test.once", "a is slow.", once=True, device="a")
    assert len(caplog.records) == 3


def test_a_line_that_the_stream_cannot_hold_is_said_in_english(monkeypatch):
    import io
    import sys

    streams = {name: io.TextIOWrapper(io.BytesIO(), "cp1252", "backslashreplace") for name in ("cp1252", "cp949")}
    streams["cp949"] = io.TextIOWrapper(io.BytesIO(), "cp949", "backslashreplace")
    lines = {}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, "stderr", stream)
        console = Console("ko")
        console.error(PictureError("a.png: the file is empty.", code="picture.empty", path="a.png"))
        console.error(PictureError("사.png: the file is empty.", code="picture.empty", path="사.png"))
        lines[name] = stream.buffer.getvalue().decode(name).splitlines()
    assert lines["cp1252"] == ["a.png: the file is empty.", r"\uc0ac.png: the file is empty."]
    assert lines["cp949"] == ["a.png: 파일이 비어 있습니다.", "사.png: 파일이 비어 있습니다."]


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
