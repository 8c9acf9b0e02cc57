"""A server on loopback that answers as no proper one would: bytes of any kind, cut, trickling, never, or by TLS."""

from __future__ import annotations

import json
import socketserver
import ssl
import sys
import threading
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable

INTEGRATION = {"id": "int_1", "type": "stripe", "status": "connected", "last_synced_at": "2024-03-15T13:00:00Z"}
LISTED = json.dumps({"integrations": [INTEGRATION]}).encode()
READ = json.dumps({"integration": INTEGRATION}).encode()

CA = trustme.CA()
TLS_HANDSHAKE = b"\x16"

Behaviour: TypeAlias = "Callable[[Exchange], None]"


def respond(status: str = "200 OK", body: bytes = READ, length: int | None = None, **headers: str) -> bytes:
    """Write an answer; its Content-Length may be another than that of its body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def send(data: bytes) -> Behaviour:
    """Send these very bytes and close the connection."""
    return lambda exchange: exchange.send(data)


def trickle(data: bytes, before: bytes) -> Behaviour:
    """Send a beginning at once, and the rest byte by byte."""

    def behave(exchange: Exchange) -> None:
        exchange.send(before)
        for byte in data:
            exchange.send(bytes([byte]))
            exchange.wait(0.1)

    return behave


def hang(exchange: Exchange) -> None:
    """Never answer."""
    exchange.wait(600)


def certified(host: str = "127.0.0.1", **certificate: Any) -> ssl.SSLContext:
    """Let a server show a certificate for a host, which CA has signed."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    CA.issue_cert(host, **certificate).configure_cert(tls)
    return tls


class Exchange(socketserver.BaseRequestHandler):
    """One connection: reads the request, and is what a behaviour answers on."""

    server: TransportServer

    def handle(self) -> None:
        """Read the request and let the server's behaviour answer."""
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        with self.request:
            head = b""
            while b"\r\n\r\n" not in head and head[:1] != TLS_HANDSHAKE:
                if not (piece := self.request.recv(65536)):
                    return
                head += piece
            with self.server.changed:
                self.server.heads.append(head.decode("latin-1"))
                self.server.changed.notify_all()
            self.server.behaviour(self)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.request.sendall(data)

    def wait(self, seconds: float) -> None:
        """Say nothing for a while; not longer than the server runs."""
        if self.server.stopping.wait(seconds):
            raise ConnectionAbortedError


class TransportServer(socketserver.ThreadingTCPServer):
    """
    Serves each connection once, in a thread of its own, and keeps the heads of the requests.

    :param behaviour: What it does, by default listing one integration; may be replaced while it runs.
    :param tls: Serves https with this.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, behaviour: Behaviour | None = None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.behaviour = behaviour or send(respond(body=LISTED))
        self.tls = tls
        self.heads: list[str] = []
        self.changed = threading.Condition()
        self.stopping = threading.Event()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """Say nothing if the client has gone, or does not like the certificate."""
        if not isinstance(sys.exception(), OSError):
            raise  # noqa: PLE0704 - called while it is handled

    def wait_for_heads(self, count: int) -> None:
        """Wait until there are that many requests."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.heads) >= count, 60), f"{len(self.heads)} of {count} came"
