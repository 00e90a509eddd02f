r"""Paths as Windows has them, tested anywhere: prefixes, lengths, device names, quotes, unresolvable folders."""

from __future__ import annotations

import errno
import ntpath
import os
from pathlib import Path, PureWindowsPath
from typing import Any, List, Optional

import pytest

from realesrgan.errors import InputError
from realesrgan.files import list_pictures, paths, picture, plan_outputs
from realesrgan.files.naming import Source
from realesrgan.files.paths import same_file

LONG = "C:\\" + "\\".join(["폴더" * 20] * 6)  # 246 characters


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (r"C:\x\a.png", r"C:\x\a.png"),
        ("C:\\" + "x" * 196, "C:\\" + "x" * 196),
        ("C:\\" + "x" * 197, "\\\\?\\C:\\" + "x" * 197),
        (LONG + r"\a.png", "\\\\?\\" + LONG + r"\a.png"),
        (LONG.replace("\\", "/") + "/../a.png", "\\\\?\\" + LONG.rpartition("\\")[0] + "\\a.png"),
        ("\\\\server\\share\\" + "y" * 250, "\\\\?\\UNC\\server\\share\\" + "y" * 250),
        ("\\\\?\\" + LONG, "\\\\?\\" + LONG),
        # outside the first 65,536 characters each counts twice
        ("C:\\" + "😀" * 99, "\\\\?\\C:\\" + "😀" * 99),
    ],
)
def test_long_paths_get_the_prefix(path: str, expected: str) -> None:
    assert paths.openable(path, windows=True) == expected
    assert paths.openable(path, windows=False) == path


def test_what_is_shown_has_no_prefix() -> None:
    for path in (r"C:\x\a.png", LONG, r"\\server\share\a.png"):
        assert paths.shown(paths.openable(path, windows=True), windows=True) == path
    assert paths.shown("\\\\?\\x", windows=False) == "\\\\?\\x"


def test_lengths_are_told_as_windows_counts_them() -> None:
    assert paths.too_long("C:\\" + "x" * 256, windows=True) is None
    assert paths.too_long("C:\\" + "x" * 257, windows=True) == 260
    assert paths.too_long("\\\\?\\C:\\" + "x" * 257, windows=True) == 260
    assert paths.too_long("C:\\" + "x" * 257, windows=False) is None


def refused(number: int, winerror: int = 0) -> OSError:
    error = OSError(number, "no")
    if winerror:
        error.winerror = winerror  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("doing", "error", "code"),
    [
        ("write", refused(errno.ENOENT, 3), "picture.path_length"),
        ("write", refused(errno.ENOENT, 206), "picture.path_length"),
        ("read", refused(errno.ENOENT, 206), "picture.path_length"),
        ("read", refused(errno.ENOENT, 2), "picture.missing"),
        ("write", refused(errno.ENOSPC), "picture.disk_full"),
    ],
)
def test_a_path_that_is_too_long_is_called_that(
    monkeypatch: pytest.MonkeyPatch, doing: str, error: OSError, code: str
) -> None:
    monkeypatch.setattr(picture, "too_long", lambda path: paths.too_long(path, windows=True))
    told = picture.os_failure("C:\\" + "x" * 300, error, doing)
    assert told.code == code
    if code == "picture.path_length":
        assert "the path is too long for Windows (303 characters)" in str(told)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("CON", "CON"),
        ("con.png", "con.png"),
        ("C:\\x\\nul", "nul"),
        (r"C:\aux\a.png", "aux"),
        ("com1.tar.gz", "com1.tar.gz"),
        ("COM\u00b9", "COM\u00b9"),
        ("lpt9 .txt", "lpt9 .txt"),
        ("con:", "con:"),
        ("conin$", "conin$"),
        ("console.png", None),
        ("com10", None),
        (r"\\?\C:\con", None),
        (r"C:\x\a.con", None),
    ],
)
def test_device_names(path: str, part: Optional[str]) -> None:
    assert paths.reserved_part(path, windows=True) == part
    assert paths.reserved_part(path, windows=False) is None


def test_a_device_name_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from realesrgan.files import atomic, listing

    def on_windows(path: Any) -> Optional[str]:
        return paths.reserved_part(path, windows=True)

    monkeypatch.setattr(listing, "reserved_part", on_windows)
    with pytest.raises(InputError, match=r"CON: Windows reserves the name CON for a device\.") as caught:
        list_pictures(["CON"])
    assert caught.value.code == "input.reserved"
    if os.name != "nt":  # as on Windows 11, where this may be a file
        (tmp_path / "aux.png").write_bytes(b"")
        assert len(list_pictures([tmp_path / "aux.png"])) == 1
    monkeypatch.setattr(atomic, "reserved_part", on_windows)
    with pytest.raises(OSError, match="Windows reserves the name nul"):
        atomic.write_atomically(tmp_path / "nul", lambda stream: None)


def unresolvable(monkeypatch: pytest.MonkeyPatch) -> List[Any]:
    """os.path.realpath as on a RAM disk of Windows."""
    asked: List[Any] = []

    def realpath(path: Any) -> str:
        asked.append(path)
        raise OSError(errno.EINVAL, "Incorrect function")

    monkeypatch.setattr(os.path, "realpath", realpath)
    return asked


def test_a_folder_that_cannot_be_resolved_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from realesrgan.files import atomic

    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(b"")
    (tmp_path / "in" / "deep" / "b.png").write_bytes(b"")
    asked = unresolvable(monkeypatch)
    sources = list_pictures([tmp_path / "in"], recursive=True, exclude=[tmp_path / "in" / "out"])
    assert [str(source.relative) for source in sources] == ["a.png", str(Path("deep", "b.png"))]
    plan = plan_outputs(sources, tmp_path / "in" / "out")
    target = plan.path(sources[0], ".png")
    assert target == tmp_path / "in" / "out" / "a_out.png"
    atomic.write_atomically(target, lambda stream: stream.write(b"x"))
    assert target.read_bytes() == b"x"
    assert not same_file(target, tmp_path / "not there")
    assert asked


def test_the_prefix_is_no_pattern() -> None:
    assert paths.unprefixed(r"\\?\C:\x\*.png", windows=True) == ("\\\\?\\", r"C:\x\*.png")
    assert paths.unprefixed(r"\\?\UNC\server\share\a?.png", windows=True) == ("\\\\?\\UNC\\", r"\\server\share\a?.png")
    assert paths.unprefixed(r"C:\x", windows=True) == ("", r"C:\x")
    assert paths.unprefixed("\\\\?\\x", windows=False) == ("", "\\\\?\\x")


@pytest.mark.skipif(os.name != "nt", reason="the prefix is Windows' own")
def test_a_pattern_behind_the_prefix(tmp_path: Path) -> None:
    (tmp_path / "한 글").mkdir()
    for name in ("a.png", "b.png", "c.txt"):
        (tmp_path / "한 글" / name).write_bytes(b"")
    found = list_pictures([f"\\\\?\\{tmp_path}\\한 글\\*.png"])
    assert [str(source.relative) for source in found] == ["a.png", "b.png"]
    with pytest.raises(InputError, match="does not exist"):
        list_pictures([f"\\\\?\\{tmp_path}\\missing.png"])


def test_sources_that_differ_in_case_only_are_two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a folder of Windows that was made case-sensitive: normcase says one, the file system two."""
    upper, lower = tmp_path / "A.png", tmp_path / "a.png"
    lower.write_bytes(b"1")
    upper.write_bytes(b"22")
    if lower.read_bytes() == b"22":
        pytest.skip("this file system has one name for both")
    monkeypatch.setattr(os.path, "normcase", lambda path: str(path).lower())
    sources = list_pictures([tmp_path, tmp_path / "a.png"])
    assert [source.path.name for source in sources] == ["A.png", "a.png"]
    plan = plan_outputs(sources, tmp_path / "out", case_sensitive=False)
    assert list(plan.clashes(".png")) == [sources[1]], "in a folder that is not, one of them is refused by name"


def test_sources_are_told_apart_by_their_spelling() -> None:
    first, second = (Source(PureWindowsPath(name), PureWindowsPath(name)) for name in ("A.png", "a.png"))
    assert first.path == second.path
    assert len({first, second}) == 2
    assert first == Source(PureWindowsPath("A.png"), PureWindowsPath("A.png"))


def test_a_quotation_mark_at_the_end_is_understood() -> None:
    assert paths.unquoted(["-i", 'C:\\dir"'], windows=True) == ["-i", "C:\\dir"]
    assert paths.unquoted(["-i", 'C:\\dir" -o out -s 2'], windows=True) == ["-i", "C:\\dir", "-o", "out", "-s", "2"]
    assert paths.unquoted(["-i", "C:\\dir\\", ""], windows=True) == ["-i", "C:\\dir\\", ""]
    assert paths.unquoted(['a"b'], windows=False) == ['a"b']


def test_messages_show_paths_as_they_are_typed(tmp_path: Path) -> None:
    for typed in ("C:\\사진\\없음.png", "it's.png"):
        with pytest.raises(InputError) as caught:
            list_pictures([typed])
        assert str(caught.value).startswith(f"'{typed}' does not exist.")


def test_a_long_folder_is_read_and_written(tmp_path: Path) -> None:
    """On Windows this needs the prefix; Wine has no such limit."""
    import numpy as np

    from realesrgan import files

    deep = tmp_path
    while len(str(deep)) < 300:
        deep = deep / "깊은 폴더 안의 폴더"
    target = deep / "그림.png"
    files.write(target, np.zeros((4, 5, 3), np.uint8))
    assert files.read(target).pixels.shape == (4, 5, 3)
    (source,) = list_pictures([tmp_path], recursive=True)
    assert source.path.stat().st_size > 0
    assert source.relative.name == "그림.png"
    again = plan_outputs([source], deep / "more").path(source, ".png")
    files.write(again, np.zeros((4, 5, 3), np.uint8))
    assert again.exists()
    assert ntpath.basename(str(again)) == again.name


@pytest.mark.skipif(os.name != "nt", reason="they are devices of Windows")
@pytest.mark.parametrize("name", ["CON", "nul", "COM1", "aux"])
def test_an_output_folder_may_not_be_a_device(tmp_path: Path, name: str) -> None:
    from realesrgan.batch import plan

    for output in (Path(name), tmp_path / name, tmp_path / name / "deeper"):
        with pytest.raises(InputError, match=f"Windows reserves the name {name}"):
            plan.check_output_folder(output)


def test_records_of_a_long_path_are_found_with_and_without_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    from realesrgan.batch import report

    monkeypatch.setattr(report, "shown", lambda path: paths.shown(path, windows=True))
    assert report.key("\\\\?\\C:\\x\\a.png") == report.key("C:\\x\\a.png")


def test_the_prefix_is_not_shown_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    from realesrgan.cli import messages

    monkeypatch.setattr(messages, "shown", lambda path: paths.shown(path, windows=True))
    assert str(messages.phrase("batch.done", "-> {output}", output="\\\\?\\" + LONG)) == "-> " + LONG
