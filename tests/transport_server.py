"""A server on loopback that answers as no proper one would: bytes of any kind, cut, trickling, never, or by TLS."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeAlias

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

INTEGRATION = {"id": "int_1", "type": "stripe", "status": "connected", "last_synced_at": "2024-03-15T13:00:00Z"}
LISTED = json.dumps({"integrations": [INTEGRATION]}).encode()
READ = json.dumps({"integration": INTEGRATION}).encode()

TLS_HANDSHAKE = b"\x16"

Behaviour: TypeAlias = "Callable[[Exchange], None]"


class Exchange:
    """One connection after its request was read: what a behaviour answers on."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self._connection = connection
        self._stopping = stopping

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._connection.sendall(data)

    def wait(self, seconds: float) -> None:
        """Say nothing for a while; not longer than the server runs."""
        if self._stopping.wait(seconds):
            raise ConnectionAbortedError


def respond(status: str = "200 OK", body: bytes = READ, length: int | None = None, **headers: str) -> bytes:
    """Write an answer; its Content-Length may be another than that of its body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def send(data: bytes) -> Behaviour:
    """Send these very bytes and close the connection."""
    return lambda exchange: exchange.send(data)


def trickle(data: bytes, before: bytes = b"", pause: float = 0.1) -> Behaviour:
    """Send a beginning at once, and the rest byte by byte."""

    def behave(exchange: Exchange) -> None:
        exchange.send(before)
        for byte in data:
            exchange.send(bytes([byte]))
            exchange.wait(pause)

    return behave


def hang(exchange: Exchange) -> None:
    """Never answer."""
    exchange.wait(600)


class TransportServer:
    """
    Serves each connection once, in a thread of its own, and keeps the heads of the requests.

    :param behaviour: What it does; may be replaced while it runs.
    :param tls: Serves https with this.
    """

    def __init__(self, behaviour: Behaviour | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour or (lambda exchange: exchange.send(respond(body=LISTED)))
        self.heads: list[str] = []
        self._tls = tls
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with suppress(OSError):  # nobody is connected to it
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def wait_for_heads(self, count: int) -> list[str]:
        """Return the requests once there are that many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heads) >= count, 60), f"{len(self.heads)} of {count} came"
            return list(self.heads)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Any) -> None:
        with suppress(OSError), connection:  # the client has gone, or does not like the certificate
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and head[:1] != TLS_HANDSHAKE:
                    if not (piece := connection.recv(65536)):
                        return
                    head += piece
                with self._changed:
                    self.heads.append(head.decode("latin-1"))
                    self._changed.notify_all()
                self.behaviour(Exchange(connection, self._stopping))
