"""Which pictures are found, and what their results are called."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path, PurePath
from typing import List

import pytest

from realesrgan import files
from realesrgan.errors import InputError, PictureError

needs_links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


def tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def found(*inputs: object, **options: object) -> List[str]:
    return [source.relative.as_posix() for source in files.list_pictures(inputs, **options)]  # type: ignore[arg-type]


def sources(*names: str, root: str = "in") -> List[files.Source]:
    return [files.Source(Path(root, name), PurePath(name)) for name in names]


# Listing


def test_a_folder_gives_its_pictures_sorted(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "b.PNG",
        "a.jpg",
        "10.webp",
        "9.tif",
        "é😀.jpeg",
        "사진 1.bmp",
        "-r.png",
        "c.gif",
        "notes.txt",
        "png",
        "d.npy",
    )
    tree(tmp_path, ".hidden.png", ".x.0123456789abcdef.partial", "sub/e.png", ".git/f.png")
    expected = ["-r.png", "10.webp", "9.tif", "a.jpg", "b.PNG", "c.gif", "é😀.jpeg", "사진 1.bmp"]
    assert found(tmp_path) == expected
    assert found(str(tmp_path)) == expected
    assert found(tmp_path, recursive=True) == [*expected[:6], "sub/e.png", *expected[6:]]


def test_recursive_keeps_the_tree(tmp_path: Path) -> None:
    tree(tmp_path, "z.png", "b/y.png", "b/c/x.png", "a/w.png")
    listed = files.list_pictures([tmp_path], recursive=True)
    assert [source.relative for source in listed] == [PurePath(p) for p in ("a/w.png", "b/c/x.png", "b/y.png", "z.png")]
    assert [source.path for source in listed] == [tmp_path / source.relative for source in listed]


def test_files_come_in_the_order_given_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "b.png", "a.png", "raw.data")
    assert found(tmp_path / "b.png", tmp_path / "a.png", tmp_path / "b.png") == ["b.png", "a.png"]
    assert found(tmp_path / "b.png", tmp_path) == ["b.png", "a.png"]
    assert found(tmp_path / "raw.data") == ["raw.data"]  # named, so taken
    monkeypatch.chdir(tmp_path)
    assert found("a.png", "./a.png", tmp_path / "a.png") == ["a.png"]
    assert found("-r.png", "a.png") == ["-r.png", "a.png"] if Path("-r.png").exists() else True


def test_glob(tmp_path: Path) -> None:
    tree(tmp_path, "a1.png", "a2.jpg", "b1.png", "a3.txt", "sub/a4.png", "sub/deep/a5.png", "[x].png", "x.png")
    assert found(f"{tmp_path}/a*") == ["a1.png", "a2.jpg"]
    assert found(f"{tmp_path}/**/a*.png") == ["a1.png", "sub/a4.png", "sub/deep/a5.png"]
    assert found(f"{tmp_path}/*/a?.png") == ["sub/a4.png"]
    assert found(tmp_path / "[x].png") == ["[x].png"]  # an existing file is no pattern
    assert found(f"{tmp_path}/[ax]*.png") == ["a1.png", "x.png"]


@pytest.mark.parametrize("name", ["gone.png", "gone", "*.png", "", "a\0.png", "x" * 5000])
def test_a_missing_input_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        files.list_pictures([str(tmp_path / name) if name else name])
    assert caught.value.code.startswith("input.")


def test_an_empty_folder_is_no_error(tmp_path: Path) -> None:
    assert files.list_pictures([tmp_path]) == []


def test_the_output_folder_is_not_read_again(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "results/a_out.png", "results/sub/b_out.png", "other/c.png")
    assert found(tmp_path, recursive=True, exclude=[tmp_path / "results"]) == ["a.png", "other/c.png"]
    # A folder that is asked for by name is read, though it be the output folder.
    assert found(tmp_path / "results", exclude=[tmp_path / "results"]) == ["a_out.png"]


def test_a_folder_named_like_a_picture_gets_its_line(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "x.png/inner.png")
    assert found(tmp_path) == ["a.png", "x.png"]
    with pytest.raises(PictureError) as caught:
        files.read(tmp_path / "x.png")
    assert caught.value.code == "picture.directory"
    assert found(tmp_path, recursive=True) == ["a.png", "x.png/inner.png"]


@needs_links
def test_links_that_lead_in_a_circle(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "sub/b.png")
    (tmp_path / "sub" / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "sub" / "self").symlink_to(".", target_is_directory=True)
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    assert found(tmp_path, recursive=True) == ["a.png", "dangling.jpg", "loop.png", "sub/b.png"]
    for name, code in (("loop.png", "picture.link_loop"), ("dangling.jpg", "picture.dangling")):
        with pytest.raises(PictureError) as caught:
            files.read(tmp_path / name)
        assert caught.value.code == code
    assert found(tmp_path / "loop.png") == ["loop.png"]


@needs_links
def test_a_linked_folder_is_read_once(tmp_path: Path) -> None:
    tree(tmp_path, "in/a.png", "elsewhere/b.png")
    (tmp_path / "in" / "one").symlink_to("../elsewhere", target_is_directory=True)
    (tmp_path / "in" / "two").symlink_to("../elsewhere", target_is_directory=True)
    assert len(found(tmp_path / "in", recursive=True)) == 2


def test_a_locked_subfolder_gets_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a.png", "locked/b.png")
    real = os.scandir

    def scandir(path):  # type: ignore[no-untyped-def]
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert found(tmp_path, recursive=True) == ["a.png", "locked"]
    with pytest.raises(InputError, match="locked"):
        files.list_pictures([tmp_path / "locked"])


# Names of results


@pytest.mark.parametrize(
    ("requested", "source", "mode", "depth", "expected"),
    [
        ("auto", "a.png", "RGB", 8, ".png"),
        ("auto", "a.JPG", "RGB", 8, ".JPG"),
        ("auto", "a.jpeg", "L", 8, ".jpeg"),
        ("auto", "a.tif", "RGB", 16, ".tif"),
        ("auto", "a.webp", "RGB", 8, ".webp"),
        ("auto", "a.bmp", "L", 8, ".bmp"),
        ("auto", "a.bmp", "RGBA", 8, ".png"),
        ("auto", "a.webp", "RGBA", 8, ".png"),
        ("auto", "a.webp", "RGB", 16, ".png"),
        ("auto", "a.gif", "RGB", 8, ".png"),
        ("auto", "a.avif", "RGB", 8, ".png"),
        ("auto", "noext", "RGB", 8, ".png"),
        ("png", "a.jpg", "RGB", 8, ".png"),
        ("jpg", "a.png", "RGBA", 16, ".jpg"),
        ("WEBP", "a.png", "RGB", 8, ".webp"),
        (".tiff", "a.png", "RGB", 8, ".tiff"),
    ],
)
def test_extension(requested: str, source: str, mode: str, depth: int, expected: str) -> None:
    assert files.choose_extension(requested, source, mode, depth) == expected


def test_unknown_extension() -> None:
    with pytest.raises(InputError, match="png, jpg, webp"):
        files.choose_extension("gif", "a.png", "RGB", 8)


def test_output_path() -> None:
    source = files.Source(Path("in/sub/a.b.jpg"), PurePath("sub/a.b.jpg"))
    assert files.output_path(source, "results", "out", ".png") == Path("results/sub/a.b_out.png")
    assert files.output_path(source, Path("results"), "", ".jpg") == Path("results/sub/a.b.jpg")
    dotted = files.Source(Path("-r.png"), PurePath("-r.png"))
    assert files.output_path(dotted, "results", "out", ".png") == Path("results/-r_out.png")


@pytest.mark.parametrize("suffix", ["../x", "a/b", "a\\b", "a:b", 'a"b', "a\0"])
def test_a_suffix_that_would_leave_the_folder(suffix: str) -> None:
    with pytest.raises(InputError):
        files.output_path(sources("a.png")[0], "results", suffix, ".png")


@pytest.mark.parametrize(
    ("stem", "suffix", "expected"),
    [
        ("CON", "", "CON_.png"),
        ("nul", "", "nul_.png"),
        ("com1.x", "", "com1_.x.png"),
        ("aux ", "", "aux_.png"),
        ("CON", "out", "CON_out.png"),
        ("console", "", "console.png"),
        ("a. ", "", "a. .png"),
    ],
)
def test_names_that_windows_reserves(stem: str, suffix: str, expected: str) -> None:
    source = sources(f"{stem}.jpg")[0]
    assert files.output_path(source, "r", suffix, ".png", windows=True).name == expected
    assert files.output_path(source, "r", "", ".png", windows=False).name == f"{stem}.png"


def test_same_file(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png")
    assert files.same_file(tmp_path / "a.png", tmp_path / "." / "a.png")
    assert files.same_file(tmp_path / "new.png", tmp_path / "x" / ".." / "new.png")
    assert not files.same_file(tmp_path / "a.png", tmp_path / "b.png")
    assert not files.same_file(tmp_path / "a.png", tmp_path / "new.png")
    if os.name != "nt":
        (tmp_path / "link.png").symlink_to("a.png")
        assert files.same_file(tmp_path / "a.png", tmp_path / "link.png")


def refused(plan: files.OutputPlan, source: files.Source, extension: str) -> PictureError:
    with pytest.raises(PictureError) as caught:
        plan.path(source, extension)
    assert caught.value.fields["path"] == str(source.path)
    assert caught.value.fields["reason"]
    return caught.value


def test_two_inputs_of_one_name(tmp_path: Path) -> None:
    jpg, png, webp = several = sources("a.jpg", "a.png", "a.webp")
    plan = files.plan_outputs(several, tmp_path, "out", "png")
    assert plan.path(png, ".png") == tmp_path / "a_out.png"  # it keeps its suffix
    error = refused(plan, jpg, ".png")
    assert error.code == "picture.clash"
    assert "a.jpg" in str(error) and "a.png" in str(error)
    assert plan.path(png, ".png") == tmp_path / "a_out.png"  # asking again changes nothing
    assert list(plan.clashes("png")) == [jpg, webp]
    first = files.plan_outputs([jpg, webp], tmp_path, "out", "png")
    assert first.path(jpg, ".png") == tmp_path / "a_out.png"  # both change theirs: the first in the list
    assert refused(first, webp, ".png").code == "picture.clash"


def test_the_owner_does_not_depend_on_the_order_of_asking(tmp_path: Path) -> None:
    pair = sources("a.jpg", "a.webp")
    plan = files.plan_outputs(pair, tmp_path, "out", "png")
    assert refused(plan, pair[1], ".png").code == "picture.clash"
    assert plan.path(pair[0], ".png")


def test_auto_keeps_both_where_suffixes_differ(tmp_path: Path) -> None:
    jpg, png = pair = sources("a.jpg", "a.png")
    plan = files.plan_outputs(pair, tmp_path)
    assert (plan.path(jpg, ".jpg").name, plan.path(png, ".png").name) == ("a_out.jpg", "a_out.png")
    assert plan.clashes("auto") == {}


def test_alpha_does_not_take_a_name_from_its_owner(tmp_path: Path) -> None:
    gif, png, tif, webp = sources("a.gif", "a.png", "a.tif", "a.webp")
    plan = files.plan_outputs([gif, png, tif, webp], tmp_path)
    for late in (gif, tif, webp):
        assert refused(plan, late, ".png").code == "picture.clash"
    assert plan.path(png, ".png")
    without = files.plan_outputs([tif, webp], tmp_path)
    assert refused(without, webp, ".png").code == "picture.clash"  # whether or not a.tif turns out to have alpha
    assert without.path(webp, ".webp") and without.path(tif, ".png")


def test_case_and_composed_letters(tmp_path: Path) -> None:
    upper, lower = sources("A.png", "a.png")
    blind = files.plan_outputs([upper, lower], tmp_path, case_sensitive=False)
    assert blind.path(upper, ".png")
    assert refused(blind, lower, ".png").code == "picture.clash"
    exact = files.plan_outputs([upper, lower], tmp_path, case_sensitive=True)
    # As text: paths of Windows that differ in case are equal.
    assert str(exact.path(upper, ".png")) != str(exact.path(lower, ".png"))
    composed, decomposed = sources("\u00e9.png", "e\u0301.png")
    plan = files.plan_outputs([composed, decomposed], tmp_path)
    assert plan.path(composed, ".png")
    assert refused(plan, decomposed, ".png").code == "picture.clash"


@pytest.mark.skipif(sys.platform != "linux", reason="the usual Linux file systems tell case apart")
def test_the_file_system_is_asked_about_case(tmp_path: Path) -> None:
    upper, lower = sources("A.png", "a.png")
    plan = files.plan_outputs([upper, lower], tmp_path / "not" / "yet")
    assert plan.path(upper, ".png") != plan.path(lower, ".png")


def test_one_name_in_two_folders(tmp_path: Path) -> None:
    tree(tmp_path, "x/a.png", "y/a.png", "z/sub/a.png", "z/a.png")
    pair = files.list_pictures([tmp_path / "x", tmp_path / "y"])
    plan = files.plan_outputs(pair, tmp_path / "out")
    assert plan.path(pair[0], ".png")
    assert refused(plan, pair[1], ".png").code == "picture.clash"
    kept = files.list_pictures([tmp_path / "z"], recursive=True)
    plan = files.plan_outputs(kept, tmp_path / "out")
    assert len({plan.path(source, ".png") for source in kept}) == 2


def test_no_input_is_overwritten(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "a.jpg")
    listed = files.list_pictures([tmp_path])
    plan = files.plan_outputs(listed, tmp_path, "", "auto")
    for source in listed:
        assert refused(plan, source, source.path.suffix).code == "picture.overwrites"
    # a.jpg would become a.png, which is the other input.
    plan = files.plan_outputs(listed, tmp_path, "", "png")
    assert all(refused(plan, source, ".png").code in ("picture.overwrites", "picture.clash") for source in listed)
    assert files.plan_outputs(listed, tmp_path, "out").path(listed[0], ".jpg") == tmp_path / "a_out.jpg"


@needs_links
def test_no_input_is_overwritten_through_a_link(tmp_path: Path) -> None:
    tree(tmp_path, "in/a.png", "in/b.png")
    (tmp_path / "out").symlink_to("in", target_is_directory=True)
    listed = files.list_pictures([tmp_path / "in"])
    plan = files.plan_outputs(listed, tmp_path / "out", "")
    assert refused(plan, listed[0], ".png").code == "picture.overwrites"
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").symlink_to("../in/a.png")
    plan = files.plan_outputs(listed, tmp_path / "real", "")
    assert refused(plan, listed[0], ".png").code == "picture.overwrites"


def test_what_a_plan_says_of_one_source_travels_alone(tmp_path: Path) -> None:
    tree(tmp_path, "in/a.png", "in/a.bmp", "in/b.jpg", "out/x")
    few = files.list_pictures([tmp_path / "in"])
    plan = files.plan_outputs(few, tmp_path / "out", "out", "png")
    bmp, png, jpg = few
    names = [pickle.loads(pickle.dumps(plan.names(source))) for source in few]
    assert names[1].path(".png") == plan.path(png, ".png") == tmp_path / "out" / "a_out.png"
    with pytest.raises(PictureError) as raised:
        names[0].path(".png")
    there = refused(plan, bmp, ".png")
    assert (str(raised.value), raised.value.code, raised.value.fields) == (str(there), there.code, there.fields)
    # It does not grow with the list.
    many = [*few, *sources(*(f"{number:05}.png" for number in range(2000)), root=str(tmp_path / "in"))]
    for extension in ("auto", "png"):
        large = files.plan_outputs(many, tmp_path / "out", "out", extension)
        small = files.plan_outputs(few, tmp_path / "out", "out", extension)
        assert pickle.dumps(large.names(jpg)) == pickle.dumps(small.names(jpg))


@pytest.mark.skipif(os.name == "nt", reason="counts bytes")
def test_a_result_name_that_is_too_long(tmp_path: Path) -> None:
    long, longest = sources("가" * 82 + ".png", "가" * 83 + ".png")  # 3 bytes a letter, _out.png has 8
    plan = files.plan_outputs([long, longest], tmp_path)
    assert plan.path(long, ".png")
    assert refused(plan, longest, ".png").code == "picture.name_length"
