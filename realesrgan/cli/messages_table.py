"""The sentences of :mod:`realesrgan.cli.messages`.

Code -> language -> sentence. Both languages name the same fields.
"""

from __future__ import annotations

from typing import Dict

from .messages_faces import FACES
from .messages_pictures import PICTURES
from .messages_video import VIDEO
from .messages_weights import WEIGHTS

__all__ = ["TABLE"]

_CLI: Dict[str, Dict[str, str]] = {
    "cli.device": {
        "en": "Device: {backend}, {name} ({spec}), {memory} memory, {precision}, tile {tile}",
        "ko": "장치: {backend}, {name} ({spec}), 메모리 {memory}, {precision}, 타일 {tile}",
    },
    "cli.device_without_memory": {
        "en": "Device: {backend}, {name} ({spec}), {precision}, tile {tile}",
        "ko": "장치: {backend}, {name} ({spec}), {precision}, 타일 {tile}",
    },
    "cli.bar_files": {"en": "pictures", "ko": "그림"},
    "cli.done": {
        "en": "[{number}/{total}] {input} -> {output} ({width}x{height}, {seconds} s{work})",
        "ko": "[{number}/{total}] {input} -> {output} ({width}x{height}, {seconds}초{work})",
    },
    "cli.untiled": {"en": ", untiled", "ko": ", 타일로 나누지 않음"},
    "cli.tiled": {"en": ", {count} tiles of up to {tile}", "ko": ", 최대 {tile} 타일 {count}개"},
    "cli.denoise": {
        "en": "-dn has no effect: only realesr-general-x4v3 takes it, under its official file name.",
        "ko": "-dn은 효과가 없습니다. 공식 파일 이름을 쓰는 realesr-general-x4v3 모델에서만 적용됩니다.",
    },
    "cli.skipped": {
        "en": "[{number}/{total}] {input} is done already: skipped",
        "ko": "[{number}/{total}] {input}: 이미 처리되어 건너뜁니다",
    },
    "cli.summary": {
        "en": "{done} done, {skipped} skipped, {failed} failed, in {seconds} s",
        "ko": "완료 {done}개, 건너뜀 {skipped}개, 실패 {failed}개, {seconds}초 걸렸습니다",
    },
    "cli.failed": {"en": "[{number}/{total}] failed: {reason}", "ko": "[{number}/{total}] 실패: {reason}"},
    "cli.failed_again": {"en": "  failed: {reason}", "ko": "  실패: {reason}"},
    "cli.not_done": {
        "en": "{count} pictures were not tried. The same command with {flag} goes on where this run ended.",
        "ko": "그림 {count}개는 처리하지 못했습니다. 같은 명령에 {flag}을(를) 붙여 다시 실행하면 이어서 처리합니다.",
    },
    "cli.nothing": {
        "en": "There is no picture in: {inputs}. Give a picture, a folder or a pattern with -i; --recursive "
        "goes into "
        "subfolders.",
        "ko": "그림이 없습니다: {inputs}. -i에 그림, 폴더 또는 패턴을 지정하십시오. --recursive는 하위 폴더까지 "
        "찾습니다.",
    },
    "cli.interrupted": {
        "en": "Stopped. No file is half-written; the same command with {flag} goes on from here.",
        "ko": "중단했습니다. 쓰다 만 파일은 없습니다. 같은 명령에 {flag}을(를) 붙이면 이어서 할 수 있습니다.",
    },
    "cli.new_report": {
        "en": "There is no report of a former run yet; this one is kept in {path}",
        "ko": "이전 실행의 기록이 없습니다. 이번 실행을 {path}에 기록합니다",
    },
    "cli.downloaded": {"en": "{name}: {path}", "ko": "{name}: {path}"},
    "cli.csv": {
        "en": "The samples cannot be written to {path}: {reason}.",
        "ko": "측정값을 {path}에 쓸 수 없습니다: {reason}.",
    },
    "cli.command_missing": {
        "en": "'{command}' needs {missing}, which cannot be imported here. Install it with: python -m pip install "
        "{missing}",
        "ko": "'{command}' 명령에는 {missing}이(가) 필요하지만 불러올 수 없습니다. 설치: python -m pip install "
        "{missing}",
    },
    "cli.unexpected": {
        "en": "Unexpected error: {kind}: {reason}. -v shows where it came from.",
        "ko": "예상하지 못한 오류입니다: {kind}: {reason}. -v를 붙이면 자세한 내용을 볼 수 있습니다.",
    },
    "cli.library": {
        "en": "{library} cannot be imported: {reason}. Install it with: python -m pip install {package}. 'python -m "
        "realesrgan doctor' says more.",
        "ko": "{library}을(를) 불러올 수 없습니다: {reason}. 설치: python -m pip install {package}. 자세한 "
        "진단은 'python -m "
        "realesrgan doctor'로 볼 수 있습니다.",
    },
    "model.choose": {
        "en": "There is no model named '{name}'. Did you mean {nearest}? The models are:\n{models}",
        "ko": "'{name}'(이)라는 모델은 없습니다. {nearest}을(를) 찾으셨습니까? 쓸 수 있는 모델은 다음과 "
        "같습니다.\n{models}",
    },
}

_DEVICE: Dict[str, Dict[str, str]] = {
    "device.passed_over": {
        "en": "{backend} is not used: {reason}.",
        "ko": "{backend}을(를) 사용하지 않습니다: {reason}.",
    },
    "device.refused": {
        "en": "{device} is not used: {reason} The next device is taken.",
        "ko": "{device}을(를) 사용하지 않습니다: {reason} 다음 장치를 사용합니다.",
    },
    "device.unknown": {
        "en": "Device '{device}' is not known; allowed are auto, directml (or dml, dml:1), cuda (cuda:0), xpu, "
        "mps and "
        "cpu.",
        "ko": "'{device}' 장치를 알 수 없습니다. auto, directml(또는 dml, dml:1), cuda(cuda:0), xpu, mps, cpu 중에서 "
        "고르십시오.",
    },
    "device.missing": {
        "en": "The device {device} is not there: {reason}. This machine has: {there}. What to do: {remedy}.",
        "ko": "{device} 장치가 없습니다({reason}). 이 컴퓨터의 장치: {there}. 해결 방법: {remedy}",
    },
    "device.failed": {
        "en": "{device} ({name}) failed on a small test picture: {reason}. Update the graphics driver, or use "
        "--device cpu.",
        "ko": "{device} ({name})이(가) 작은 시험 그림을 처리하지 못했습니다: {reason}. 그래픽 드라이버를 "
        "업데이트하거나 --device cpu를 사용하십시오.",
    },
    "device.wrong": {
        "en": "{device} ({name}) computes wrong pictures: a test tile is off by {difference} levels of 255. "
        "Update the "
        "graphics driver.",
        "ko": "{device} ({name})의 계산 결과가 틀립니다. 시험 타일이 255단계 중 {difference}단계 어긋납니다. 그래픽 "
        "드라이버를 업데이트하십시오.",
    },
    "device.memory": {
        "en": "The memory of {device} ({name}) does not suffice: tiles of {tried} pixels were tried, down to the "
        "smallest. Close other programs that use the graphics card, or use --device cpu.",
        "ko": "{device} ({name})의 메모리가 부족합니다. {tried} 픽셀 타일을 차례로 시도했습니다. 그래픽 카드를 "
        "쓰는 다른 "
        "프로그램을 닫거나 --device cpu를 사용하십시오.",
    },
    "device.lost": {
        "en": "{device} ({name}) stopped answering. This process cannot use it any more: start again with smaller "
        "tiles (-t 256), or with --device cpu.",
        "ko": "{device} ({name})이(가) 응답을 멈췄습니다. 이 프로세스에서는 더 사용할 수 없습니다. 더 작은 "
        "타일(-t 256)이나 "
        "--device cpu로 다시 시작하십시오.",
    },
    "worker.restarted": {
        "en": "{reason} Going on in a new process (tile: {tile}).",
        "ko": "{reason} 새 프로세스에서 계속합니다(타일: {tile}).",
    },
    "worker.died": {
        "en": "The worker process ended unexpectedly: {how}. Update the graphics driver, or use smaller tiles "
        "(-t 128) or --device cpu.",
        "ko": "작업 프로세스가 갑자기 끝났습니다: {how}. 그래픽 드라이버를 업데이트하거나, 더 작은 타일(-t 128)이나 "
        "--device cpu를 사용하십시오.",
    },
    "tile.smaller": {
        "en": "{device} ran out of memory at a tile of {tile} pixels: going on with {smaller}.",
        "ko": "{device}의 메모리가 {tile} 픽셀 타일에서 부족합니다. {smaller} 픽셀로 줄여 계속합니다.",
    },
    "tile.slow": {
        "en": "{device} became 3 times slower at a tile of {tile} pixels, probably because its memory is full and it "
        "borrows from the main memory: going on with {smaller}. Close other programs that use it.",
        "ko": "{device}이(가) {tile} 픽셀 타일에서 3배 느려졌습니다. 그래픽 메모리가 가득 차서 "
        "주 메모리를 빌려 쓰는 것으로 보입니다. {smaller} 픽셀로 줄여 계속합니다. 그래픽 카드를 쓰는 다른 "
        "프로그램을 닫아 주십시오.",
    },
    "tile.nan": {
        "en": "The network gave NaN or infinity for the tile at {tile} in FP32. The weights or the graphics "
        "driver are "
        "broken: fetch the weights again, update the driver, or use --device cpu.",
        "ko": "{tile} 타일에서 FP32 계산 결과가 NaN이거나 무한대입니다. 가중치나 그래픽 드라이버에 문제가 "
        "있습니다. 가중치를 "
        "다시 받거나, 드라이버를 업데이트하거나, --device cpu를 사용하십시오.",
    },
    "tile.failed": {
        "en": "The network failed on the tile at {tile}: {reason}. Try --device cpu; 'python -m realesrgan doctor' "
        "checks the device.",
        "ko": "{tile} 타일을 처리하지 못했습니다: {reason}. --device cpu로 시도해 보십시오. 장치 점검은 "
        "'python -m realesrgan doctor'로 할 수 있습니다.",
    },
    "precision.single": {
        "en": "FP16 does not hold on {device} ({reason}): going on in FP32.",
        "ko": "{device}에서는 FP16을 쓸 수 없어({reason}) FP32로 계속합니다.",
    },
    "profile.used": {
        "en": "Tiles of {tile} pixels in {precision}, as 'realesrgan tune' found best for {device}.",
        "ko": "'realesrgan tune'이 {device}에 가장 좋다고 측정한 대로 {tile} 픽셀 타일과 {precision}을 사용합니다.",
    },
    "profile.stale": {
        "en": "The tuned profile of {device} is not used: {reason}. Run 'realesrgan tune' again.",
        "ko": "{device}의 조정 결과를 사용하지 않습니다: {reason}. 'realesrgan tune'을 다시 실행하십시오.",
    },
    "profile.corrupt": {
        "en": "The profile {path} cannot be read ({reason}) and is ignored. 'realesrgan tune' writes it anew.",
        "ko": "조정 결과 {path}을(를) 읽을 수 없어({reason}) 무시합니다. 'realesrgan tune'이 새로 만듭니다.",
    },
    "compile.unsupported": {
        "en": "--compile has no effect on {device}: torch.compile does not support it.",
        "ko": "{device}에서는 torch.compile을 쓸 수 없어 --compile을 무시합니다.",
    },
    "compile.failed": {
        "en": "torch.compile does not work on {device} ({reason}): going on without it.",
        "ko": "{device}에서 torch.compile을 쓸 수 없어({reason}) 컴파일하지 않고 계속합니다.",
    },
    "memory.assumed": {
        "en": "{device} does not tell how much memory it has: 8 GB are assumed. If it has less, give a smaller tile "
        "with -t.",
        "ko": "{device}의 메모리 크기를 알 수 없어 8GB로 가정합니다. 더 작다면 -t로 더 작은 타일을 지정하십시오.",
    },
    "host.memory": {
        "en": "The result of {width}x{height} pixels does not fit into main memory. Use a smaller picture or a model "
        "with a smaller scale (RealESRGAN_x2plus).",
        "ko": "{width}x{height} 픽셀 결과가 주 메모리에 들어가지 않습니다. 더 작은 그림이나 배율이 작은 "
        "모델(RealESRGAN_x2plus)을 사용하십시오.",
    },
}

TABLE: Dict[str, Dict[str, str]] = {**_CLI, **_DEVICE, **WEIGHTS, **FACES, **PICTURES, **VIDEO}
