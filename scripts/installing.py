"""What first_run.py installs, and pip with its errors in plain words."""

import collections
import hashlib
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from environment import (
    NEWEST_DIRECTML,
    ROOT,
    StopRun,
    clean_environment,
    output_of,
    read_stamp,
    say,
    venv_python,
    write_stamp,
)

# What basicsr's build asks for; with --no-build-isolation it must be there beforehand.
TRAIN_BUILD = ["torchvision", "setuptools", "wheel", "cython", "numpy"]
GIB = 1 << 30
LIGHT = "requirements-vulkan.txt"
WEB = "requirements-web.txt"
# Numbers by which PCI knows the makers of graphics cards.
MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
TORCH_VERSION = "from importlib.metadata import version; print(version('torch'))"


def makers(drm=Path("/sys/class/drm")):
    """The makers of this Linux machine's graphics cards."""
    found = set()
    for file in drm.glob("card*/device/vendor"):
        try:
            found.add(MAKERS.get(file.read_text(encoding="ascii").strip(), ""))
        except (OSError, ValueError):
            pass
    if Path("/proc/driver/nvidia/version").exists():
        found.add("NVIDIA")
    return found - {""}


def choose(system, version, cards):
    """(whether it is to be the light installation, which needs no PyTorch; a line that says what is used and why).

    Args:
        system: What ``platform.system()`` gives.
        version: Of the environment's Python.
        cards: What :func:`makers` gives.
    """
    python = f"Python {version[0]}.{version[1]}"
    if system == "Windows" and tuple(version[:2]) <= NEWEST_DIRECTML:
        return False, f"Graphics cards are used through DirectML (torch-directml) and Vulkan (ncnn): Windows, {python}."
    if system == "Windows":
        return True, f"Graphics cards are used through Vulkan (ncnn): torch-directml has nothing for {python}."
    if system == "Linux" and "NVIDIA" in cards:
        return False, "The graphics card is used through CUDA (PyTorch): it is from NVIDIA."
    if system == "Linux" and cards:
        return True, f"The graphics card is used through Vulkan (ncnn): it is from {' and '.join(sorted(cards))}."
    return False, "PyTorch is used: no graphics card was found that Vulkan or CUDA could use."


def wanted(test, train, light=False):
    """The sets of requirements to install: (name, files). What tests and training need includes PyTorch."""
    sets = [("light", [LIGHT])] if light and not (test or train) else [("base", ["requirements.txt"])]
    if test:
        sets.append(("test", ["requirements.txt", "requirements-dev.txt"]))
    if train:
        sets.append(("train", ["requirements.txt", "requirements-train.txt"]))
    return sets


def digest(files, version, root=ROOT):
    """A hash of what an installed set depends on: the files' lines (not their line ends) and the Python version."""
    value = hashlib.sha256(repr(tuple(version)).encode("ascii"))
    for name in files:
        lines = (root / name).read_text(encoding="utf-8").splitlines()
        value.update("\n".join([name, *lines, ""]).encode("utf-8"))
    return value.hexdigest()


def sizes(system, machine, light=False):
    """About (GB to download, GB on disk, a word on why) for the requirements on this kind of machine."""
    if light:
        return 0.2, 0.4, "no PyTorch among it"
    if system == "Linux" and machine.lower() in ("x86_64", "amd64"):
        return 3, 6, "PyTorch for Linux brings NVIDIA's CUDA libraries along"
    return 1, 2, "most of it is PyTorch"


def check_space(venv, on_disk):
    free = shutil.disk_usage(str(venv)).free
    if free < on_disk * GIB:
        raise StopRun(
            f"Too little disk space: about {on_disk:g} GB are needed in {venv}, {free / GIB:.1f} GB are free.\n"
            "Free some, or name a folder on another disk: python scripts/first_run.py --venv FOLDER\n"
            "(--no-space-check goes on anyway.)"
        )


# What pip's error output means: words to look for, in this order, and what to tell.
DIAGNOSES = (
    (
        ("no space left on device", "errno 28", "not enough space on the disk"),
        "The disk is full: the one of the environment, or the one for temporary files.\n"
        "Free some space, or set TMPDIR (Windows: TEMP) to a folder on a larger disk, and run the same line again.",
    ),
    (
        ("certificate verify failed", "sslerror"),
        "The secure connection was refused, often by a company's proxy: set PIP_CERT to its certificate.",
    ),
    (
        (
            *("newconnectionerror", "connecttimeout", "connectionreset", "connection refused", "connection broken"),
            *("getaddrinfo", "name resolution", "network is unreachable", "proxyerror", "timed out"),
        ),
        "The package index could not be reached. Check the network (behind a proxy: set HTTPS_PROXY)\n"
        "and run the same line again: what was downloaded is kept.",
    ),
    (
        ("winerror 206", "long path"),
        "The path of this folder is too long for Windows. Move it nearer to the drive's root, C:\\ai for example.",
    ),
    (
        ("winerror 5]", "winerror 32]", "permission denied", "errno 13"),
        "A file could not be written. Close programs that use the environment (Python, an editor) and try again.",
    ),
    (
        ("no matching distribution", "resolutionimpossible"),
        "Something needed has no version for this Python. Python 3.12 has everything; another one is named so:\n"
        "python scripts/first_run.py --python PATH_OF_PYTHON",
    ),
)


def diagnose(output):
    """What pip's error output means and what to do, in plain words."""
    text = output.lower()
    for words, meaning in DIAGNOSES:
        if any(word in text for word in words):
            return meaning
    return "pip failed; its last lines above say why. Run the same line again to go on from there."


def pip(python, arguments):
    """Run pip, passing on what it prints; StopRun with an explanation if it fails."""
    say("+ pip " + " ".join(arguments))
    command = [str(python), "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]
    tail = collections.deque(maxlen=200)

    def pass_on(stream):
        for line in stream:
            text = line.decode("utf-8", "replace").rstrip()
            tail.append(text)
            say(text, sys.stderr)

    # Standard output stays pip's own, for its progress bars. Its errors come in an encoding that is known.
    surroundings = dict(clean_environment(), PYTHONIOENCODING="utf-8:backslashreplace")
    process = subprocess.Popen(
        command, cwd=str(ROOT), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=surroundings
    )
    with process:
        reader = threading.Thread(target=pass_on, args=(process.stderr,), daemon=True)
        reader.start()
        status = process.wait()
        reader.join()
    if status != 0:
        raise StopRun(diagnose("\n".join(tail)))


def pip_commands(name, files, torch_version):
    """The arguments of pip for one set. An installed torch is kept: the newest torchvision would replace it."""
    words = [word for file in files for word in ("-r", file)]
    if name != "train":
        # Compiled ahead, the modules of the light installation would take a fifteenth of it; few of them are ever used.
        return [["install", *(["--no-compile"] if name == "light" else []), *words]]
    keep = [f"torch=={torch_version}"] if torch_version else []
    return [
        ["install", "-r", "requirements.txt", *keep, *TRAIN_BUILD],
        ["install", "--no-build-isolation", *words, *keep],
    ]


def install(venv, windows, version, sets, space_check=True):
    """Install those sets whose requirements changed since they were installed."""
    python = venv_python(venv, windows)
    done = (read_stamp(venv) or {}).get("sets")
    done = done if isinstance(done, dict) else {}
    todo = [(name, files) for name, files in sets if done.get(name) != digest(files, version)]
    if not todo:
        return
    if not output_of([python, "-c", TORCH_VERSION]):
        light = all(LIGHT in files for _, files in todo)
        download, on_disk, why = sizes(platform.system(), platform.machine(), light)
        say(f"Installing: about {download:g} GB to download, {on_disk:g} GB on disk ({why}). It happens once.")
        if space_check:
            check_space(venv, on_disk)
    major = output_of([python, "-c", "import pip; print(pip.__version__)"]).split(".")[0]
    if not major.isdigit() or int(major) < 22:
        pip(python, ["install", "--upgrade", "pip"])  # an old one does not know the wheels of today
    for name, files in todo:
        for arguments in pip_commands(name, files, output_of([python, "-c", TORCH_VERSION])):
            pip(python, arguments)
        done[name] = digest(files, version)
        write_stamp(venv, {"sets": done, "python": list(version)})
