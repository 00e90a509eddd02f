"""The doctor's sentences on devices and their drivers: what is found, and the next step."""

from __future__ import annotations

from typing import Dict, Tuple

__all__ = ["DEVICES"]

DEVICES: Dict[str, Dict[str, Tuple[str, str]]] = {
    "directml.missing": {
        "en": (
            "torch-directml is not installed, so the graphics card is not used.",
            "python -m pip install torch-directml, in an environment of its own (python scripts/first_run.py).",
        ),
        "ko": (
            "torch-directml이 설치되어 있지 않아 그래픽 카드를 쓰지 않습니다.",
            "전용 환경에서 python -m pip install torch-directml을 실행하십시오(python scripts/first_run.py).",
        ),
    },
    "directml.version": {
        "en": (
            "torch {torch} does not fit the installed torch-directml, which needs torch {needs}.",
            "python -m pip install --force-reinstall torch-directml, or a fresh environment (scripts/first_run.py).",
        ),
        "ko": (
            "torch {torch}은(는) 설치된 torch-directml과 맞지 않습니다(torch {needs} 필요).",
            "python -m pip install --force-reinstall torch-directml을 실행하거나 scripts/first_run.py로 새 환경을 "
            "만드십시오.",
        ),
    },
    "directml.wsl_library": {
        "en": (
            "torch-directml does not find Windows' DirectX library libd3d12.so in this WSL.",
            "In Windows: wsl --update, then wsl --shutdown. In WSL /usr/lib/wsl/lib must be in LD_LIBRARY_PATH.",
        ),
        "ko": (
            "WSL에서 torch-directml이 Windows의 DirectX 라이브러리 libd3d12.so를 찾지 못합니다.",
            "Windows에서 wsl --update와 wsl --shutdown을 실행하십시오. WSL의 LD_LIBRARY_PATH에 /usr/lib/wsl/lib가 "
            "있어야 합니다.",
        ),
    },
    "directml.not_here": {
        "en": (
            "torch-directml is installed, but it works on Windows and WSL2 only (libd3d12.so is not here).",
            "python -m pip uninstall torch-directml, and install the PyTorch for your card (CUDA or ROCm).",
        ),
        "ko": (
            "torch-directml이 설치되어 있지만 Windows와 WSL2에서만 동작합니다(libd3d12.so 없음).",
            "python -m pip uninstall torch-directml 후 카드에 맞는 PyTorch(CUDA 또는 ROCm)를 설치하십시오.",
        ),
    },
    "directml.broken": {
        "en": (
            "torch-directml cannot be imported: {reason}",
            "python -m pip install --force-reinstall torch-directml, or a fresh environment (scripts/first_run.py).",
        ),
        "ko": (
            "torch-directml을 불러올 수 없습니다: {reason}",
            "python -m pip install --force-reinstall torch-directml을 실행하거나 scripts/first_run.py로 새 환경을 "
            "만드십시오.",
        ),
    },
    "directml.ended": {
        "en": (
            "Python itself ends while torch-directml is imported (status {status}).",
            "Update the graphics driver; then python -m pip install --force-reinstall torch-directml",
        ),
        "ko": (
            "torch-directml을 불러오는 중 Python이 종료됩니다(상태 {status}).",
            "그래픽 드라이버를 업데이트한 뒤 python -m pip install --force-reinstall torch-directml을 실행하십시오.",
        ),
    },
    "directml.no_adapter": {
        "en": (
            "torch-directml finds no DirectX 12 adapter.",
            "Install the driver of your graphics card (amd.com/support) and do not work over Remote Desktop.",
        ),
        "ko": (
            "torch-directml이 DirectX 12 어댑터를 찾지 못합니다.",
            "그래픽 카드 드라이버를 설치하고(amd.com/support) 원격 데스크톱이 아닌 본체에서 실행하십시오.",
        ),
    },
    "cuda.cpu_torch": {
        "en": (
            "There is an NVIDIA card ({card}), but this PyTorch ({torch}) is built without CUDA.",
            "Install the CUDA build: python -m pip install torch --index-url https://download.pytorch.org/whl/cu126",
        ),
        "ko": (
            "NVIDIA 카드({card})가 있지만 설치된 PyTorch({torch})는 CUDA를 지원하지 않는 빌드입니다.",
            "CUDA 빌드를 설치하십시오: python -m pip install torch --index-url https://download.pytorch.org/whl/cu126",
        ),
    },
    "cuda.driver": {
        "en": (
            "There is an NVIDIA card ({card}, driver {driver}), but PyTorch {torch} (CUDA {cuda}) cannot use it.",
            "Update NVIDIA's driver; a card older than this PyTorch supports needs an older PyTorch.",
        ),
        "ko": (
            "NVIDIA 카드({card}, 드라이버 {driver})가 있지만 PyTorch {torch}(CUDA {cuda})가 사용하지 못합니다.",
            "NVIDIA 드라이버를 업데이트하십시오. 오래된 카드라면 그 카드를 지원하는 이전 PyTorch가 필요합니다.",
        ),
    },
    "linux.amd": {
        "en": (
            "There is an AMD card ({card}); on Linux DirectML does not exist, and this PyTorch is not the ROCm build.",
            "Install PyTorch for ROCm (pytorch.org) if the card is supported, or use Windows.",
        ),
        "ko": (
            "AMD 카드({card})가 있지만 Linux에는 DirectML이 없고, 설치된 PyTorch는 ROCm 빌드가 아닙니다.",
            "지원되는 카드라면 ROCm용 PyTorch(pytorch.org)를 설치하고, 아니면 Windows에서 실행하십시오.",
        ),
    },
    "driver.basic": {
        "en": (
            "Windows drives a card with {name}: its own driver is not installed.",
            "Install the driver of the card (amd.com/support, nvidia.com/drivers, intel.com).",
        ),
        "ko": (
            "Windows가 {name}로 동작 중입니다. 카드 드라이버가 설치되어 있지 않습니다.",
            "카드 제조사의 드라이버를 설치하십시오(amd.com/support, nvidia.com/drivers, intel.com).",
        ),
    },
    "driver.old": {
        "en": (
            "The driver of {name} is old ({driver}).",
            "Install the newest one for the card: amd.com/support (RX 400 and 500: the 'Polaris and Vega' driver).",
        ),
        "ko": (
            "{name}의 드라이버가 오래되었습니다({driver}).",
            "카드의 최신 드라이버를 설치하십시오: amd.com/support (RX 400·500은 'Polaris and Vega' 드라이버).",
        ),
    },
    "card.small": {
        "en": (
            "{name} has {memory} GB: tiles are small, the large models slow.",
            "Prefer -n realesr-general-x4v3 or -n realesr-animevideov3.",
        ),
        "ko": (
            "{name}의 메모리는 {memory} GB이므로 타일이 작고 큰 모델은 느립니다.",
            "-n realesr-general-x4v3 또는 -n realesr-animevideov3를 권합니다.",
        ),
    },
    "card.integrated_first": {
        "en": (
            "DirectML's first adapter is the integrated {first}; this program takes {name} ({spec}) all the same.",
            "Nothing to do. --device dml:0 would take the integrated one.",
        ),
        "ko": (
            "DirectML의 첫 어댑터는 내장 그래픽 {first}이지만, 이 프로그램은 {name}({spec})을(를) 사용합니다.",
            "따로 할 일은 없습니다. 내장 그래픽을 쓰려면 --device dml:0을 지정하십시오.",
        ),
    },
    "card.integrated_only": {
        "en": (
            "DirectML finds only the integrated {name}, which is slow.",
            "If there is a graphics card too: install its driver, and enable it in Windows' graphics settings.",
        ),
        "ko": (
            "DirectML이 내장 그래픽 {name}만 찾았으며, 속도가 느립니다.",
            "별도의 그래픽 카드가 있다면 드라이버를 설치하고 Windows 그래픽 설정에서 사용하도록 하십시오.",
        ),
    },
    "card.software": {
        "en": (
            "DirectML finds only {name}, a processor that plays a graphics card; the CPU is used, which is quicker.",
            "Install the driver of your graphics card.",
        ),
        "ko": (
            "DirectML이 소프트웨어 어댑터 {name}만 찾았습니다. 더 빠른 CPU를 사용합니다.",
            "그래픽 카드 드라이버를 설치하십시오.",
        ),
    },
    "device.refused": {
        "en": ("{reason}", "Leave --device out to let the program choose."),
        "ko": ("요청한 장치를 쓸 수 없습니다: {reason}", "--device를 빼면 프로그램이 장치를 고릅니다."),
    },
    "device.ended": {
        "en": (
            "The process ended while the device was tried (status {status}).",
            "Update the graphics driver; until then use --device cpu.",
        ),
        "ko": (
            "장치를 시험하는 중 프로세스가 종료되었습니다(상태 {status}).",
            "그래픽 드라이버를 업데이트하십시오. 그때까지는 --device cpu를 사용하십시오.",
        ),
    },
    "device.failed": {
        "en": ("The test failed: {reason}", "Update the graphics driver; until then use --device cpu."),
        "ko": (
            "시험에 실패했습니다: {reason}",
            "그래픽 드라이버를 업데이트하십시오. 그때까지는 --device cpu를 사용하십시오.",
        ),
    },
    "device.wrong": {
        "en": (
            "{device} computes wrong pictures: {difference} of 255 levels off with {model}.",
            "Update the graphics driver, use --device cpu, and please send a report (--report doctor.json).",
        ),
        "ko": (
            "{device}의 계산 결과가 틀립니다: {model}에서 255단계 중 {difference}단계 차이.",
            "그래픽 드라이버를 업데이트하거나 --device cpu를 사용하고, 보고서를 보내 주십시오(--report doctor.json).",
        ),
    },
}
