"""What a reader follows: links and their sections, the commands that are shown, and both languages in step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Iterator, List, Set, Tuple

import pytest

from realesrgan.cli import options as cli_options
from realesrgan.tools.web import command as web

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "tests" / "directml" / "README.md"])
PAIRS = [("README.md", "README_KO.md"), ("docs/directml.md", "docs/directml.ko.md")]
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(text: str) -> str:
    return FENCE.sub("", text)


def links(text: str) -> List[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def sections(text: str) -> Set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ +(.+?)\s*$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_pages_with_links() -> None:
    names = {page.name for page in PAGES}
    assert {"README.md", "README_KO.md", "CHANGELOG.md", "directml.md", "directml.ko.md"} <= names
    assert sum(len(links(text_of(page))) for page in PAGES) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(text_of(page)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, section = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not section or section in sections(text_of(target)), link


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("## What nobody has tried yet, and how to report", "what-nobody-has-tried-yet-and-how-to-report"),
        ("### `-t` and --tile_pad", "-t-and---tile_pad"),
        ("# 아직 아무도, 안 해 본 것", "아직-아무도-안-해-본-것"),
    ],
)
def test_anchors_are_made_as_github_makes_them(heading: str, anchor: str) -> None:
    assert sections(heading + "\n") == {anchor}


def commands(text: str) -> Iterator[str]:
    """Lines of code blocks and inline code that call this program."""
    for block in FENCE.findall(text):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", prose(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_that_are_named_exist(page: Path) -> None:
    for line in commands(text_of(page)):
        for script in re.findall(r"(?<![\w/.\\-])((?:scripts/|tests/)?\w+\.py)(?![\w(])", line):
            if script in ("setup.py", "train.py") or script.startswith(("scripts/", "tests/")) or "python" in line:
                assert (ROOT / script).exists() or (ROOT / "realesrgan" / script).exists(), line


def known_flags() -> Set[str]:
    flags = {flag for action in cli_options.build_parser()._actions for flag in action.option_strings}
    flags |= {"--" + flag[2:].replace("_", "-") for flag in flags if flag.startswith("--")}
    return flags


@pytest.mark.parametrize("name", ["README.md", "README_KO.md"])
def test_flags_of_the_readme_exist(name: str) -> None:
    other = {
        "--light",
        "--test",
        "--train",
        "--web",
        "--install-only",
        "--index-url",
        "--no-build-isolation",
        "-r",
        "-m",
    }
    other |= {flag for action in web._parser()._actions for flag in action.option_strings}
    flags = flags_of(text_of(ROOT / name))
    assert len(flags) > 20
    assert flags <= known_flags() | other


def flags_of(text: str) -> Set[str]:
    words = " ".join(commands(text))
    return set(re.findall(r"(?<![\w/.=-])--?[a-z][\w-]*", words))


def outline(text: str) -> List[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(text), re.MULTILINE)]


def rows(text: str) -> List[int]:
    """Columns of each row of each table."""
    return [line.replace("\\|", "").count("|") for line in prose(text).splitlines() if line.startswith("|")]


def places(text: str) -> List[Tuple[str, ...]]:
    """Where links lead, without sections, pages of one language counted as those of the other."""
    found = []
    for link in links(text):
        for english, korean in PAIRS:
            link = link.replace(Path(korean).name, Path(english).name)
        found.append(link.partition("#")[0] or "#")
    return sorted(found)


def code(text: str) -> List[str]:
    """Inline code, without the verdicts and the flag that only one language needs."""
    other = ("READY", "WORKS WITH LIMITS", "DOES NOT WORK YET", "--lang ko")
    spans = re.findall(r"`([^`\n]+)`", prose(text))
    return sorted({span for span in spans if span not in other and not re.search("[가-힣]", span)})


def blocks(text: str) -> List[str]:
    return [block.replace(" --lang ko", "") for block in FENCE.findall(text)]


def numbers(text: str) -> List[str]:
    """Figures in tables: those of the prose may be worded."""
    lines = [re.sub(r"`[^`]*`|\([^)]*\)", "", line) for line in prose(text).splitlines() if line.startswith("|")]
    return re.findall(r"\d+(?:\.\d+)?(?= ?(?:%|GB|MB|kB))", "\n".join(lines))


PARTS = [outline, rows, places, code, blocks, flags_of, numbers]


@pytest.mark.parametrize(("english", "korean"), PAIRS)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_both_languages_are_in_step(english: str, korean: str, part: Callable[[str], Any]) -> None:
    assert part(text_of(ROOT / korean)) == part(text_of(ROOT / english))


@pytest.mark.parametrize(("english", "korean"), PAIRS)
def test_both_languages_link_to_each_other(english: str, korean: str) -> None:
    assert Path(korean).name in links(text_of(ROOT / english))
    assert Path(english).name in links(text_of(ROOT / korean))


@pytest.mark.parametrize("name", [korean for _, korean in PAIRS])
def test_korean_pages_are_korean(name: str) -> None:
    """No sentence stayed English: every paragraph, row and item holds Korean, those of names and figures apart."""
    for line in prose(text_of(ROOT / name)).splitlines():
        words = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)|English:", "", line)
        if len(re.findall(r"[A-Za-z]{2,}", words)) > 5:
            assert re.search("[가-힣]", words), line
