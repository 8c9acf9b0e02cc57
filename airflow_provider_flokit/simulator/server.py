"""The simulator: a workspace that is served over HTTP on loopback, in its own threads."""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias
from urllib.parse import quote, unquote, urlencode

from airflow_provider_flokit.simulator.faults import Answer, Fault, FaultRule, error_body
from airflow_provider_flokit.simulator.integration import moment
from airflow_provider_flokit.simulator.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from email.message import Message

READ_WRITE_KEY = "fk_rw_simulator"
READ_ONLY_KEY = "fk_ro_simulator"
HONEST = Fault()

KeyKind: TypeAlias = Literal["read-write", "read-only", "invalid", "missing"]

_PATH = re.compile(r"/v1/integrations(?:/([^/]+)(/sync)?)?")


@dataclass(slots=True)
class RecordedRequest:
    """
    One request. Never holds an API key.

    :param at: when it arrived, in server time.
    :param path: the path as it was sent (still percent-encoded), without the query.
    :param integration_id: the id in the path, decoded; None for the list.
    :param key: the kind of key that was sent.
    :param status: the status of the answer; None: the request was dropped, or has no answer yet.
    :param note: what happened, in plain words.
    """

    at: datetime
    method: str
    path: str
    integration_id: str | None
    idempotency_key: str | None
    key: KeyKind
    status: int | None = None
    note: str = ""


class Simulator(Workspace):
    """
    A local FloKit API. Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    :meth:`stop` keeps the workspace: another :meth:`start` goes on with it, on the same port. Its time does not stop.

    :param port: the port; default 0: any free port.
    :param api_key: the read-write key; to rotate it, set the attribute.
    :param read_only_key: the read-only key.
    :param on_request: called with each request once its answer is known, in the server's threads, one at a time.

    The other parameters are those of :class:`~airflow_provider_flokit.simulator.workspace.Workspace`.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        port: int = 0,
        api_key: str = READ_WRITE_KEY,
        read_only_key: str = READ_ONLY_KEY,
        on_request: Callable[[RecordedRequest], None] | None = None,
        **workspace: Any,
    ) -> None:
        super().__init__(**workspace)
        self.port = port
        self.api_key = api_key
        self.read_only_key = read_only_key
        self._rotations = itertools.count(1)
        self._window = (-math.inf, 0)
        self._faults: list[FaultRule] = []
        self._on_request = on_request
        self._requests: list[RecordedRequest] = []
        self._server: _Server | None = None

    def start(self) -> Self:
        """Start serving, and return when connections are accepted; do nothing if it serves already."""
        if self._server is None:
            self._server = _Server(self)
            self.port = self._server.server_port
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop serving: new connections are refused, open ones get no answer; do nothing if it has stopped already."""
        with self._lock:
            server, self._server = self._server, None
            self._lock.notify_all()
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    def rotate_key(self, new_key: str | None = None) -> str:
        """
        Replace the read-write key at once and return the new one.

        :param new_key: default: a key that was never used before.
        """
        self.api_key = new_key or f"{READ_WRITE_KEY}_{next(self._rotations)}"
        return self.api_key

    def connection_uri(self, api_key: str | None = None, /, **extra: Any) -> str:
        """
        Return the URI of an Airflow connection to this simulator, for ``AIRFLOW_CONN_FLOKIT_DEFAULT``.

        :param api_key: default the read-write key.
        :param extra: the connection's extra, such as ``timeout=5``.
        """
        uri = f"flokit://:{quote(api_key or self.api_key, safe='')}@{self.host}:{self.port}/http"
        return f"{uri}?{urlencode({'__extra__': json.dumps(extra)})}" if extra else uri

    def fail(
        self,
        fault: Fault | int,
        *,
        method: str | None = None,
        path: str | None = None,
        times: int | None = 1,
        after: int = 0,
    ) -> None:
        """
        Make requests fail. If several faults match, the one that was added first is used until its times are over.

        :param fault: the fault; a number stands for ``Fault.answer(number)``.
        :param method: ``GET`` or ``POST``; default None: any.
        :param path: the path or an ``fnmatch`` pattern of paths; default None: any.
        :param times: how often; default 1. None: until :meth:`clear_faults`.
        :param after: matching requests that succeed first; default 0.
        """
        fault = Fault.answer(fault) if isinstance(fault, int) else fault
        with self._lock:
            self._faults.append(FaultRule(fault, method, path, times, after))

    def outage(self) -> None:
        """Drop every request, before all other faults, until :meth:`clear_faults`."""
        with self._lock:
            self._faults.insert(0, FaultRule(Fault.drop()))

    def clear_faults(self) -> None:
        """Remove all faults, also an outage."""
        with self._lock:
            self._faults.clear()

    @property
    def requests(self) -> list[RecordedRequest]:
        """All requests in order, also dropped ones."""
        with self._lock:
            return list(self._requests)

    def clear_requests(self) -> None:
        """Forget the recorded requests."""
        with self._lock:
            self._requests.clear()

    def exchange(self, method: str, path: str, headers: Message[str, str]) -> Answer | None:
        """Handle a request, in a thread of the server; return its answer, or None to close the connection."""
        found = _PATH.fullmatch(path)
        with self._lock:  # no other thread sees a half-recorded request; a pause releases the lock
            if self._server is None:
                return None
            request = RecordedRequest(
                at=moment(self.server_time()),
                method=method,
                path=path,
                integration_id=unquote(found[1]) if found and found[1] else None,
                idempotency_key=headers.get("Idempotency-Key"),
                key=self._key_kind(headers.get("Authorization", "")),
            )
            self._requests.append(request)
            fault = next((rule.fault for rule in self._faults if rule.take(method, path)), HONEST)
            self._pause(self.latency + fault.delay_before)
            honest = self._carry_out(request, found) if fault.takes_effect else None
            answer = None if fault.is_dropped else fault.made_up or honest
            request.status = answer.status if answer else None
            request.note = "; ".join(text for text in (fault.name, honest and honest.note) if text)
            if self._on_request is not None:
                self._on_request(request)
            self._pause(fault.delay_after)
        return answer

    def _carry_out(self, request: RecordedRequest, found: re.Match[str] | None) -> Answer:
        """Do what the documented API does."""
        if wait := math.ceil(self._rate_limit_wait()):
            return self._refuse(429, f"over the rate limit: try again in {wait} s", {"Retry-After": str(wait)})
        if request.key in ("missing", "invalid"):
            return Answer(401, error_body(401), note=f"{request.key} API key")
        if found is None or request.method != ("POST" if found[2] else "GET"):
            return self._refuse(404, "no such endpoint")
        document: dict[str, Any]
        try:
            if request.integration_id is None:
                document, note = self.read_list()
            elif not found[2]:
                document, note = self.read_one(request.integration_id)
            elif request.key == "read-only":
                return Answer(403, error_body(403), note="the read-only key may not trigger syncs")
            else:
                sync_id, note = self.request_sync(request.integration_id, request.idempotency_key)
                if sync_id is None:
                    return self._refuse(409, note)
                document = {"status": "ok", "sync_id": sync_id}
        except KeyError:
            return self._refuse(404, f"there is no integration {request.integration_id!r}")
        return Answer(200, json.dumps(document, ensure_ascii=False).encode(), note=note)

    def _refuse(self, status: int, note: str, headers: dict[str, str] | None = None) -> Answer:
        return Answer(status, error_body(status, self.error_body), headers or {}, note)

    def _rate_limit_wait(self) -> float:
        """Count a request, and return the seconds until it may be tried again; 0 if it is allowed."""
        if self.rate_limit is None:
            return 0.0
        allowed, seconds = self.rate_limit
        now, (begin, count) = self.server_time(), self._window
        if now - begin >= seconds:  # a window begins with its first request
            begin, count = now, 0
        self._window = begin, count + 1
        return 0.0 if count < allowed else begin + seconds - now

    def _key_kind(self, authorization: str) -> KeyKind:
        kinds: dict[str, KeyKind] = {
            "": "missing",
            f"Bearer {self.read_only_key}": "read-only",
            f"Bearer {self.api_key}": "read-write",
        }
        return kinds.get(authorization, "invalid")

    def _pause(self, seconds: float) -> None:
        """Wait without the lock; raise an error if the simulator is stopped."""
        if seconds and self._lock.wait_for(lambda: self._server is None, seconds):
            raise ConnectionAbortedError("The simulator was stopped")


class _Server(ThreadingHTTPServer):
    """Listens for a simulator."""

    request_queue_size = 1024

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        super().__init__((simulator.host, simulator.port), _Handler)

    def server_bind(self) -> None:
        """Bind without looking up this machine's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer on a kept connection waits 40 ms

    def _serve(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.simulator.exchange(self.command, self.path.partition("?")[0], self.headers)
        if answer is None:
            self.close_connection = True
            return
        body = b"" if answer.status in (204, 304) else answer.body  # HTTP allows no body for these
        kind = "application/json" if body[:1] in (b"{", b"[") else "text/html"
        self.send_response(answer.status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _serve  # noqa: N815 - http.server names them so

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Write the ``Date`` of an answer in server time."""
        return super().date_time_string(self.server.simulator.server_time() if timestamp is None else timestamp)

    def log_message(self, *_: object) -> None:
        """Print nothing; use ``on_request`` instead."""
