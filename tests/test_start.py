"""start.cmd, start.sh and scripts/start.py: the names that are dropped, the menu, a Python when none fits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

import pytest

from tests.support.windows import ON_WINE

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
try:
    import environment
    import first_run
    import start
finally:
    sys.path.remove(str(ROOT / "scripts"))

CMD = r"C:\Windows\system32\cmd.exe"
LINES = [
    # what Explorer starts: quotes only where there is a space
    (CMD + r' /c ""C:\ai\start.cmd" "', []),
    (CMD + r' /c ""C:\ai\start.cmd" C:\dir\a&b.jpg"', [r"C:\dir\a&b.jpg"]),
    (
        CMD + r' /c ""C:\내 폴더\start.cmd" "C:\사진 1\한글 100% ^!.png" C:\x(1).png D:\%TEMP%"',
        [r"C:\사진 1\한글 100% ^!.png", r"C:\x(1).png", r"D:\%TEMP%"],
    ),
    (CMD + r' /c ""C:\ai\start.cmd" "C:\with space\""', ["C:\\with space\\"]),
    ('"C:\\Windows\\System32\\cmd.exe" /C "C:\\ai\\start.cmd" C:\\a.png', [r"C:\a.png"]),
    (CMD + r" /d /c start.cmd a.png b.png", ["a.png", "b.png"]),
    # a terminal, in which start.cmd was typed: its arguments count
    (CMD, None),
    ('"C:\\Windows\\System32\\cmd.exe" /k', None),
    (CMD + " /c other.bat start", None),
    ("", None),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_dropped(line: str, expected: Optional[List[str]]) -> None:
    assert start.dropped(line) == expected


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> List[List[str]]:
    """What first_run.py is asked to do; nothing is installed."""
    made: List[List[str]] = []

    def main(argv: List[str]) -> int:
        made.append(argv)
        return 0

    monkeypatch.setattr(first_run, "main", main)
    monkeypatch.setattr(environment, "choose_python", lambda windows, running: running)
    monkeypatch.setattr(start, "language", lambda: 0)
    monkeypatch.setenv("REALESRGAN_VENV", str(tmp_path / "venv"))
    return made


def answers(monkeypatch: pytest.MonkeyPatch, *given: str) -> None:
    left: Iterator[str] = iter(given)

    def read() -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)


def test_pictures_are_enlarged_after_installing(ran: List[List[str]]) -> None:
    assert start.main(["a b.png", "폴더"]) == 0
    assert ran == [["--install-only"], ["-i", "a b.png", "폴더", "-o", str(ROOT / "results")]]


def test_the_line_counts_more_than_the_arguments(ran: List[List[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALESRGAN_START_LINE", CMD + r' /c ""C:\ai\start.cmd" C:\dir\a&b.jpg"')
    assert start.main([r"C:\dir\a"]) == 0
    assert ran[1][:2] == ["-i", r"C:\dir\a&b.jpg"]
    assert "REALESRGAN_START_LINE" not in os.environ


def test_a_failed_installation_ends_it(ran: List[List[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_run, "main", lambda argv: 7)
    assert start.main(["a.png"]) == 7


def test_menu(
    ran: List[List[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Callable[[], None]
) -> None:
    picture = tmp_path / "한 장.png"
    picture.write_bytes(b"")
    answers(monkeypatch, "2", "3", "1", f'"{picture}"', f"'{picture}'", "no such file", "q")
    assert start.main([]) == 0
    enlarge = ["-i", str(picture), "-o", str(ROOT / "results")]
    assert ran == [["--install-only"], ["doctor"], ["tune"], enlarge, enlarge]


def test_without_a_picture_the_page_opens(ran: List[List[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "probe", lambda command: ((3, 12, 1), 64, command[0]))
    answers(monkeypatch)  # nothing is asked
    assert start.main([]) == 0
    assert ran == [["--install-only"], ["--web"]]


@pytest.mark.parametrize("version, words", [((3, 9, 9), []), ((3, 12, 1), ["menu"])])
def test_the_menu_on_an_older_python_or_by_name(
    ran: List[List[str]], monkeypatch: pytest.MonkeyPatch, version: Tuple[int, int, int], words: List[str]
) -> None:
    monkeypatch.setattr(environment, "probe", lambda command: (version, 64, command[0]))
    answers(monkeypatch, "3", "4", "q")
    assert start.main(words) == 0
    assert ran == [["--install-only"], ["tune"], ["--web"]]


def test_the_end_of_the_input_ends_the_menu(ran: List[List[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch)
    assert start.main([]) == 0


def no_fit(windows: bool, running: str) -> str:
    raise environment.StopRun("none fits")


def test_a_python_is_fetched_after_one_yes(ran: List[List[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    called: List[List[str]] = []
    monkeypatch.setattr(environment, "choose_python", no_fit)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    outputs = {"--version": "", "find": "C:\\uv\\python.exe"}
    monkeypatch.setattr(environment, "output_of", lambda command: outputs[command[-1 if len(command) == 4 else -2]])
    monkeypatch.setattr(environment, "call", lambda command: called.append(command) or 0)
    monkeypatch.setattr(environment, "probe", lambda command: ((3, 12, 10), 64, command[0]))
    answers(monkeypatch, "y")
    assert start.main(["a.png"]) == 0
    assert ran[0] == ["--python", "C:\\uv\\python.exe", "--install-only"]
    assert called[0][:4] == [sys.executable, "-m", "pip", "install"]
    assert called[0][-1] == "uv"
    assert called[1] == [sys.executable, "-m", "uv", "python", "install", "3.12"]


@pytest.mark.parametrize("answer", ["n", "", "yes please"])
def test_nothing_is_fetched_without_a_yes(
    ran: List[List[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    monkeypatch.setattr(environment, "choose_python", no_fit)
    monkeypatch.setattr(environment, "call", lambda command: pytest.fail("nothing may be started"))
    answers(monkeypatch, answer)
    assert start.main(["a.png"]) == 1
    assert ran == []
    assert "https://www.python.org/downloads/" in capsys.readouterr().err


def test_an_environment_that_was_made_needs_no_choice(
    ran: List[List[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "venv").mkdir()
    environment.write_stamp(tmp_path / "venv", {"sets": {}})
    monkeypatch.setattr(environment, "choose_python", no_fit)
    assert start.main(["a.png"]) == 0
    assert ran[0] == ["--install-only"]


def test_both_languages_have_the_same_fields() -> None:
    import string

    for key, pair in start.TEXTS.items():
        english, korean = ({name for _, name, _, _ in string.Formatter().parse(text) if name} for text in pair)
        assert english == korean, key


# ---------------------------------------------------------------------------------------- the two scripts themselves

STUB = """\
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("REALESRGAN_START_LINE")]))
sys.exit(7)
"""
# Wine's cmd loses a % in the folder of the script.
FOLDERS = ["plain", "with space", "한글 & ^ !x!", *([] if ON_WINE else ["100% %TEMP%"])]
NAMES = ["a b.png", "한글.png", "100% ^!.png", "a&b.png", "(1);,=.png"]


def copied(folder: Path, script: str) -> Path:
    """A copy of the script in ``folder``, beside a start.py that prints its arguments and ends with 7."""
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "start.py").write_text(STUB, encoding="utf-8")
    data = (ROOT / script).read_bytes()
    target = folder / script
    # As git checks it out (.gitattributes); an archive of the files has the line ends of the repository.
    target.write_bytes(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if script.endswith(".cmd") else data)
    return target


@pytest.mark.skipif(os.name == "nt", reason="start.sh is for the others")
def test_start_sh_hands_names_on(tmp_path: Path) -> None:
    script = copied(tmp_path / "내 폴더 & $x", "start.sh")
    names = [*NAMES, "$HOME `x`.png", "'\".png", ""]
    command = ["/bin/sh", str(script), *names]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 7, done.stderr
    assert json.loads(done.stdout)[0] == names


@pytest.mark.skipif(os.name == "nt", reason="start.sh is for the others")
def test_start_sh_without_any_python_says_what_to_install(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "dirname").symlink_to(str(shutil.which("dirname")))
    script = copied(tmp_path / "here", "start.sh")
    surroundings = {"PATH": str(tools)}
    command = ["/bin/sh", str(script)]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "python3-venv" in done.stderr


def start_cmd(script: Path, arguments: str) -> subprocess.CompletedProcess[bytes]:
    """As Explorer starts it for names that are dropped onto it."""
    surroundings = dict(os.environ, PYTHONIOENCODING="utf-8")
    surroundings["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), surroundings.get("PATH", "")])
    line = f'cmd.exe /d /c ""{script}" {arguments}"'
    if ON_WINE:  # whose cmd does not say by itself how it was started
        surroundings["CMDCMDLINE"] = line
    return subprocess.run(line, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, check=False)


@pytest.mark.skipif(os.name != "nt", reason="needs cmd.exe")
@pytest.mark.parametrize("folder", FOLDERS)
def test_start_cmd_hands_names_on(tmp_path: Path, folder: str) -> None:
    script = copied(tmp_path / folder, "start.cmd")
    arguments = " ".join(f'"{name}"' if " " in name else name for name in NAMES)
    done = start_cmd(script, arguments)
    lines = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.startswith("[[")]
    assert lines, done.stdout + done.stderr
    line = json.loads(lines[0])[1]
    assert done.returncode == 7
    assert start.dropped(line) == NAMES
    assert b"b.png" not in done.stderr, "what follows an & must not be run"


@pytest.mark.skipif(os.name != "nt", reason="needs cmd.exe")
@pytest.mark.parametrize("folder", FOLDERS)
def test_start_cmd_hands_typed_names_on(tmp_path: Path, folder: str) -> None:
    """Quoted names, which cmd itself hands on whole."""
    script = copied(tmp_path / folder, "start.cmd")
    names = ["a b.png", "한글 & ^!.png", "100%.png"]
    done = start_cmd(script, " ".join(f'"{name}"' for name in names))
    words, line = json.loads(next(text for text in done.stdout.decode("utf-8").splitlines() if text.startswith("[[")))
    assert start.dropped(line) == names
    assert words == [], "they may be cut there, and the line counts"
    assert done.returncode == 7


@pytest.mark.skipif(not ON_WINE, reason="elsewhere every cmd with /c says so")
def test_start_cmd_typed_in_a_terminal_hands_its_arguments_on(tmp_path: Path) -> None:
    script = copied(tmp_path / "한글 & !x!", "start.cmd")
    names = ["a b.png", "한글 & ^!.png", "100%.png", "C:\\folder\\"]
    surroundings = dict(os.environ, PYTHONIOENCODING="utf-8")
    surroundings["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), surroundings.get("PATH", "")])
    line = f'cmd.exe /d /c ""{script}" ' + " ".join(f'"{name}"' if " " in name else name for name in names) + '"'
    done = subprocess.run(line, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert json.loads(done.stdout.decode("utf-8").splitlines()[0]) == [names, None]
    assert done.returncode == 7


def test_the_page_for_those_without_python_has_both_languages() -> None:
    told = (ROOT / "scripts" / "without_python.txt").read_text(encoding="utf-8")
    assert told.count("https://www.python.org/") == 2
    assert "Install Now" in told and "관리자" in told
