"""What the page itself says: labels and states in both languages. Errors and notes are the program's own sentences."""

from __future__ import annotations

from typing import Dict, Tuple

__all__ = ["KINDS", "VIDEO_KINDS", "words"]

KINDS: Tuple[Tuple[str, str], ...] = (
    ("photo", "RealESRGAN_x4plus"),
    ("photo_quick", "realesr-general-x4v3"),
    ("anime", "RealESRGAN_x4plus_anime_6B"),
    ("drawing", "realesr-animevideov3"),
)
"""What a picture is, and the model for it."""
VIDEO_KINDS: Tuple[Tuple[str, str], ...] = (
    ("anime_video", "realesr-animevideov3"),
    ("real_video", "realesr-general-x4v3"),
)

_WORDS: Dict[str, Tuple[str, str]] = {
    "title": ("Real-ESRGAN: make pictures larger", "Real-ESRGAN: 사진 크게 만들기"),
    "local": (
        "Everything stays on this machine. Files are removed when the program ends, and after an hour.",
        "모든 작업은 이 컴퓨터 안에서만 이루어집니다. 파일은 프로그램이 끝날 때, 그리고 한 시간 뒤에 삭제됩니다.",
    ),
    "pictures": ("Pictures", "사진"),
    "video": ("Video", "동영상"),
    "machine": ("My machine", "내 컴퓨터"),
    "drop": ("Drop pictures here, click to choose, or paste", "사진을 끌어다 놓거나, 눌러서 고르거나, 붙여넣으세요"),
    "drop_video": ("Drop a video here, or click to choose", "동영상을 끌어다 놓거나 눌러서 고르세요"),
    "kind": ("What is it?", "어떤 그림입니까?"),
    "photo": ("Photo, best quality", "사진, 최고 품질"),
    "photo_quick": ("Photo, quick", "사진, 빠르게"),
    "anime": ("Anime picture", "애니메이션 그림"),
    "drawing": ("Drawing, quick", "만화·선화, 빠르게"),
    "anime_video": ("Anime", "애니메이션"),
    "real_video": ("Filmed", "실사"),
    "model": ("Model", "모델"),
    "times": ("How much larger?", "얼마나 크게 만들까요?"),
    "advanced": ("Advanced", "고급 설정"),
    "device": ("Device (auto: the program chooses)", "장치 (auto: 자동 선택)"),
    "tile": ("Tile size (0: the program chooses)", "타일 크기 (0: 자동 선택)"),
    "precision": ("Precision", "정밀도"),
    "auto": ("automatic", "자동"),
    "faces": ("Restore faces (needs GFPGAN)", "얼굴 복원 (GFPGAN 필요)"),
    "denoise": ("Remove noise (photo, quick)", "노이즈 제거 (사진, 빠르게)"),
    "format": ("Format of the results", "결과 형식"),
    "quality": ("Quality of JPEG and WebP", "JPEG·WebP 품질"),
    "own_model": ("Own model file (.pth, .safetensors)", "직접 고른 모델 파일 (.pth, .safetensors)"),
    "start": ("Start", "시작"),
    "stop": ("Stop", "중지"),
    "pause": ("Pause", "일시 정지"),
    "resume": ("Go on", "계속"),
    "preview": ("Preview three frames", "세 장면 미리 보기"),
    "codec": ("Video format", "동영상 형식"),
    "show": ("Show", "보기"),
    "compare": ("Before and after", "전과 후"),
    "results": ("Download", "내려받기"),
    "zip": ("Download all (zip)", "모두 내려받기 (zip)"),
    "save_to": ("Save into a folder of this machine", "이 컴퓨터의 폴더에 저장"),
    "save": ("Save", "저장"),
    "saved": ("{count} files saved in {folder}.", "{folder}에 파일 {count}개를 저장했습니다."),
    "nothing": ("Choose pictures first.", "먼저 사진을 고르세요."),
    "nothing_video": ("Choose a video first.", "먼저 동영상을 고르세요."),
    "waiting": ("Waiting; runs before this one: {ahead}", "대기 중, 앞에 남은 작업: {ahead}개"),
    "loading": ("Loading the model", "모델을 불러오는 중"),
    "working": ("Working", "작업 중"),
    "paused": ("Paused", "일시 정지됨"),
    "done": ("Done", "완료"),
    "stopped": ("Stopped. What was finished is kept.", "중지했습니다. 완료된 결과는 남아 있습니다."),
    "failed": ("Not done", "완료하지 못했습니다"),
    "files": ("{done} of {total}", "{total}개 중 {done}개"),
    "left": ("about {time} left", "약 {time} 남음"),
    "seconds": ("{count} s", "{count}초"),
    "minutes": ("{count} min", "{count}분"),
    "sizes": (
        "{name}: {width}x{height} to {wide}x{high}, {seconds} s",
        "{name}: {width}x{height} → {wide}x{high}, {seconds}초",
    ),
    "look": ("Examine again", "다시 확인"),
    "verdict": ("What this machine can do", "이 컴퓨터로 할 수 있는 일"),
    "report": ("Report (copy it for a question about a problem)", "보고서 (문제를 물어볼 때 복사해서 보내세요)"),
    "tune": ("Measure the quickest settings", "가장 빠른 설정 측정"),
    "tune_seconds": ("Measure for at most (seconds)", "최대 측정 시간 (초)"),
    "tuning": ("What was measured", "측정 결과"),
}


def words(lang: str) -> Dict[str, str]:
    """The words of a language, ``"en"`` or ``"ko"``."""
    place = 1 if lang == "ko" else 0
    return {name: both[place] for name, both in _WORDS.items()}
