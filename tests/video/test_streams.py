"""What a video holds beside its frames: copied as it is, or said."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from clips import Nearest, chapters, copied_stream, decode, needs_chapters, packets, picture, times, write
from rich_clip import all_packets, samples, write_rich

FRAMES = [picture(number) for number in range(24)]

newer = pytest.mark.skipif(
    not hasattr(av.container.OutputContainer, "add_attachment"), reason="PyAV before 16 cannot write attachments"
)


@pytest.fixture()
def words(tmp_path):
    """Two subtitle files."""
    (tmp_path / "words.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,600\none\n\n2\n00:00:00,700 --> 00:00:01,100\ntwo\n", encoding="utf-8"
    )
    (tmp_path / "words.ass").write_text(
        "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
        "Style: Default,Arial,20\n\n"
        "[Events]\nFormat: Layer, Start, End, Style, Text\nDialogue: 0,0:00:00.10,0:00:00.50,Default,hi\n",
        encoding="utf-8",
    )
    return tmp_path / "words.srt", tmp_path / "words.ass"


@newer
def test_every_stream_of_a_matroska_file_is_copied(tmp_path, enlarge, words, said):
    clip = write_rich(
        tmp_path / "in.mkv",
        FRAMES,
        sounds=("aac", "ac3", "flac", "pcm_s16le"),
        words=words,
        fonts=True,
        cover=False,
        second=True,
    )
    _, target = enlarge(clip, segment=7, encoder={"container": "mkv"})
    before, after = all_packets(clip), all_packets(target)
    assert [kind for kind, *_ in after.values()] == [*["audio"] * 4, "video", *["subtitle"] * 2, "attachment"]
    assert after == before
    assert all(len(entries) >= 1 for kind, _, _, entries in after.values() if kind != "attachment")
    with av.open(str(target)) as container:
        assert container.streams[8].metadata["filename"] == "font.ttf"
    assert not {"video.left_out", "video.packets", "video.shifted"} & set(said)


def test_several_sound_streams_of_an_mp4_sound_the_same(tmp_path, enlarge, said):
    """The samples that a player leaves out at the beginning of AAC are left out again, so that all stays in sync."""
    clip = write_rich(tmp_path / "in.mp4", FRAMES, sounds=("aac", "aac", "ac3"), second=True)
    _, target = enlarge(clip, segment=7)
    assert all_packets(target) == all_packets(clip)
    for number in range(3):
        (start, wanted), (begun, found) = samples(clip, number), samples(target, number)
        assert begun == start
        assert np.array_equal(found, wanted)
    assert times(target) == times(clip)
    assert "video.left_out" not in said


@newer
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_cover_picture_stays_one(tmp_path, enlarge, container):
    clip = write_rich(tmp_path / "in.mp4", FRAMES, cover=True)
    _, target = enlarge(clip, encoder={"container": container})
    with av.open(str(clip)) as before, av.open(str(target)) as after:
        assert after.streams.video[1].disposition == av.stream.Disposition.attached_pic
        cover = [next(packet for packet in file.demux(video=1) if packet.size) for file in (before, after)]
        assert bytes(cover[1]) == bytes(cover[0])
    assert len(decode(target)) == 24


@newer
def test_a_cover_picture_that_mov_has_not_is_said(tmp_path, enlarge, said):
    clip = write_rich(tmp_path / "in.mp4", FRAMES[:3], cover=True)
    _, target = enlarge(clip, encoder={"container": "mov"})
    assert said.count("video.left_out") == 1
    with av.open(str(target)) as container:
        assert len(container.streams.video) == 1


@needs_chapters
def test_subtitles_chapters_and_titles_are_copied(tmp_path, enlarge, words, said):
    with av.open(str(words[0])) as subtitles:
        clip = write(tmp_path / "in.mkv", FRAMES, sound=True, subtitle=subtitles, chapters=chapters())
    _, target = enlarge(clip, encoder={"container": "mkv"})
    assert packets(target, "subtitle") == packets(clip, "subtitle")
    assert len(packets(target, "subtitle")) == 2
    with av.open(str(target)) as container:
        found = [(entry["metadata"]["title"], entry["start"] * entry["time_base"]) for entry in container.chapters()]
        assert container.streams.subtitles[0].metadata["language"] == "fra"
    assert found == [("one", 0), ("둘", Fraction(1, 2))]
    assert not {"video.left_out", "video.chapters"} & set(said)


@needs_chapters
def test_chapters_from_mp4_to_mp4(tmp_path, enlarge, said):
    clip = write(tmp_path / "in.mp4", FRAMES, chapters=chapters())
    _, target = enlarge(clip)
    with av.open(str(target)) as container:
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one", "둘"]
    assert "video.left_out" not in said


@pytest.mark.skipif(hasattr(av.container.OutputContainer, "set_chapters"), reason="this PyAV carries chapters")
def test_chapters_that_this_pyav_cannot_write_are_said(tmp_path, enlarge, said, monkeypatch):
    clip = write(tmp_path / "in.mp4", FRAMES[:3])
    monkeypatch.delattr(av.container.InputContainer, "chapters", raising=False)
    enlarge(clip)
    assert said.count("video.chapters") == 1


def test_subtitles_that_mp4_cannot_hold_make_it_matroska(tmp_path, enlarge, words, said):
    clip = write_rich(tmp_path / "in.mkv", FRAMES, words=words[:1])
    _, target = enlarge(clip)
    assert target.suffix == ".mkv"
    assert said.count("video.matroska") == 1 and "video.left_out" not in said
    assert packets(target, "subtitle") == packets(clip, "subtitle")
    assert times(target) == times(clip)


def test_what_cannot_be_copied_is_said_before_the_work(tmp_path, enlarge, words, said):
    clip = write_rich(tmp_path / "in.mkv", FRAMES, words=words)
    known = []
    _, target = enlarge(
        clip, Nearest(lambda count: known.append(said.count("video.left_out"))), encoder={"container": "mp4"}
    )
    assert set(known) == {2}
    assert said.count("video.left_out") == 2
    assert [kind for kind, *_ in all_packets(target).values()] == ["audio"]
    assert len(decode(target)) == 24


def test_sound_that_only_its_first_packet_shows_to_be_unfit(tmp_path, enlarge, said):
    """MP4's writer takes the header of PCM without a channel layout, and fails at the very end."""
    clip = write_rich(tmp_path / "in.mkv", FRAMES, sounds=("aac", "pcm_s16le"))
    _, target = enlarge(clip)
    kept = [entry[:2] for entry in all_packets(target).values()]
    if target.suffix == ".mkv":
        assert said.count("video.matroska") == 1
    assert kept == [("audio", "aac"), ("audio", "pcm_s16le")], "whichever container it takes"
    _, target = enlarge(clip, encoder={"container": "mp4"}, name="asked")
    kept = [entry[:2] for entry in all_packets(target).values()]
    assert len(kept) + said.count("video.left_out") == 2
    assert len(decode(target)) == 24


def test_matroska_without_times_before_zero_says_so_and_keeps_the_sync(tmp_path, enlarge, said):
    """AAC in MP4 begins 1,024 samples early; Matroska of FFmpeg before 9 cannot say that: all is that much later."""
    clip = write_rich(tmp_path / "in.mp4", FRAMES)
    assert packets(clip, "audio")[0][1] < 0
    _, target = enlarge(clip, encoder={"container": "mkv"})
    shift = packets(target, "audio")[0][1] - packets(clip, "audio")[0][1]
    assert shift < 0.03
    if av.library_versions["libavformat"] < (63,):
        assert shift > 0.02
    assert times(target) == pytest.approx([moment + shift for moment in times(clip)], abs=0.0011)
    assert [digest for digest, _ in packets(target, "audio")] == [digest for digest, _ in packets(clip, "audio")]
    assert said.count("video.shifted") == (shift > 0.001)


def test_time_stamps_of_sound_that_do_not_rise(tmp_path, enlarge):
    """Broken recorders write a stamp twice: MP4 takes no such thing, and the film is joined all the same."""
    clip = write_rich(tmp_path / "good.mkv", FRAMES)
    broken = tmp_path / "in.mkv"
    with av.open(str(clip)) as source, av.open(str(broken), "w") as out:
        copies = {stream.index: copied_stream(out, stream) for stream in source.streams}
        before = 0
        for number, packet in enumerate(packet for packet in source.demux() if packet.size):
            if packet.stream.type == "audio":
                packet.pts = packet.dts = before if number % 5 == 0 else packet.pts
                before = packet.pts
            packet.stream = copies[packet.stream.index]
            out.mux(packet)
    stamps = [moment for _, moment in packets(broken, "audio")]
    assert stamps != sorted(set(stamps)), "the clip is broken"
    result, target = enlarge(broken)
    assert result.frames == len(decode(target)) == 24
    assert [digest for digest, _ in packets(target, "audio")] == [digest for digest, _ in packets(broken, "audio")]
    stamps = [moment for _, moment in packets(target, "audio")]
    assert stamps == sorted(set(stamps))


def test_damaged_packets_of_sound_do_not_end_the_run(tmp_path, enlarge, said, monkeypatch):
    """What the container refuses of a copied stream is left out and said; the frames are all there."""
    from realesrgan.video import join

    clip = write_rich(tmp_path / "in.mp4", FRAMES)
    real = join._copied

    def damaged(*args, **options):
        for number, (moment, packet) in enumerate(real(*args, **options)):
            if number in (5, 9):
                packet.pts = packet.dts - 1000  # shown before it is decoded: no container takes that
            yield moment, packet

    monkeypatch.setattr(join, "_copied", damaged)
    result, target = enlarge(clip)
    assert result.frames == len(decode(target)) == 24
    assert said.count("video.packets") == 1
    assert len(packets(target, "audio")) == len(packets(clip, "audio")) - 2
