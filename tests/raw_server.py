"""A server that answers with any bytes at all, for answers that no proper HTTP server can be made to give."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_flokit.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable


class RawServer:
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
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1])

    def connection_json(self, **extra: Any) -> str:
        """Return the Airflow connection to it as JSON."""
        return Simulator(port=self.port, api_key=self._api_key).connection_json(**extra)

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
