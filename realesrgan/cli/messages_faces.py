"""The sentences of :mod:`realesrgan.cli.messages` about faces."""

from __future__ import annotations

from typing import Dict

__all__ = ["FACES"]

FACES: Dict[str, Dict[str, str]] = {
    "faces.missing": {
        "en": "--face_enhance needs GFPGAN, which cannot be imported here ({reason}). Install it with: python "
        "scripts/first_run.py --train --install-only (docs/faces.md has the lines for pip).",
        "ko": "--face_enhance에는 GFPGAN이 필요하지만 불러올 수 없습니다({reason}). 설치: python scripts/first_run.py "
        "--train --install-only (pip으로 설치하는 명령은 docs/faces.md에 있습니다).",
    },
    "faces.python": {
        "en": "--face_enhance needs GFPGAN, which needs basicsr, and that does not build on Python {version}. Use "
        "Python 3.9 to 3.12.",
        "ko": "--face_enhance에 필요한 GFPGAN은 basicsr를 쓰는데, basicsr는 Python {version}에 설치되지 않습니다. "
        "Python 3.9~3.12를 사용하십시오.",
    },
    "faces.weights": {
        "en": "--face_enhance needs weights that are not here:\n{listing}\nPut them into one of these folders:\n"
        "{folders}\nand run with --trust-weights.",
        "ko": "--face_enhance에 필요한 가중치 파일이 없습니다.\n{listing}\n다음 폴더 중 하나에 넣고\n{folders}\n"
        "--trust-weights를 붙여 실행하십시오. 이 파일들의 SHA-256은 서로 독립된 두 출처에서 확인되지 않아, 파일을 "
        "믿을지는 사용자가 정해야 합니다. --trust-weights를 붙이면 없는 파일은 위 주소에서 내려받습니다.",
    },
    "faces.download": {
        "en": "--face_enhance needs weights that are not here:\n{listing}\nDownloading failed: {reason}\nPut them into "
        "one of these folders:\n{folders}",
        "ko": "--face_enhance에 필요한 가중치 파일이 없습니다.\n{listing}\n내려받지 못했습니다: {reason}\n다른 곳에서 "
        "받아 다음 폴더 중 하나에 넣으십시오.\n{folders}",
    },
    "faces.untrusted": {
        "en": "These face weights cannot be verified, and are not used:\n{listing}\nIf you trust where you have them "
        "from, run with --trust-weights.",
        "ko": "다음 얼굴 가중치는 검증할 수 없어 사용하지 않습니다.\n{listing}\n이 파일들의 SHA-256은 서로 독립된 두 "
        "출처에서 확인되지 않았습니다. 출처를 믿는다면 --trust-weights를 붙여 실행하십시오.",
    },
    "faces.network": {
        "en": "{path} does not fit the network {network}. Give the file that is published as {name}.pth.",
        "ko": "{path}은(는) 네트워크 {network}에 맞지 않습니다. {name}.pth로 공개된 파일을 사용하십시오.",
    },
    "faces.failed": {
        "en": "A face could not be restored on {device}: {reason}. Leave out --face_enhance for this picture.",
        "ko": "{device}에서 얼굴을 복원하지 못했습니다: {reason}. 이 그림에는 --face_enhance를 빼고 실행하십시오.",
    },
    "faces.cpu": {
        "en": "Faces are restored on the CPU, because on the {backend} device ({device}) {reason}. All else stays on "
        "it.",
        "ko": "얼굴은 CPU에서 복원합니다. {backend} 장치({device})에서 할 수 없는 이유: {reason}. 나머지는 그 장치에서 "
        "처리합니다.",
    },
    "faces.single": {
        "en": "FP16 does not hold for faces on {device} ({reason}): they are restored in FP32.",
        "ko": "{device}에서는 얼굴에 FP16을 쓸 수 없어({reason}) FP32로 복원합니다.",
    },
    "faces.weights_used": {
        "en": "Face weights: {name}, own files: {paths}",
        "ko": "얼굴 가중치: {name}, 사용자 파일: {paths}",
    },
    "faces.depth": {
        "en": "Faces are restored in 8 bit; the rest of a 16-bit picture keeps its depth.",
        "ko": "얼굴은 8비트로 복원합니다. 16비트 그림의 나머지는 그대로 16비트입니다.",
    },
}
