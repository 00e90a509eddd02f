"""What start.cmd and start.sh start: installs on first use, then enlarges what was dropped, or opens the page.

    start.cmd                      the page in the browser; a short menu where Python is older than 3.10
    start.cmd menu                 the menu
    start.cmd photo.jpg folder     the same as dropping them onto start.cmd

Only the standard library, and nothing that Python 3.6 lacks: this Python may only be good enough to fetch another one.
"""

import os
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parent))
import environment
import first_run
from environment import ROOT, StopRun, say

FETCHED = "3.12"
TEXTS = {
    "menu": (
        "\nReal-ESRGAN\n"
        "  1  enlarge a picture or a folder\n"
        "  2  doctor: what this computer can do, and what is missing\n"
        "  3  tune: measure the best settings for your card (a few minutes)\n"
        "  4  the page in the browser\n"
        "  q  quit\n"
        "Type a number, or drop a picture or a folder onto this window, and press Enter: ",
        "\nReal-ESRGAN\n"
        "  1  사진이나 폴더를 확대합니다\n"
        "  2  진단: 이 컴퓨터에서 되는 것과 부족한 것을 봅니다\n"
        "  3  조정: 그래픽 카드에 가장 좋은 설정을 측정합니다 (몇 분)\n"
        "  4  브라우저에서 페이지를 엽니다\n"
        "  q  끝냅니다\n"
        "번호를 입력하거나 사진, 폴더를 이 창에 끌어다 놓고 Enter를 누르세요: ",
    ),
    "which": (
        "Drop a picture or a folder onto this window and press Enter: ",
        "사진이나 폴더를 이 창에 끌어다 놓고 Enter를 누르세요: ",
    ),
    "missing": (
        "There is no file or folder {path}. The numbers are 1 to 4; q quits.",
        "{path} 파일이나 폴더가 없습니다. 번호는 1부터 4까지이고 q는 끝냅니다.",
    ),
    "results": ("\nThe results are in {folder}", "\n결과는 다음 폴더에 있습니다: {folder}"),
    "fetch": (
        "\nNo Python that fits was found: it must be of 64 bit, and 3.8 or newer.\n"
        "uv can fetch Python 3.12 for you alone (about 25 MB, no administrator's rights; others stay as they are).\n"
        "Type y and press Enter to fetch it: ",
        "\n알맞은 Python을 찾지 못했습니다. 64비트이고 3.8 이상이어야 합니다.\n"
        "uv로 Python 3.12를 내려받을 수 있습니다 (약 25 MB, 관리자 권한이 필요 없고 다른 Python은 그대로 둡니다).\n"
        "내려받으려면 y를 입력하고 Enter를 누르세요: ",
    ),
    "not_fetched": (
        "Python 3.12 could not be fetched. Install it from https://www.python.org/downloads/release/python-31210/\n"
        '("Windows installer (64-bit)", then "Install Now"), and start this again.',
        "Python 3.12를 내려받지 못했습니다. https://www.python.org/downloads/release/python-31210/ 에서\n"
        '"Windows installer (64-bit)"를 받아 "Install Now"로 설치한 뒤 다시 시작하세요.',
    ),
}


def language():
    """Of the system: an index of the texts."""
    sys.path.insert(0, str(ROOT))
    try:
        from realesrgan.cli.messages import system_language
    except (ImportError, SyntaxError):  # too old a Python
        return 0
    return 1 if system_language() == "ko" else 0


def text(key, **fields):
    return TEXTS[key][language()].format(**fields)


def dropped(line):
    """The names behind the script's own in ``cmd /c ""C:\\...\\start.cmd" NAMES"``, or None for another line.

    cmd itself cuts such a line at an & and changes ^ and %, so that its arguments cannot be relied on. Names contain no
    quotation marks, and those with a space always come in a pair.
    """
    found = re.match(r'(?is)^(?:"[^"]*"|\S+)\s(?:.*?\s)?/c\s*(.*)$', line)
    if not found:
        return None
    rest = found.group(1).strip()
    if rest.startswith('"') and rest.endswith('"') and rest.count('"') > 2:
        rest = rest[1:-1]
    words = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|([^\s"]+)', rest)]
    return words[1:] if words and words[0].lower().endswith(".cmd") else None


def ask(question):
    """What the user types; ``q`` at the end of the input."""
    say(question, end="")
    try:
        return input().strip()
    except EOFError:
        return "q"


def fetch_python():
    """The path of a Python 3.12 that uv brings, after one yes.

    Raises:
        StopRun: The user did not want it, or it could not be fetched.
    """
    if ask(text("fetch")).lower() not in ("y", "yes"):
        raise StopRun(text("not_fetched"))
    found = shutil.which("uv")
    uv = [found] if found else [sys.executable, "-m", "uv"]
    if not found and not environment.output_of([*uv, "--version"]):
        inside = sys.prefix != sys.base_prefix  # of a virtual environment, which has no user's folder
        environment.call([sys.executable, "-m", "pip", "install", *([] if inside else ["--user"]), "uv"])
    if environment.call([*uv, "python", "install", FETCHED]) != 0:
        raise StopRun(text("not_fetched"))
    path = environment.output_of([*uv, "python", "find", FETCHED])
    if not environment.usable(environment.probe([path]) if path else None):
        raise StopRun(text("not_fetched"))
    return path


def flags(venv, windows):
    """What first_run.py needs to know of the Python to use."""
    stamp = environment.read_stamp(venv)
    if stamp is not None and not stamp.get("unfinished"):
        return []
    try:
        environment.choose_python(windows, sys.executable)
    except StopRun:
        return ["--python", fetch_python()]
    return []


def enlarge(paths):
    results = ROOT / "results"
    status = first_run.main(["-i", *paths, "-o", str(results)])
    if status == 0:
        say(text("results", folder=results))
    return status


def menu():
    """Ask until the user quits; the last status."""
    status = 0
    while True:
        answer = ask(text("menu"))
        if answer == "1":
            answer = ask(text("which"))
        path = answer.strip("\"'")
        if answer.lower() in ("q", ""):
            return status
        if answer in ("2", "3", "4"):
            status = first_run.main([{"2": "doctor", "3": "tune", "4": "--web"}[answer]])
        elif os.path.lexists(path):
            status = enlarge([path])
        else:
            say(text("missing", path=path), sys.stderr)


def main(argv):
    paths = dropped(os.environ.pop("REALESRGAN_START_LINE", ""))
    paths = argv if paths is None else paths
    try:
        venv = first_run.environment_folder()
        status = first_run.main([*flags(venv, os.name == "nt"), "--install-only"])
        if status != 0:
            return status
        if paths and paths != ["menu"]:
            return enlarge(paths)
        found = environment.probe([str(environment.venv_python(venv, os.name == "nt"))])
        if paths or found is None or found[0][:2] < first_run.OLDEST_WEB:
            return menu()
        return first_run.main(["--web"])
    except StopRun as stop:
        say(f"\n{stop}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
