"""A server that answers with any bytes at all, for answers that no proper HTTP server can be made to give."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Self

from airflow_provider_flokit.simulator.connection import Connectable

if TYPE_CHECKING:
    from collections.abc import Callable


class RawServer(Connectable):
    """
    Answers every request with the same bytes and closes the connection.

    :param answer: The bytes, or what makes them of the request's.
    :param api_key: The key that its connection has.
    """

    def __init__(self, answer: bytes | Callable[[bytes], bytes], api_key: str) -> None:
        self._answer = answer
        self._api_key = api_key
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.heads: list[bytes] = []

    @property
    def scheme(self) -> str:
        """What it speaks."""
        return "http"

    @property
    def host(self) -> str:
        """The address it listens on."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1])

    @property
    def api_key(self) -> str:
        """The key that its connection has."""
        return self._api_key

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(timeout=10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                head = b""
                while b"\r\n\r\n" not in head and (piece := connection.recv(65536)):
                    head += piece
                if not head:  # whoever connected has changed its mind
                    continue
                self.heads.append(head)
                connection.sendall(self._answer if isinstance(self._answer, bytes) else self._answer(head))
