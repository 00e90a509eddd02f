"""The sentences of :mod:`realesrgan.cli.messages` about picture files.

What is wrong with one, and what was left out.
"""

from __future__ import annotations

from typing import Dict

__all__ = ["PICTURES"]

_PICTURE: Dict[str, Dict[str, str]] = {
    "input.missing": {
        "en": "'{path}' does not exist. Give a picture, a folder or a pattern such as 'photos/*.jpg'.",
        "ko": "'{path}'을(를) 찾을 수 없습니다. 그림, 폴더 또는 'photos/*.jpg' 같은 패턴을 지정하십시오.",
    },
    "output.file": {
        "en": "The output {path} is a file; -o takes a folder.",
        "ko": "출력 {path}은(는) 파일입니다. -o에는 폴더를 지정하십시오.",
    },
    "output.unwritable": {
        "en": "Nothing can be written to the output folder {path}: {reason}. Give another one with -o.",
        "ko": "출력 폴더 {path}에 쓸 수 없습니다: {reason}. -o로 다른 폴더를 지정하십시오.",
    },
    "batch.results": {
        "en": "{count} files in {path} are results of other pictures there: not enlarged again.",
        "ko": "{path}의 파일 {count}개는 그 폴더에 있는 다른 그림의 결과이므로 다시 확대하지 않습니다.",
    },
    "report.write": {
        "en": "The report {path} cannot be written: {reason}. Name another file with --report.",
        "ko": "기록 파일 {path}을(를) 쓸 수 없습니다: {reason}. --report로 다른 파일을 지정하십시오.",
    },
    "picture.missing": {"en": "{path}: the file is not there.", "ko": "{path}: 파일이 없습니다."},
    "picture.dangling": {
        "en": "{path}: it is a link, and what it points to is not there.",
        "ko": "{path}: 링크가 가리키는 파일이 없습니다.",
    },
    "picture.link_loop": {
        "en": "{path}: its links lead in a circle.",
        "ko": "{path}: 링크가 서로를 가리켜 파일에 닿지 않습니다.",
    },
    "picture.empty": {"en": "{path}: the file is empty.", "ko": "{path}: 파일이 비어 있습니다."},
    "picture.directory": {"en": "{path}: it is a folder, not a picture.", "ko": "{path}: 그림이 아니라 폴더입니다."},
    "picture.not_a_file": {
        "en": "{path}: it is a device or a pipe, not a file.",
        "ko": "{path}: 파일이 아니라 장치나 파이프입니다.",
    },
    "picture.damaged": {"en": "{path}: the file is damaged.", "ko": "{path}: 파일이 손상되었습니다."},
    "picture.truncated": {"en": "{path}: the file is truncated.", "ko": "{path}: 파일이 중간에서 잘렸습니다."},
    "picture.format": {
        "en": "{path}: it is no picture that is known (PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF and HEIC are read).",
        "ko": "{path}: 읽을 수 있는 그림이 아닙니다(PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF, HEIC를 읽습니다).",
    },
    "picture.package": {
        "en": "{path}: {format} pictures can be read once this is installed: {package}.",
        "ko": "{path}: {format} 그림은 다음을 설치하면 읽을 수 있습니다: {package}.",
    },
    "picture.unsupported": {
        "en": "{path}: its pixels are of a kind that is not supported ({kind}); save it as 16 bit.",
        "ko": "{path}: 지원하지 않는 픽셀 형식입니다({kind}). 16비트로 저장하십시오.",
    },
    "picture.too_large": {
        "en": "{path}: {width}x{height} is more than {limit} pixels; raise --max-pixels to read it.",
        "ko": "{path}: {width}x{height}은(는) 한도 {limit}픽셀보다 큽니다. 그래도 읽으려면 --max-pixels 값을 "
        "늘리십시오.",
    },
    "picture.file_size": {
        "en": "{path}: the file has {bytes} bytes, more than a picture of {limit} pixels needs.",
        "ko": "{path}: 파일 크기가 {bytes}바이트로, {limit}픽셀 그림에 필요한 크기를 넘습니다.",
    },
    "picture.memory": {"en": "{path}: there is not enough memory.", "ko": "{path}: 메모리가 부족합니다."},
    "picture.clash": {
        "en": "{path} is not written to {target}: {other} has the same result name; rename one of the two.",
        "ko": "{path}의 결과를 {target}에 쓰지 않습니다. {other}의 결과와 이름이 같습니다. 둘 중 하나의 이름을 "
        "바꾸십시오.",
    },
    "picture.overwrites": {
        "en": "{path} is not written to {target}: the result would overwrite the input {other}; give another "
        "folder or suffix.",
        "ko": "{path}의 결과를 {target}에 쓰지 않습니다. 입력 {other}을(를) 덮어쓰게 됩니다. 다른 폴더나 접미사를 "
        "지정하십시오.",
    },
    "picture.permission": {
        "en": "{path}: no permission, or another program holds it open.",
        "ko": "{path}: 권한이 없거나 다른 프로그램이 파일을 열고 있습니다.",
    },
    "picture.read_only": {"en": "{path}: the disk is read-only.", "ko": "{path}: 읽기 전용 디스크입니다."},
    "picture.disk_full": {
        "en": "{path}: the disk is full; free some space or give another output folder.",
        "ko": "{path}: 디스크에 쓸 공간이 없습니다. 공간을 비우거나 다른 출력 폴더를 지정하십시오.",
    },
    "picture.name_length": {
        "en": "{path}: the name is too long for the file system; shorten it.",
        "ko": "{path}: 이름이 파일 시스템의 한도보다 깁니다. 이름을 줄이십시오.",
    },
    "picture.read": {"en": "{path}: {reason}.", "ko": "{path}: 읽을 수 없습니다({reason})."},
    "picture.write": {"en": "{path}: {reason}.", "ko": "{path}: 쓸 수 없습니다({reason})."},
    "picture.encode": {"en": "{path}: {reason}.", "ko": "{path}: 파일로 만들 수 없습니다({reason})."},
    "picture.format_limit": {
        "en": "{path}: the result is larger than its format takes; write another one with --ext.",
        "ko": "{path}: 결과가 이 형식이 담을 수 있는 크기보다 큽니다. --ext로 다른 형식을 지정하십시오.",
    },
}

_NOTE: Dict[str, Dict[str, str]] = {
    "note.first_frame": {
        "en": "it is animated: only its first frame is used",
        "ko": "움직이는 그림입니다. 첫 장면만 사용합니다",
    },
    "note.first_page": {
        "en": "it has several pages: only the first is used",
        "ko": "여러 쪽으로 된 그림입니다. 첫 쪽만 사용합니다",
    },
    "note.depth": {
        "en": "{format} holds 8 bit: the 16-bit values were rounded",
        "ko": "{format}은(는) 8비트만 담을 수 있어 16비트 값을 반올림했습니다",
    },
    "note.deep": {
        "en": "its 32-bit values were rounded to 16 bit",
        "ko": "32비트 값을 16비트로 반올림했습니다",
    },
    "note.float": {
        "en": "its floating-point values were stored as 16 bit, {white} as white",
        "ko": "부동소수점 값을 {white}을(를) 흰색으로 하여 16비트로 저장했습니다",
    },
    "note.alpha": {
        "en": "{format} holds no alpha: the picture was laid onto white",
        "ko": "{format}은(는) 투명도를 담을 수 없어 흰 바탕에 얹었습니다",
    },
    "note.icc_dropped": {
        "en": "its colour profile does not fit and is left out",
        "ko": "색상 프로파일이 맞지 않아 제외했습니다",
    },
    "note.exif_dropped": {
        "en": "its EXIF block does not fit and is left out",
        "ko": "EXIF를 담을 수 없어 제외했습니다",
    },
    "note.exif_damaged": {"en": "its EXIF block is damaged and is left out", "ko": "EXIF가 손상되어 제외했습니다"},
    "note.lab": {"en": "Lab was converted to sRGB", "ko": "Lab 색상을 sRGB로 바꿨습니다"},
    "note.cmyk_profile": {
        "en": "CMYK was converted to sRGB through its profile",
        "ko": "CMYK 색상을 프로파일에 따라 sRGB로 바꿨습니다",
    },
    "note.cmyk_plain": {
        "en": "CMYK was converted to RGB by a plain rule",
        "ko": "CMYK 색상을 단순 변환으로 RGB로 바꿨습니다",
    },
}

PICTURES: Dict[str, Dict[str, str]] = {**_PICTURE, **_NOTE}
