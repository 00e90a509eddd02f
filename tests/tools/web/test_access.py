"""Who may see the page."""

from __future__ import annotations

import asyncio
from typing import Any, Dict, List

import pytest

from realesrgan.tools.web import access

TOKEN = "0123456789abcdef0123456789abcdef"


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


def ask(
    path: str, host: str = "127.0.0.1:8000", kind: str = "http", hosts: Any = access.LOOPBACK
) -> List[Dict[str, Any]]:
    sent: List[Dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": [(b"host", host.encode())]}
    asyncio.run(access.Guard(application, TOKEN, hosts)(scope, None, send))  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize("path", [f"/{TOKEN}", f"/{TOKEN}/", f"/{TOKEN}/ko/config"])
def test_the_token_opens_the_page_and_nothing_is_fetched_from_elsewhere(path: str) -> None:
    start = ask(path)[0]
    policy = dict(start["headers"])[b"content-security-policy"].decode()
    assert start["status"] == 200
    assert "default-src 'self'" in policy and "http" not in policy


@pytest.mark.parametrize("path", ["/", "", "/en/", f"/{TOKEN[:-1]}/", f"/{TOKEN}0/", f"//{TOKEN}/", "/%00", "/토큰/"])
def test_anything_else_is_not_found(path: str) -> None:
    start, body = ask(path)
    assert start["status"] == 404 and b"secret" in body["body"]


def test_a_web_socket_without_the_token_is_closed() -> None:
    assert ask("/en/queue", kind="websocket") == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    "host, status",
    [
        *[(name, 200) for name in ("localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:7860", "[::1]")],
        *[(name, 421) for name in ("attacker.example", "127.0.0.1.attacker.example:80", "", "192.168.0.7:7860")],
    ],
)
def test_only_names_of_this_machine(host: str, status: int) -> None:
    assert ask(f"/{TOKEN}/", host)[0]["status"] == status
    assert ask(f"/{TOKEN}/", host, hosts=None)[0]["status"] == 200


@pytest.mark.parametrize(
    "accepted, lang",
    [
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("en-US,en;q=0.9,ko;q=0.8", "en"),
        ("fr,ko;q=0.5", "ko"),
        ("", "en"),
        ("kok", "en"),
    ],
)
def test_the_browsers_language(accepted: str, lang: str) -> None:
    assert access.language(accepted) == lang


def test_tokens_are_long_and_differ() -> None:
    tokens = {access.new_token() for _ in range(50)}
    assert len(tokens) == 50 and all(len(token) == 32 for token in tokens)
