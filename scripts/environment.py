"""Which Python and which environment first_run.py and start.py use.

Only the standard library, and nothing that Python 3.6 lacks: the Python that starts it need not be the one used.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).absolute().parent.parent
STAMP = "realesrgan-first-run.json"
OLDEST = (3, 8)
NEWEST_DIRECTML = (3, 12)  # torch-directml has no wheels for anything newer
NEWEST_TRIED = (3, 14)
PATIENCE = 120  # seconds; a virus scanner may read a new environment for a while
# Asks a Python for what is decided by; the answer is ASCII.
PROBE = "import json, struct as s, sys; print(json.dumps([sys.version_info[:3], s.calcsize('P') * 8, sys.executable]))"


class StopRun(Exception):
    """Ends the run with a sentence for the user."""


class Slow(StopRun):
    """A Python that was asked something did not answer in time."""


def say(text="", stream=None, end="\n"):
    """Print, whatever the console's encoding can show: what it cannot is escaped."""
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, end=end)
    stream.flush()


def clean_environment():
    """The environment without what would lead another Python's modules into the new one."""
    unwanted = ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name.upper() not in unwanted}


def call(command, **options):
    """The exit status of a command, 127 if it cannot be started."""
    try:
        return subprocess.call([str(word) for word in command], env=clean_environment(), **options)
    except OSError as error:
        say(f"{command[0]} cannot be started: {error}", sys.stderr)
        return 127


def probe_environment():
    """Variables for a Python that is only asked something: what it prints is UTF-8 whatever its paths hold."""
    # The newer py launcher would otherwise install a missing Python without asking.
    own = {"PYTHON_MANAGER_AUTOMATIC_INSTALL": "0", "PYTHONIOENCODING": "utf-8:backslashreplace", "PYTHONUTF8": "1"}
    return dict(clean_environment(), **own)


def output_of(command, seconds=PATIENCE):
    """What a command prints, or an empty string if it cannot be started or ends with an error.

    Slow says that there was no answer in time: nothing is known then.
    """
    words = [str(word) for word in command]
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": probe_environment(), "timeout": seconds}
    try:
        return subprocess.check_output(words, **quiet).decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:
        raise Slow(
            f"{words[0]} did not answer within {seconds:g} s. Nothing was changed.\n"
            "The computer may be busy, or a virus scanner may be reading the files: run the same line again."
        ) from None
    except (OSError, subprocess.SubprocessError):
        return ""


# ------------------------------------------------------------------------------------------------ which Python


def probe(command):
    """(version, bits, executable) of the Python that ``command`` starts, or None if it does not start.

    Slow if it does not answer in time.
    """
    try:
        version, bits, executable = json.loads(output_of([*command, "-c", PROBE]).splitlines()[-1])
    except (ValueError, IndexError):
        return None
    return tuple(version), bits, executable


def usable(found):
    """Whether a probed Python can run the program."""
    return found is not None and found[1] == 64 and found[0][:2] >= OLDEST


def describe(found):
    if found is None:
        return "one that does not start"
    version, bits, _ = found
    return f"{'.'.join(map(str, version))}, {bits} bit"


def choose_python(windows, running, ask=probe):
    """The executable of the Python to use.

    On Windows the newest of 3.12 down to 3.8 that the launcher ``py`` knows or that is running, since torch-directml
    has nothing newer; without one a newer one, with which Vulkan is used. Elsewhere the running one.
    """

    def quietly(command):
        try:
            return ask(command)
        except Slow:
            return None  # a launcher that does not answer is passed over

    current = ask([running])
    if not windows:
        if usable(current):
            return running
        raise StopRun(
            f"Real-ESRGAN needs a 64-bit Python, 3.8 or newer; this one is {describe(current)}.\n"
            "Install a newer one and name it, for example: python3.11 scripts/first_run.py"
        )
    newest = NEWEST_DIRECTML[1]
    for minor in (*range(newest, OLDEST[1] - 1, -1), *range(NEWEST_TRIED[1], newest, -1)):
        for found in (current, quietly(["py", f"-3.{minor}"])):
            if usable(found) and found[0][1] == minor:
                return found[2]
    raise StopRun(
        f"No fitting Python found; the running one is {describe(current)}.\n"
        "Real-ESRGAN needs a 64-bit Python, 3.8 or newer; with 3.8 to 3.12 it can use both torch-directml and Vulkan.\n"
        "Install Python 3.12 (it can be installed beside the others):\n"
        "    winget install Python.Python.3.12\n"
        "or from https://www.python.org/downloads/windows/ , then run the same line again."
    )


# ------------------------------------------------------------------------------------------------ the environment


def venv_python(venv, windows):
    return venv / "Scripts" / "python.exe" if windows else venv / "bin" / "python"


def read_stamp(venv):
    """What was noted in the environment; None if first_run.py has not made it."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {} if (venv / STAMP).exists() else None
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(venv, stamp):
    (venv / STAMP).write_text(json.dumps(stamp, indent=1, sort_keys=True), encoding="utf-8")


def make_venv(venv, windows, python=None, fresh=False):
    """Make the environment unless there is one that works; return its Python's version.

    One that was finished and no longer works is renamed, and one that does not answer in time is left as it is: only
    ``fresh`` removes an environment. (What an interrupted attempt left contains nothing yet and is made again.)
    """
    stamp = read_stamp(venv)
    if stamp is None and venv.exists() and any(venv.iterdir()):
        raise StopRun(
            f"{venv} exists, and this script has not made it, so it is left alone.\n"
            "Remove it, or name another folder: python scripts/first_run.py --venv OTHER_FOLDER"
        )
    unfinished = stamp is None or stamp.get("unfinished") is True
    problem = ""
    if not fresh and not unfinished:
        found, problem = examine(venv, windows)
        if not problem:
            return found[0]
    python = python or choose_python(windows, sys.executable)
    found = probe([python])
    if not usable(found):
        raise StopRun(f"{python} cannot be used: it is {describe(found)}. Needed: 64 bit, 3.8 or newer.")
    if not output_of([python, "-c", "import ensurepip, venv; print(1)"]):
        raise StopRun(
            "This Python cannot make virtual environments: its module venv or ensurepip is missing.\n"
            "On Debian and Ubuntu: sudo apt install python3-venv\nThen run the same line again."
        )
    if problem:
        put_aside(venv, problem)
    say(f"Making the environment {venv} with Python {describe(found)}")
    try:
        empty(venv)
        write_stamp(venv, {"unfinished": True})  # first, so that an interrupted attempt is known as ours
    except OSError as error:
        raise StopRun(f"The folder {venv} cannot be written: {error}") from None
    status = call([python, "-m", "venv", venv])
    if status != 0:
        raise StopRun(f"The environment {venv} could not be made (exit status {status}, see above).")
    write_stamp(venv, {})
    return found[0]


def examine(venv, windows):
    """(what :func:`probe` says of the environment's Python, what is wrong or an empty string)."""
    inside = venv_python(venv, windows)
    found = probe([inside]) if inside.exists() else None
    if found is None:
        return found, f"{inside} is missing or does not start; the Python that it was made with may be gone"
    if not usable(found):
        return found, f"its Python is {describe(found)}, which cannot be used here"
    if not output_of([inside, "-c", "import pip; print(pip.__version__)"]):
        return found, "its pip cannot be imported"
    return found, ""


def put_aside(venv, problem):
    """Rename an environment that does not work; nothing of it is removed."""
    number = 1
    while True:
        target = venv.with_name(f"{venv.name}-broken-{number}")
        if not os.path.lexists(str(target)):
            break
        number += 1
    say(f"The environment {venv} does not work: {problem}.", sys.stderr)
    try:
        venv.rename(target)
    except OSError as error:
        raise StopRun(
            f"It cannot be renamed to {target.name}: {error}\n"
            "Close programs that use it (Python, an editor, a terminal opened in it) and run the same line again,\n"
            "or name another folder: python scripts/first_run.py --venv OTHER_FOLDER"
        ) from None
    say(f"It is now {target}, and a new one is made. Remove the old one when nothing in it is needed.", sys.stderr)


def empty(venv):
    """Make the folder, or remove all from it but the stamp."""
    venv.mkdir(parents=True, exist_ok=True)
    for child in venv.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(str(child))
        elif child.name != STAMP:
            child.unlink()
