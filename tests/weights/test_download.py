"""Downloads against a server on the loopback: good, truncated, wrong, absent, silent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest
from support.http_server import Answer, Server

from realesrgan.errors import WeightsError
from realesrgan.weights import download as module
from realesrgan.weights.download import download

ROOT = Path(__file__).resolve().parents[2]
BODY = os.urandom(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(module, "RETRY_PAUSE_SECONDS", 0)
    module._unreachable.clear()
    yield
    module._unreachable.clear()


@pytest.fixture()
def server() -> Iterator[Server]:
    with Server() as running:
        running.files["model.pth"] = BODY
        yield running


def fails(server_url: str, folder: Path, **options: object) -> WeightsError:
    """The error of a download that must fail, leaving nothing behind."""
    with pytest.raises(WeightsError) as caught:
        download(server_url + "model.pth", folder / "model.pth", **options)  # type: ignore[arg-type]
    assert list(folder.iterdir()) == []
    assert f"{server_url}model.pth" in str(caught.value)
    return caught.value


def test_good(server: Server, tmp_path: Path) -> None:
    calls: List[Tuple[int, int]] = []
    target = tmp_path / "made for it" / "model.pth"
    result = download(
        server.url + "model.pth", target, sha256=SHA256, size=len(BODY), progress=lambda *call: calls.append(call)
    )
    assert result == target
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["model.pth"]
    assert calls[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert "Range" not in server.requests[0].headers


def test_what_is_there_already_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    target.write_bytes(BODY)
    download(server.url + "model.pth", target, sha256=SHA256)
    assert server.requests == []


def test_truncated_is_resumed(server: Server, tmp_path: Path) -> None:
    tag = {"ETag": '"1"'}
    server.answers = [Answer(cut=100_000, headers=tag), Answer(cut=50_000, headers=tag), Answer(headers=tag)]
    target = download(server.url + "model.pth", tmp_path / "model.pth", sha256=SHA256, size=len(BODY))
    assert target.read_bytes() == BODY
    assert [request.headers.get("Range") for request in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert [request.headers.get("If-Range") for request in server.requests] == [None, '"1"', '"1"']


def test_a_stalled_connection_is_resumed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.2)
    server.answers = [Answer(cut=100_000, stall=True)]
    target = download(server.url + "model.pth", tmp_path / "model.pth", sha256=SHA256)
    assert target.read_bytes() == BODY
    assert server.requests[1].headers["Range"] == "bytes=100000-"


def test_a_connection_left_open_is_not_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.5)
    server.answers = [Answer(stall=True)]
    assert download(server.url + "model.pth", tmp_path / "model.pth", sha256=SHA256).read_bytes() == BODY
    assert len(server.requests) == 1


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(cut=100_000), Answer(ranges=False)]
    target = download(server.url + "model.pth", tmp_path / "model.pth")
    assert target.read_bytes() == BODY


def test_a_range_that_was_not_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(cut=100_000), Answer(shift=1)]
    assert fails(server.url, tmp_path).code == "weights.refused"


def test_truncated_for_ever(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(cut=10)] * 20
    error = fails(server.url, tmp_path, size=len(BODY))
    assert error.code == "weights.interrupted"
    assert len(server.requests) == 1 + module.RETRIES
    assert error.fields["done"] == 10 * len(server.requests)
    assert error.fields["total"] == len(BODY)


def test_nothing_sent_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(cut=0)]
    assert fails(server.url, tmp_path).code == "weights.interrupted"
    assert len(server.requests) == 1


def test_length_unknown(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(length=False)]
    assert download(server.url + "model.pth", tmp_path / "model.pth", sha256=SHA256).read_bytes() == BODY


def test_wrong_hash(server: Server, tmp_path: Path) -> None:
    server.files["model.pth"] = b"?" + BODY[1:]
    error = fails(server.url, tmp_path, sha256=SHA256, size=len(BODY))
    assert error.code == "weights.download_hash"
    assert SHA256 in str(error)
    assert hashlib.sha256(server.files["model.pth"]).hexdigest() in str(error)


@pytest.mark.parametrize("length", [True, False])
def test_wrong_size(server: Server, tmp_path: Path, length: bool) -> None:
    server.answers = [Answer(length=length)]
    error = fails(server.url, tmp_path, size=len(BODY) - 1)
    assert error.code == "weights.download_size"
    assert str(len(BODY) - 1) in str(error)


def test_a_web_page(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(body=b"<html>Log in</html>", content_type="text/html; charset=utf-8")]
    assert fails(server.url, tmp_path).code == "weights.download_page"


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_refused(server: Server, tmp_path: Path, status: int) -> None:
    server.answers = [Answer(status=status)]
    error = fails(server.url, tmp_path)
    assert error.code == "weights.refused"
    assert str(status) in str(error)
    assert len(server.requests) == 1  # one attempt before the first byte


def test_a_server_error_after_the_first_byte_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(cut=100_000), Answer(status=503)]
    assert download(server.url + "model.pth", tmp_path / "model.pth", sha256=SHA256).read_bytes() == BODY


def test_silent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.2)
    server.answers = [Answer(silent=True)]
    assert fails(server.url, tmp_path).code == "weights.unreachable"
    assert len(server.requests) == 1


def test_not_reachable_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        first = fails(url, tmp_path)
        assert first.code == "weights.unreachable"

        def never(request: object, opened: object) -> None:
            raise AssertionError("tried again")

        with monkeypatch.context() as patch:
            patch.setattr(module, "open_url", never)
            assert fails(url, tmp_path, patient=False).fields["reason"] == first.fields["reason"]
            with pytest.raises(AssertionError):
                download(url + "model.pth", tmp_path / "model.pth")
            patch.setattr(module, "REMEMBER_SECONDS", 0)
            with pytest.raises(AssertionError):
                download(url + "model.pth", tmp_path / "model.pth", patient=False)


def test_a_host_that_answers_is_forgiven(server: Server, tmp_path: Path) -> None:
    module._unreachable[server.url[len("http://") : -1]] = (float("inf"), "was away")
    download(server.url + "model.pth", tmp_path / "model.pth")
    download(server.url + "model.pth", tmp_path / "again.pth", patient=False)


def test_connecting_is_bounded_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up of a name that hangs is not bounded by a socket's timeout."""
    release = threading.Event()
    threads: List[threading.Thread] = []

    def hang(*_: object, **__: object) -> None:
        threads.append(threading.current_thread())
        release.wait(20)
        raise OSError("released")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.1)
    error = fails("http://weights.invalid/", tmp_path)
    assert error.code == "weights.unreachable"
    assert "0.1 s" in str(error)
    assert not release.is_set()
    release.set()
    threads[0].join(10)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError) as caught:
        download(server.url + "model.pth", tmp_path / "file" / "model.pth")
    assert caught.value.code == "weights.disk"
    assert server.requests == []


def test_a_full_disk_is_not_taken_for_the_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(target: Path, produce: object) -> None:
        class Full:
            def write(self, _: bytes) -> int:
                raise OSError(28, "No space left on device")

        produce(Full())  # type: ignore[operator]

    monkeypatch.setattr(module, "write_atomically", full)
    with pytest.raises(WeightsError) as caught:
        download(server.url + "model.pth", tmp_path / "model.pth")
    assert caught.value.code == "weights.disk"
    assert "No space left" in str(caught.value)
    assert len(server.requests) == 1


def test_threads_share_one_download(server: Server, tmp_path: Path) -> None:
    results: List[Path] = []

    def work() -> None:
        results.append(download(server.url + "model.pth", tmp_path / "model.pth", sha256=SHA256))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [tmp_path / "model.pth"] * 6
    assert len(server.requests) == 1
    assert (tmp_path / "model.pth").read_bytes() == BODY


def test_the_environments_proxy_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    server.answers = [Answer(body=BODY)]
    download("http://weights.invalid/model.pth", tmp_path / "model.pth", sha256=SHA256)
    assert server.requests[0].path == "http://weights.invalid/model.pth"


def test_a_redirect_is_followed_and_keeps_the_range(server: Server, tmp_path: Path) -> None:
    there = {"Location": server.url + "model.pth"}
    server.answers = [
        Answer(status=302, body=b"", headers=there),
        Answer(cut=100_000),
        Answer(status=302, body=b"", ranges=False, headers=there),
    ]
    target = download(server.url + "moved", tmp_path / "model.pth", sha256=SHA256)
    assert target.read_bytes() == BODY
    assert [request.path for request in server.requests] == ["moved", "model.pth"] * 2
    assert server.requests[-1].headers["Range"] == "bytes=100000-"


@pytest.mark.parametrize("length", [True, False])
def test_a_file_of_unknown_size_has_a_limit(server: Server, tmp_path: Path, length: bool) -> None:
    server.answers = [Answer(length=length)]
    error = fails(server.url, tmp_path, max_download=100_000)
    assert error.code == "weights.download_limit"
    assert "100000" in str(error) and "--max-download" in str(error)
    assert len(server.requests) == 1
    target = download(server.url + "model.pth", tmp_path / "model.pth", max_download=len(BODY))
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "abc"},
        {"Content-Length": "-5"},
        {"Content-Length": "²"},
        {"Content-Length": "9" * 400},
        {"Content-Length": "1, 2"},
    ],
)
def test_bad_lengths(server: Server, tmp_path: Path, headers: Dict[str, str]) -> None:
    server.answers = [Answer(length=False, headers=headers)]
    error = fails(server.url, tmp_path)
    assert error.code == "weights.refused"
    assert "Content-Length" in str(error) and len(str(error)) < 600


@pytest.mark.parametrize("total", ["abc", "²", "-1"])
def test_a_bad_range_after_the_first_byte(server: Server, tmp_path: Path, total: str) -> None:
    server.answers = [Answer(cut=100_000), Answer(total=total)]
    assert fails(server.url, tmp_path).code == "weights.refused"


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1/x",
        f"http://{'a' * 300}.example/x",
        f"http://a.{'ü' * 300}/x",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:port/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "data:,x",
        "http://127.0.0.1/\r\nX: y",
    ],
)
def test_a_redirect_to_no_address(server: Server, tmp_path: Path, location: str) -> None:
    server.answers = [Answer(status=302, body=b"", headers={"Location": location})]
    error = fails(server.url, tmp_path)
    assert error.code in ("weights.refused", "weights.unreachable")
    assert len(str(error)) < 1000


def test_redirects_in_a_circle(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(status=302, body=b"", headers={"Location": server.url + "model.pth"})] * 30
    assert fails(server.url, tmp_path).code == "weights.refused"
    assert len(server.requests) < 20


@pytest.mark.parametrize("url", ["http://[::1/model.pth", "http:///model.pth", "http://a:port/model.pth"])
def test_no_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(WeightsError) as caught:
        download(url, tmp_path / "model.pth")
    assert caught.value.code == "weights.address"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["headers", "body", "chunks"])
def test_a_server_that_drips(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Each read gets something in time, for ever: only a limit on the whole ends it."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(module, "SLOWEST", 1e9)
    server.answers = [Answer(drip=part)]
    error = fails(server.url, tmp_path)
    assert error.code == "weights.download_slow"
    assert str(tmp_path / "model.pth") in str(error)
    assert len(server.requests) == 1


def test_the_deadline_of_a_download(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE_SECONDS", 0.5)
    server.answers = [Answer(drip="body")]
    assert fails(server.url, tmp_path).code == "weights.download_slow"


def test_what_is_checked_gets_its_name_afterwards(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    seen: List[Tuple[bytes, bool]] = []

    def refuse(data: bytes, path: Path) -> None:
        seen.append((data, path.exists()))
        raise WeightsError(f"{path} is no checkpoint.", code="weights.format", path=str(path), found="b'x'")

    error = fails(server.url, tmp_path, check=refuse)
    assert error.code == "weights.download_check" and "is no checkpoint" in str(error)
    assert seen == [(BODY, False)]
    assert download(server.url + "model.pth", target, check=lambda data, path: None) == target
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]


def test_what_killed_downloads_left_is_removed(server: Server, tmp_path: Path) -> None:
    """A process that is killed cannot clean up; the next download does, and leaves alone what is being written."""
    code = (
        "import sys; from pathlib import Path; from realesrgan.weights.download import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), progress=lambda done, total: print(done, flush=True))"
    )
    server.answers = [Answer(cut=100_000, stall=True), Answer(cut=100_000, stall=True)]
    command = [sys.executable, "-c", code, server.url + "model.pth", str(tmp_path / "model.pth")]
    with contextlib.ExitStack() as stack:
        killed, living = (
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)) for _ in range(2)
        )
        for child in (killed, living):
            assert child.stdout is not None and child.stdout.readline()
        killed.kill()
        killed.wait()
        left = sorted(tmp_path.glob(".*.partial"))
        assert len(left) == 2
        for path in left:
            os.utime(path, (time.time() - 60, time.time() - 60))
        download(server.url + "model.pth", tmp_path / "other.pth")
        now = sorted(tmp_path.glob(".*.partial"))
        assert len(now) == 1 and set(now) < set(left)
        living.kill()
