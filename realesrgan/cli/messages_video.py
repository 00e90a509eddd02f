"""The sentences of :mod:`realesrgan.cli.messages` about videos."""

from __future__ import annotations

from typing import Dict

__all__ = ["VIDEO"]

_RUN: Dict[str, Dict[str, str]] = {
    "video.device": {
        "en": "Device: {name} ({device}), {precision}, model {model}",
        "ko": "장치: {name} ({device}), {precision}, 모델 {model}",
    },
    "video.begins": {
        "en": "{input} ({width}x{height}) -> {output} ({out_width}x{out_height}, {encoder}, {pix_fmt})",
        "ko": "시작: {input} ({width}x{height}) -> {output} ({out_width}x{out_height}, {encoder}, {pix_fmt})",
    },
    "video.progress": {
        "en": "{name}: {done} of {total} frames, {rate} a second, {left} s left",
        "ko": "{name}: {total} 중 {done} 프레임, 초당 {rate}, 남은 시간 {left}초",
    },
    "video.done": {
        "en": "{output}: {frames} frames in {seconds} s ({rate} a second, device busy {share} %), "
        "{repeated} repeats computed once, {resumed} from an earlier run, dropped {dropped}",
        "ko": "{output}: {frames} 프레임, {seconds}초 (초당 {rate}, 장치 사용 {share} %), 반복 "
        "{repeated}개는 한 번만 계산, 이전 실행에서 {resumed}개, 누락 {dropped}",
    },
    "video.busy": {
        "en": "Busy, in seconds: {stages}",
        "ko": "단계별 작업 시간(초): {stages}",
    },
    "video.skipped": {
        "en": "{path} is done already: skipped",
        "ko": "{path}: 이미 처리되어 건너뜁니다",
    },
    "video.summary": {
        "en": "{done} videos done, {failed} failed",
        "ko": "비디오 완료 {done}개, 실패 {failed}개",
    },
    "video.preview": {
        "en": "Preview, input beside result: {path}",
        "ko": "미리보기 (입력과 결과): {path}",
    },
    "video.stopped": {
        "en": "Stopped after {frames} frames, playable in {path}. The same command goes on from there.",
        "ko": "{frames} 프레임 뒤에 중단했습니다. 그때까지의 결과: {path}. 같은 명령을 다시 실행하면 "
        "이어서 처리합니다.",
    },
    "video.stopped_early": {
        "en": "Stopped before any frame was finished.",
        "ko": "완성된 프레임 없이 중단했습니다.",
    },
    "video.concealed": {
        "en": "{count} frames of the input are damaged:",
        "ko": "입력에서 손상된 프레임 {count}개:",
    },
    "video.concealed_repeated": {
        "en": "frame {index} at {time} s cannot be read: the one before is shown again",
        "ko": "프레임 {index} ({time}초): 읽을 수 없어 앞 프레임을 다시 보여 줍니다",
    },
    "video.concealed_damaged": {
        "en": "frame {index} at {time} s is damaged: taken as the decoder mended it",
        "ko": "프레임 {index} ({time}초): 손상되어 디코더가 보완한 대로 씁니다",
    },
    "video.concealed_more": {
        "en": "and {count} more",
        "ko": "그 밖에 {count}개",
    },
    "video.flag_num_process_per_gpu": {
        "en": "--num_process_per_gpu: one process is enough now; decoding, network and encoding overlap in it.",
        "ko": "--num_process_per_gpu: 이제 한 프로세스 안에서 디코딩, 신경망, 인코딩이 함께 돌아가므로 "
        "효과가 없습니다.",
    },
    "video.flag_ffmpeg_bin": {
        "en": "--ffmpeg_bin: no ffmpeg program is run; PyAV brings what is needed.",
        "ko": "--ffmpeg_bin: ffmpeg 프로그램을 쓰지 않습니다. 필요한 것은 PyAV에 들어 있습니다.",
    },
    "video.flag_extract_frame_first": {
        "en": "--extract_frame_first: frames are never written to the disk, so this changes nothing.",
        "ko": "--extract_frame_first: 프레임을 디스크에 쓰지 않으므로 효과가 없습니다.",
    },
    "video.flag_ext": {
        "en": "--ext: it named the format of extracted frames; none are written now. See --codec and --container.",
        "ko": "--ext: 추출한 프레임의 형식이었으나 이제 프레임을 쓰지 않습니다. --codec과 --container를 보십시오.",
    },
}

_NOTICES: Dict[str, Dict[str, str]] = {
    "video.mixed": {
        "en": "{path} holds {videos} videos and {pictures} pictures: the videos are taken.",
        "ko": "{path}에 비디오 {videos}개와 그림 {pictures}개가 있습니다. 비디오를 처리합니다.",
    },
    "video.interlaced": {
        "en": "{path} is interlaced: its frames are enlarged as they are woven, combs included. "
        "Deinterlace it first for a better result.",
        "ko": "{path}은(는) 인터레이스 영상입니다. 빗살 무늬까지 그대로 확대되므로 먼저 디인터레이스하는 "
        "것이 좋습니다.",
    },
    "video.assumed_colour": {
        "en": "{path} does not say what its colours mean: taken as {matrix}, as players do for its size. "
        "The result says so.",
        "ko": "{path}에 색 정보가 없어 재생기처럼 크기에 따라 {matrix}(으)로 보고, 결과에 표시합니다.",
    },
    "video.even": {
        "en": "{pix_fmt} takes even sizes only: the result of {size} is continued by its edge to {even}.",
        "ko": "{pix_fmt}은(는) 짝수 크기만 됩니다. {size} 결과의 가장자리를 늘려 {even}(으)로 만듭니다.",
    },
    "video.alpha_dropped": {
        "en": "{path}: its transparency is left out.",
        "ko": "{path}: 투명도를 뺍니다.",
    },
    "video.alpha_unseen": {
        "en": "{path}: The transparency of this VP8/VP9 video cannot be read: it is lost.",
        "ko": "{path}: 이 VP8/VP9 비디오의 투명도는 읽을 수 없어 사라집니다.",
    },
    "video.side_data": {
        "en": "{path}: Not carried into the result: {what} data.",
        "ko": "{path}: 결과에 옮기지 못하는 정보: {what}.",
    },
    "video.pixel_shape": {
        "en": "{path} has pixels of {shape}, which Matroska is not told for this codec: players may show them square. "
        "--container mp4 keeps them.",
        "ko": "{path}의 픽셀 비율 {shape}을(를) 이 코덱으로는 Matroska에 적지 못해 정사각형으로 보일 수 있습니다. "
        "--container mp4는 유지합니다.",
    },
    "video.depth": {
        "en": "{path} has {depth} bits a value, {pix_fmt} keeps {kept}.",
        "ko": "{path}은(는) {depth}비트인데 {pix_fmt}은(는) {kept}비트만 담습니다.",
    },
    "video.large_h264": {
        "en": "The result has {width}x{height} pixels: few players show H.264 of that size. --codec hevc "
        "or a smaller -s goes further.",
        "ko": "결과가 {width}x{height} 픽셀입니다. 이 크기의 H.264를 재생하는 프로그램은 드뭅니다. "
        "--codec hevc나 더 작은 -s를 쓰십시오.",
    },
    "video.moved": {
        "en": "{path}: {count} frames had a time stamp that was not after the one before; they were moved.",
        "ko": "{path}: 시각이 앞 프레임보다 늦지 않은 프레임 {count}개의 시각을 옮겼습니다.",
    },
    "video.short": {
        "en": "{path} ends early: it says {told} s and has pictures for {seen} s.",
        "ko": "{path}이(가) 일찍 끝납니다. 표시된 길이는 {told}초, 화면은 {seen}초뿐입니다.",
    },
    "video.broken_off": {
        "en": "{path} cannot be read further ({reason}): the result ends there.",
        "ko": "{path}을(를) 더 읽을 수 없습니다 ({reason}). 결과도 거기서 끝납니다.",
    },
    "video.segment": {
        "en": "A finished segment ({first}) is missing or damaged: it is computed again.",
        "ko": "끝난 구간({first})이 없거나 손상되어 다시 계산합니다.",
    },
    "video.left_out": {
        "en": "Stream {index} ({type}, {codec}) cannot be copied into {container} and is left out: "
        "{reason}. --container mkv holds nearly everything.",
        "ko": "스트림 {index}({type}, {codec})은(는) {container}에 넣을 수 없어 뺍니다: {reason}. "
        "--container mkv에는 거의 모두 들어갑니다.",
    },
    "video.matroska": {
        "en": "mp4 cannot hold stream {index} ({type}, {codec}): the result comes into a {container} file. "
        "--container mp4 leaves the stream out instead.",
        "ko": "mp4에는 스트림 {index}({type}, {codec})을(를) 넣을 수 없어 결과를 {container} 파일로 만듭니다. "
        "--container mp4를 주면 그 스트림을 뺍니다.",
    },
    "video.shifted": {
        "en": "The sound begins before 0, and Matroska has no such times: all streams are {milliseconds} ms later "
        "there, still together. --container mp4 keeps the times.",
        "ko": "소리가 0초 전에 시작하는데 Matroska에는 그런 시각이 없어 모든 스트림을 함께 {milliseconds} ms 늦춥니다. "
        "--container mp4는 시각을 그대로 둡니다.",
    },
    "video.packets": {
        "en": "{count} damaged packets of sound or other copied streams are left out: {container} refuses "
        "them ({reason}).",
        "ko": "소리 등 복사하는 스트림의 손상된 패킷 {count}개를 {container}이(가) 받지 않아 뺍니다 ({reason}).",
    },
    "video.chapters": {
        "en": "This version of PyAV cannot carry chapters: if the file has any, they are left out. PyAV 16 "
        "or newer (Python 3.10 or newer) carries them.",
        "ko": "이 PyAV 판은 챕터를 옮기지 못합니다. 챕터가 있으면 빠집니다. PyAV 16 이상(Python 3.10 이상)은 옮깁니다.",
    },
    "video.chapters_failed": {
        "en": "The chapters cannot be copied: {reason}.",
        "ko": "챕터를 복사할 수 없습니다: {reason}.",
    },
    "video.rotation": {
        "en": "The rotation of the video cannot be carried: turn the result yourself.",
        "ko": "비디오의 회전 정보를 옮길 수 없습니다. 결과를 직접 돌리십시오.",
    },
}

_ERRORS: Dict[str, Dict[str, str]] = {
    "video.no_av": {
        "en": "Videos need PyAV, which cannot be imported here ({reason}). Install it with: python -m pip install av",
        "ko": "비디오에는 PyAV가 필요한데 불러올 수 없습니다 ({reason}). 설치: python -m pip install av",
    },
    "video.old_av": {
        "en": "PyAV {version} does not fit; {fitting} do: python -m pip install --upgrade av",
        "ko": "PyAV {version}은(는) 맞지 않습니다. 맞는 판: {fitting}. python -m pip install --upgrade av",
    },
    "video.missing": {
        "en": "'{path}' does not exist. Give a video, a folder of frames or a folder of videos with -i.",
        "ko": "'{path}'을(를) 찾을 수 없습니다. -i에 비디오, 프레임 폴더 또는 비디오 폴더를 지정하십시오.",
    },
    "video.empty_folder": {
        "en": "There is neither a video nor a picture in the folder {path}.",
        "ko": "폴더 {path}에 비디오도 그림도 없습니다.",
    },
    "video.overwrites": {
        "en": "The result would overwrite the input {path}: give another folder with -o, or a --suffix.",
        "ko": "결과가 입력 {path}을(를) 덮어쓰게 됩니다. -o로 다른 폴더를 지정하거나 --suffix를 쓰십시오.",
    },
    "video.clash": {
        "en": "{path} is left out: {other} has the same result name, {name}.",
        "ko": "{path}을(를) 뺍니다. {other}의 결과 이름이 {name}(으)로 같습니다.",
    },
    "video.unreadable": {
        "en": "{path} cannot be read as a video: {reason}.",
        "ko": "{path}을(를) 비디오로 읽을 수 없습니다: {reason}.",
    },
    "video.no_stream": {
        "en": "{path} has no video stream.",
        "ko": "{path}에 비디오 스트림이 없습니다.",
    },
    "video.matrix": {
        "en": "The video's colour matrix (number {matrix} of ITU-T H.273) cannot be converted. Convert "
        "the video first.",
        "ko": "비디오의 색 행렬(ITU-T H.273의 {matrix}번)은 변환할 수 없습니다. 먼저 다른 것으로 변환하십시오.",
    },
    "video.alpha": {
        "en": "{path} has transparency, which {codec} cannot hold. Use --codec ffv1 to keep it, or "
        "--drop-alpha to leave it out.",
        "ko": "{path}에 투명도가 있지만 {codec}은(는) 담지 못합니다. 유지하려면 --codec ffv1, 빼려면 "
        "--drop-alpha를 쓰십시오.",
    },
    "video.encoder": {
        "en": "This PyAV has no encoder for {codec}. It has: {there}. A newer one may have it: python -m "
        "pip install --upgrade av",
        "ko": "이 PyAV에는 {codec} 인코더가 없습니다. 있는 것: {there}. 새 판에는 있을 수 있습니다: "
        "python -m pip install --upgrade av",
    },
    "video.pix_fmt": {
        "en": "{encoder} does not take the pixel format {value}. It takes: {allowed}.",
        "ko": "{encoder}은(는) 픽셀 형식 {value}을(를) 받지 않습니다. 받는 형식: {allowed}.",
    },
    "video.container": {
        "en": "{container} cannot hold {codec}. Use --container {usual}, or another --codec.",
        "ko": "{container}에는 {codec}을(를) 담을 수 없습니다. --container {usual}이나 다른 --codec을 쓰십시오.",
    },
    "video.frame_size": {
        "en": "{path} has {size} pixels, the pictures before it {first}: the frames of a video have one size.",
        "ko": "{path}은(는) {size} 픽셀인데 앞의 그림은 {first}입니다. 비디오의 프레임은 크기가 같아야 합니다.",
    },
    "video.encoding": {
        "en": "The encoder failed: {reason}. Another --codec, --pix_fmt or --preset may work.",
        "ko": "인코더가 실패했습니다: {reason}. 다른 --codec, --pix_fmt 또는 --preset을 써 보십시오.",
    },
    "video.segment_count": {
        "en": "The encoder was given {wanted} frames, and {name} gives {count} back: nothing of it is kept. "
        "Another --codec or --preset may work.",
        "ko": "인코더에 {wanted} 프레임을 주었는데 {name}에서 {count} 프레임만 읽혀 이 구간을 버립니다. 다른 "
        "--codec이나 --preset을 써 보십시오.",
    },
    "video.disk": {
        "en": "{path} cannot be written: {reason}. What is finished is kept: make room on the disk and "
        "start the same command again; it goes on from there.",
        "ko": "{path}에 쓸 수 없습니다: {reason}. 끝난 부분은 남아 있습니다. 디스크를 비우고 같은 명령을 "
        "다시 실행하면 이어서 처리합니다.",
    },
    "video.unwritable": {
        "en": "{path} cannot be written: {reason}.",
        "ko": "{path}에 쓸 수 없습니다: {reason}.",
    },
    "video.other": {
        "en": "{folder} holds the unfinished result of a run with another {names}. Start with the same "
        "options to go on, or with --restart to throw it away.",
        "ko": "{folder}에 {names}이(가) 다른 실행의 미완성 결과가 있습니다. 같은 옵션으로 이어서 하거나 "
        "--restart로 버리십시오.",
    },
    "video.count": {
        "en": "{path} would hold {count} frames instead of {wanted}; it is not written. The finished "
        "segments are kept: another --container may do.",
        "ko": "{path}에 {wanted} 대신 {count} 프레임이 들어가게 되어 쓰지 않았습니다. 끝난 구간은 남아 "
        "있으니 다른 --container를 써 보십시오.",
    },
    "video.join": {
        "en": "{path} cannot be written: {reason}. The finished segments are kept: start the same command "
        "again, perhaps with another --container.",
        "ko": "{path}에 쓸 수 없습니다: {reason}. 끝난 구간은 남아 있습니다. 같은 명령을 다시, 또는 다른 "
        "--container로 실행하십시오.",
    },
}

VIDEO: Dict[str, Dict[str, str]] = {**_RUN, **_NOTICES, **_ERRORS}
