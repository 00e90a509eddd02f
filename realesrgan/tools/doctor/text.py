"""The doctor's sentences, in English and Korean: what is found, and the next step."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

from realesrgan.tools.doctor.text_devices import DEVICES

__all__ = ["FINDINGS", "LINES", "finding", "line"]

Pair = Tuple[str, str]

FINDINGS: Dict[str, Dict[str, Pair]] = {
    **DEVICES,
    "python.bits": {
        "en": (
            "This Python is a {bits}-bit one; PyTorch exists for 64 bits only.",
            "Install the 64-bit Python 3.11 from python.org.",
        ),
        "ko": (
            "이 Python은 {bits}비트용입니다. PyTorch는 64비트에서만 쓸 수 있습니다.",
            "python.org에서 64비트 Python 3.11을 설치하십시오.",
        ),
    },
    "python.new": {
        "en": (
            "Python {version} is too new for torch-directml (3.8 to 3.12), so the graphics card cannot be used.",
            "Install Python 3.11 beside it and run: py -3.11 scripts/first_run.py",
        ),
        "ko": (
            "Python {version}용 torch-directml이 없어(3.8~3.12만 지원) 그래픽 카드를 쓸 수 없습니다.",
            "Python 3.11을 추가로 설치하고 다음을 실행하십시오: py -3.11 scripts/first_run.py",
        ),
    },
    "windows.old": {
        "en": (
            "Windows build {build} is too old for DirectML (16299, that is Windows 10 version 1709, or newer).",
            "Update Windows.",
        ),
        "ko": (
            "Windows 빌드 {build}에서는 DirectML을 쓸 수 없습니다(Windows 10 1709, 빌드 16299 이상 필요).",
            "Windows를 업데이트하십시오.",
        ),
    },
    "library.missing": {
        "en": ("{name} is not installed.", "python -m pip install {package}"),
        "ko": ("{name}이(가) 설치되어 있지 않습니다.", "python -m pip install {package}"),
    },
    "library.broken": {
        "en": (
            "{name} cannot be imported: {reason}",
            "python -m pip install --force-reinstall {package}, best in a fresh environment (scripts/first_run.py).",
        ),
        "ko": (
            "{name}을(를) 불러올 수 없습니다: {reason}",
            "python -m pip install --force-reinstall {package}을(를) 실행하거나 scripts/first_run.py로 새 환경을 "
            "만드십시오.",
        ),
    },
    "library.runtime": {
        "en": (
            "{name} cannot be imported because the Microsoft Visual C++ runtime is missing ({reason}).",
            "Install https://aka.ms/vs/17/release/vc_redist.x64.exe and open a new console.",
        ),
        "ko": (
            "Microsoft Visual C++ 런타임이 없어 {name}을(를) 불러올 수 없습니다({reason}).",
            "https://aka.ms/vs/17/release/vc_redist.x64.exe를 설치하고 콘솔을 새로 여십시오.",
        ),
    },
    "library.ended": {
        "en": (
            "Python itself ends while {name} is imported (status {status}).",
            "Reinstall it in a fresh environment: python scripts/first_run.py",
        ),
        "ko": (
            "{name}을(를) 불러오는 중 Python이 종료됩니다(상태 {status}).",
            "새 환경에 다시 설치하십시오: python scripts/first_run.py",
        ),
    },
    "torch.missing": {
        "en": ("PyTorch is not installed.", "python scripts/first_run.py, or the command that pytorch.org shows."),
        "ko": (
            "PyTorch가 설치되어 있지 않습니다.",
            "python scripts/first_run.py를 실행하거나 pytorch.org의 안내대로 설치하십시오.",
        ),
    },
    "torch.missing_directml": {
        "en": (
            "PyTorch is not installed.",
            "python -m pip install torch-directml (it brings the PyTorch that fits), or python scripts/first_run.py",
        ),
        "ko": (
            "PyTorch가 설치되어 있지 않습니다.",
            "python -m pip install torch-directml(맞는 PyTorch도 함께 설치됨) 또는 python scripts/first_run.py를 "
            "실행하십시오.",
        ),
    },
    "environment": {
        "en": ("The environment variable {name} is {value!r}.", "Remove it to let the program choose the device."),
        "ko": (
            "환경 변수 {name}의 값이 {value!r}입니다.",
            "프로그램이 장치를 고르게 하려면 이 변수를 지우십시오.",
        ),
    },
    "cpu.only": {
        "en": (
            "No graphics card is used: the CPU does the work, which takes minutes for a large picture.",
            "The small models are quickest there: -n realesr-general-x4v3 or -n realesr-animevideov3.",
        ),
        "ko": (
            "그래픽 카드를 쓰지 않고 CPU로 처리하므로 큰 그림은 몇 분씩 걸립니다.",
            "작은 모델이 가장 빠릅니다: -n realesr-general-x4v3 또는 -n realesr-animevideov3.",
        ),
    },
    "half.off": {
        "en": ("FP16 does not hold on this device: {reason}", "Nothing to do: FP32 is used."),
        "ko": ("이 장치에서는 FP16을 쓸 수 없습니다: {reason}", "따로 할 일은 없습니다. FP32를 사용합니다."),
    },
    "weights.damaged": {
        "en": ("The weights of {name} are damaged: {reason}", "Delete the file; it is fetched anew."),
        "ko": ("{name}의 가중치 파일이 손상되었습니다: {reason}", "파일을 지우면 다시 내려받습니다."),
    },
    "weights.none": {
        "en": (
            "No weights are at hand; the first run downloads them.",
            "For a machine without internet: python -m realesrgan --download-models, elsewhere.",
        ),
        "ko": (
            "가중치 파일이 없습니다. 처음 실행할 때 내려받습니다.",
            "인터넷이 없는 컴퓨터라면 다른 곳에서 python -m realesrgan --download-models로 미리 받으십시오.",
        ),
    },
    "disk.results": {
        "en": ("Only {free} are free where results go.", "Make room, or give another folder with -o."),
        "ko": (
            "결과를 저장할 디스크에 {free}만 남았습니다.",
            "공간을 확보하거나 -o로 다른 폴더를 지정하십시오.",
        ),
    },
    "disk.weights": {
        "en": ("Only {free} are free where weights go.", "Make room; all models together take 230 MB."),
        "ko": (
            "가중치를 저장할 디스크에 {free}만 남았습니다.",
            "공간을 확보하십시오. 모든 모델을 합하면 230 MB입니다.",
        ),
    },
    "disk.temporary": {
        "en": ("Only {free} are free for temporary files.", "Make room on that disk."),
        "ko": ("임시 파일용 디스크에 {free}만 남았습니다.", "그 디스크의 공간을 확보하십시오."),
    },
    "memory.low": {
        "en": ("This machine has {memory} of main memory.", "Close other programs; large pictures may not fit."),
        "ko": (
            "주 메모리가 {memory}뿐입니다.",
            "다른 프로그램을 닫으십시오. 큰 그림은 처리하지 못할 수 있습니다.",
        ),
    },
    "profile.none": {
        "en": ("The tile size is a rule of thumb so far.", "realesrgan tune measures what is best on this machine."),
        "ko": (
            "지금은 타일 크기를 어림 규칙으로 정합니다.",
            "realesrgan tune을 실행하면 이 컴퓨터에 가장 알맞은 값을 찾습니다.",
        ),
    },
}

LINES: Dict[str, Dict[str, str]] = {
    "ready": {"en": "READY: {device} ({name}), {precision}.", "ko": "준비 완료: {device} ({name}), {precision}."},
    "limits": {
        "en": "WORKS WITH LIMITS: {device} ({name}), {precision}. What limits it is marked with ! above.",
        "ko": "제한적으로 동작: {device} ({name}), {precision}. 제한 사항은 위에 !로 표시했습니다.",
    },
    "broken": {
        "en": "DOES NOT WORK YET. Do the steps marked with X above, from top to bottom, and run the doctor again.",
        "ko": "아직 동작하지 않습니다. 위의 X 표시 항목을 차례로 해결한 뒤 doctor를 다시 실행하십시오.",
    },
    "next": {"en": "next: {step}", "ko": "다음: {step}"},
    "written": {
        "en": "The report is in {path}; it holds no names and no folders of yours.",
        "ko": "보고서를 {path}에 저장했습니다. 사용자 이름이나 폴더 경로는 들어 있지 않습니다.",
    },
    "unwritable": {
        "en": "The report cannot be written to {path}: {reason}.",
        "ko": "보고서를 {path}에 쓸 수 없습니다: {reason}.",
    },
}


def finding(code: str, lang: str, fields: Mapping[str, Any]) -> Pair:
    """What is found and the next step."""
    what, step = FINDINGS[code][lang]
    return what.format(**fields), step.format(**fields)


def line(code: str, lang: str, **fields: Any) -> str:
    """One of the other lines."""
    return LINES[code][lang].format(**fields)
