"""
What requests lacks: a deadline for a whole request, and a close look at the head of the answer.

Imported when a session opens only, as it loads requests.
"""

from __future__ import annotations

import http.client
import queue
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.steps import Answer


class Exchange(threading.Thread):
    """
    One request and its answer, in a thread of its own.

    The timeouts of a socket begin anew with each byte, and there is none for looking up a host name. So the caller
    waits for the thread until its deadline and no longer; the connection is then cut, which ends the thread.

    :param work: Sends the request and returns the answer.
    """

    def __init__(self, work: Callable[[], Answer]) -> None:
        super().__init__(name="flokit-request", daemon=True)
        self._guard = threading.Lock()
        self._socket: Any = None
        self._given_up = False
        self._work = work
        self._answer: Future[Answer] = Future()

    def run(self) -> None:
        """Do the work."""
        try:
            self._answer.set_result(self._work())
        except BaseException as error:  # noqa: BLE001 - the caller's to judge
            self._answer.set_exception(error)

    def answer(self, timeout: float) -> Answer:
        """
        Start, and return the answer.

        :param timeout: Seconds until the deadline.
        :raises TimeoutError: if it has come
        """
        self.start()
        try:
            return self._answer.result(timeout)
        finally:
            with self._guard:
                self._given_up = not self._answer.done()
                if self._given_up and self._socket is not None:
                    _cut(self._socket)

    def uses(self, connection: Any) -> None:
        """
        Take note of the connection in use, before anything is sent over it.

        :param connection: The socket.
        :raises ConnectionAbortedError: if the caller has given up
        """
        with self._guard:
            self._socket = connection
            if self._given_up:
                _cut(connection)
                raise ConnectionAbortedError("the caller has given up")

    @classmethod
    def of_this_thread(cls, connection: Any) -> None:
        """
        Tell the exchange that this thread runs which connection it uses.

        :param connection: The socket.
        """
        exchange = threading.current_thread()
        if isinstance(exchange, cls):
            exchange.uses(connection)


def _cut(connection: Any) -> None:
    # Over TLS through a proxy that speaks TLS too, urllib3 wraps the socket once more.
    while not isinstance(connection, socket.socket) and hasattr(connection, "socket"):
        connection = connection.socket
    with suppress(OSError, TypeError):
        # Not an SSLSocket's own shutdown, which is not meant to be called from another thread.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Head:
    """Reads the lines of an answer's head, and remembers whether they ended where the connection did."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.is_cut_off = False

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._file.readline(limit)
        self.is_cut_off = not line.endswith(b"\n")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Response(http.client.HTTPResponse):
    """
    Reads answers as aiohttp does.

    http.client takes headers that break off for complete ones, and an informational answer (103) for the final one.
    """

    headers: Any

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        Exchange.of_this_thread(sock)

    def begin(self) -> None:
        """Read the head of the final answer."""
        file: Any = self.fp
        head: Any = _Head(file)
        self.fp = head
        try:
            while self.headers is None:
                super().begin()
                if HTTPStatus.SWITCHING_PROTOCOLS < self.status < HTTPStatus.OK and not head.is_cut_off:
                    self.headers = None
        finally:
            if self.fp is head:
                self.fp = file
        if head.is_cut_off:
            self.close()
            raise http.client.RemoteDisconnected("the connection was closed in the headers")


class _Watched:
    """A connection over which nothing is sent any more once the caller has given up."""

    sock: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        Exchange.of_this_thread(self.sock)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:  # kept open since the last request
            Exchange.of_this_thread(self.sock)
        super().putrequest(*args, **kwargs)  # type: ignore[misc]


class _HTTP(_Watched, HTTPConnection):
    response_class = _Response


class _HTTPS(_Watched, HTTPSConnection):
    response_class = _Response


class _Retirable:
    """A pool that can be closed while others use it: it stays usable, but keeps no connection any more."""

    pool: Any
    _is_retired = False

    def retire(self) -> None:
        self._is_retired = True
        with suppress(queue.Empty):
            while True:
                if (connection := self.pool.get_nowait()) is not None:
                    connection.close()

    def _put_conn(self, *args: Any) -> None:
        super()._put_conn(*args)  # type: ignore[misc]
        if self._is_retired:
            self.retire()


class _HTTPPool(_Retirable, HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(_Retirable, HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def close(self) -> None:
        """
        Close the connections; urllib3 leaves that to the garbage collector, once a request has failed.

        Another thread may be about to take one, or use one: it is closed once that thread is done.
        """
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - it cannot be iterated over
                if (pool := manager.pools.get(key)) is not None:
                    pool.retire()
        super().close()


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


def new_session() -> requests.Session:
    """Return a session that neither follows redirects, nor keeps cookies, nor reads the environment."""
    session = requests.Session()
    # The transport reads it: .netrc would replace the Authorization header.
    session.trust_env = False
    # Redirects are followed by the caller, within the same origin; requests would judge them even if told not to.
    session.get_redirect_target = _no_redirect  # type: ignore[assignment,method-assign]
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


def _no_redirect(_: object) -> None:
    """Tell requests that no answer is a redirect."""
