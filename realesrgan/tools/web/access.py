"""Who may see the page: a secret in its address, names of this machine only, and nothing from elsewhere."""

from __future__ import annotations

import re
import secrets
from typing import Any, Awaitable, Callable, Dict, FrozenSet, MutableMapping, Optional, Tuple

__all__ = ["Guard", "language", "new_token"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LOOPBACK = frozenset(("127.0.0.1", "localhost", "[::1]", "::1"))
# The page's own scripts and styles are inline. Nothing is fetched from elsewhere, whatever Gradio's template names.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode("ascii")),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def new_token() -> str:
    """A secret for the address, of 128 bits."""
    return secrets.token_hex(16)


def language(accepted: str) -> str:
    """``"ko"`` or ``"en"`` by a browser's Accept-Language: the first of the two that it names."""
    for entry in accepted.split(","):
        tag = entry.split(";")[0].strip().lower()
        if re.match(r"(ko|en)\b", tag):
            return tag[:2]
    return "en"


class Guard:
    """ASGI middleware: refuses what does not know the token or asks by a foreign name, and adds headers.

    Args:
        app: What is guarded; its pages lie under ``/<token>/``.
        token: The secret.
        hosts: Names by which a browser may ask, None for any. A foreign page can make a browser ask this machine under
            a name of its own (DNS rebinding), but not under these.
    """

    def __init__(self, app: Any, token: str, hosts: Optional[FrozenSet[str]] = LOOPBACK) -> None:
        self.app = app
        self.token = token
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers: Dict[bytes, bytes] = dict(scope["headers"])
        status = self._refusal(str(scope["path"]), headers.get(b"host", b"").decode("latin-1"))
        if status is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _answer(send, status)

    def _refusal(self, path: str, host: str) -> Optional[Tuple[int, bytes]]:
        name = host.lower() if host.startswith("[") and host.endswith("]") else re.sub(r":\d+$", "", host.lower())
        if self.hosts is not None and name not in self.hosts:
            return 421, b"This page is for this machine only."
        given = path.split("/")[1] if "/" in path else ""
        if not secrets.compare_digest(given.encode("utf-8"), self.token.encode("ascii")):
            return 404, b"Not found: the address needs the secret that 'realesrgan web' printed."
        return None


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await send(message)

    return sending


async def _answer(send: Send, answer: Tuple[int, bytes]) -> None:
    status, body = answer
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode("ascii"))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
