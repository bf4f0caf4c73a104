"""What goes around every answer of the page: headers, sizes, hosts, and who may ask for the status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.operation_settings import Network

MAXIMUM_BODY_BYTES = 64 * 1024

CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: tuple[tuple[str, str], ...] = (
    ("Content-Security-Policy", CONTENT_POLICY),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)
STRICT_TRANSPORT = ("Strict-Transport-Security", "max-age=31536000")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class TooLarge(Exception):
    """A request has a longer body than any form of the page."""


@dataclass
class Protection:
    """Adds headers to every answer, bounds every body, and refuses foreign names for this machine.

    A page that is bound to loopback answers to loopback's names only: a foreign page that makes its own
    name point here (DNS rebinding) gets nothing.
    """

    app: ASGIApp
    uses_tls: bool
    only_loopback_names: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAXIMUM_BODY_BYTES:
                raise TooLarge
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (*HEADERS, *([STRICT_TRANSPORT] if self.uses_tls else [])):
                    headers[name] = value
            await send(message)

        if self.only_loopback_names and host_name(scope) not in LOOPBACK_NAMES:
            await _plain(421, "this page answers to localhost only\n", with_headers)
            return
        await self.app(scope, bounded, with_headers)


def host_name(scope: Scope) -> str:
    """Return the name of the Host header, without port."""
    host = Headers(scope=scope).get("host", "")
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


async def _plain(status: int, text: str, send: Send) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks; IPv4 inside IPv6 counts as IPv4."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    return any(found in network for network in networks if network.version == found.version)


def is_same_origin(request: Request) -> bool:
    """Whether a form came from this page itself, as far as the browser says."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin in (None, f"{request.url.scheme}://{request.headers.get('host', '')}")


def client_address(request: Request) -> str:
    """Return the address of the other side."""
    return request.client.host if request.client is not None else ""
