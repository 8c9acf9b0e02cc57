"""The simulator: a workspace that is served over HTTP on loopback, by threads of its own."""

from __future__ import annotations

import itertools
import json
import math
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias
from urllib.parse import quote, unquote, urlencode

from airflow_provider_flokit.simulator.faults import JSON_TYPE, NO_FAULT, Answer, Fault, FaultRule, error_answer
from airflow_provider_flokit.simulator.integration import moment
from airflow_provider_flokit.simulator.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from email.message import Message

READ_WRITE_KEY = "fk_rw_simulator"
READ_ONLY_KEY = "fk_ro_simulator"
LIST_PATH = "/v1/integrations"

KeyKind: TypeAlias = Literal["read-write", "read-only", "invalid", "missing"]


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """
    One request that was served (or deliberately not). Never holds an API key.

    :param at: when it arrived, by the simulator's clock without ``clock_skew``.
    :param path: the path as it was sent (still percent-encoded), without the query.
    :param status: the status that was sent, or None: none was (or, for a slow answer, not yet).
    :param integration_id: the id in the path, decoded; None for the list.
    :param key: the kind of key that was sent.
    :param headers: the request's headers with lower-case names, without ``authorization``.
    :param fault: the name of the fault that was played; None for an honest answer.
    :param note: what happened, in plain words.
    """

    at: datetime
    method: str
    path: str
    status: int | None
    integration_id: str | None
    idempotency_key: str | None
    key: KeyKind
    headers: Mapping[str, str]
    fault: str | None = None
    note: str = ""


class Simulator(Workspace):
    """
    A local FloKit API. A context manager; or use :meth:`start` and :meth:`stop`.

    The workspace outlives :meth:`stop`: after another :meth:`start`, on the same port, it goes on (time went on too).

    :param port: the port; default 0, any free one.
    :param api_key: the read-write key; setting the attribute is a rotation.
    :param read_only_key: the read-only key.
    :param on_request: called with each request once its answer is known, in the server's threads, one at a time.

    The other parameters are those of :class:`~airflow_provider_flokit.simulator.workspace.Workspace`.
    """

    scheme = "http"
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
        self.rate_limited = 0
        """How many requests the rate limit has refused."""
        self._window = (-math.inf, 0)
        self._rotations = itertools.count(1)
        self._faults: list[FaultRule] = []
        self._on_request = on_request
        self._requests: dict[int, RecordedRequest] = {}
        self._request_numbers = itertools.count()
        self._server: _Server | None = None
        self._stopping = threading.Event()

    def start(self) -> Self:
        """Begin to serve (again) and return when connections are accepted; no-op when it serves already."""
        if self._server is None:
            self._stopping.clear()
            self._server = _Server(self)
            self.port = self._server.server_port
            serve = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
            serve.start()
        return self

    def stop(self) -> None:
        """Stop serving: open connections are closed, new ones refused; no-op when it has stopped already."""
        if self._server is not None:
            self._stopping.set()
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def rotate_key(self, new_key: str | None = None) -> str:
        """
        Replace the read-write key at once and return the new one.

        :param new_key: default one that was never used before.
        """
        self.api_key = new_key or f"{READ_WRITE_KEY}_{next(self._rotations)}"
        return self.api_key

    def connection_uri(self, api_key: str | None = None, /, **extra: Any) -> str:
        """
        Return the Airflow connection to it as a URI, for ``AIRFLOW_CONN_FLOKIT_DEFAULT``.

        :param api_key: default the read-write key.
        :param extra: the connection's extra, such as ``timeout=5``.
        """
        uri = f"flokit://:{quote(api_key or self.api_key, safe='')}@{self.host}:{self.port}/{self.scheme}"
        return f"{uri}?{urlencode({'__extra__': json.dumps(extra)})}" if extra else uri

    def connection_json(self, api_key: str | None = None, /, **extra: Any) -> str:
        """Return the same connection as JSON."""
        password = api_key or self.api_key
        return json.dumps({"conn_type": "flokit", "host": self.url, "password": password, "extra": extra})

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
        Let requests go wrong. Of several faults that match, the one added first is played until it is used up.

        :param fault: how; a number is ``Fault.answer(number)``.
        :param method: ``GET`` or ``POST``; default None, any.
        :param path: the path or an ``fnmatch`` pattern of paths; default None, any.
        :param times: how often; default 1, None for until :meth:`clear_faults`.
        :param after: matching requests that are let pass first; default 0.
        """
        fault = Fault.answer(fault) if isinstance(fault, int) else fault
        with self._lock:
            self._faults.append(FaultRule(fault, method, path, times, after))

    def outage(self) -> None:
        """Drop every request, before all other faults, until :meth:`clear_faults`."""
        with self._lock:
            self._faults.insert(0, FaultRule(Fault.drop()))

    def clear_faults(self) -> None:
        """Forget all faults, an outage too."""
        with self._lock:
            self._faults.clear()

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests that were served, dropped ones included, in order."""
        with self._lock:
            return list(self._requests.values())

    def clear_requests(self) -> None:
        """Forget the recorded requests."""
        with self._lock:
            self._requests.clear()

    def exchange(self, method: str, path: str, headers: Message[str, str]) -> Answer | None:
        """Take a request, in a thread of the server; return its answer, or None to close the connection instead."""
        with self._lock:
            number = next(self._request_numbers)
            fault = next((rule.fault for rule in self._faults if rule.take(method, path)), NO_FAULT)
        request = RecordedRequest(
            at=moment(self._clock()),
            method=method,
            path=path,
            status=None,
            integration_id=_parse_path(path)[0],
            idempotency_key=headers.get("Idempotency-Key"),
            key=self._key_kind(headers.get("Authorization", "")),
            headers={name.lower(): value for name, value in headers.items() if name.lower() != "authorization"},
            fault=fault.name,
        )
        if delay := self.latency + fault.delay_before:
            self._record(number, request)
            self._pause(delay)
            # The key may have died meanwhile.
            request = replace(request, key=self._key_kind(headers.get("Authorization", "")))
        honest = self._carry_out(request) if fault.takes_effect else None
        answer = None if fault.is_dropped else fault.made_up or honest
        note = "; ".join(text for text in (fault.name, honest and honest.note) if text)
        request = replace(request, status=answer.status if answer else None, note=note)
        self._record(number, request)
        if self._on_request is not None:
            with self._lock:
                self._on_request(request)
        self._pause(fault.delay_after)
        if answer is not None and fault.retry_after_date is not None:
            date = http_date(self.server_time() + fault.retry_after_date)
            return replace(answer, headers={**answer.headers, "Retry-After": date})
        return answer

    def _carry_out(self, request: RecordedRequest) -> Answer:
        """Do what the documented API does."""
        if wait := math.ceil(self._rate_limit_wait()):
            note = f"over the rate limit: try again in {wait} s"
            return error_answer(429, headers={"Retry-After": str(wait)}, note=note)
        if request.key in ("missing", "invalid"):
            return error_answer(401, note=f"{request.key} API key")
        integration_id, action = _parse_path(request.path)
        if (integration_id is None and request.path != LIST_PATH) or action not in ("", "sync"):
            return error_answer(404, message="No such endpoint", note="no such endpoint")
        allowed = "POST" if action else "GET"
        if request.method != allowed:
            message = f"Use {allowed} here"
            return error_answer(405, message=message, headers={"Allow": allowed}, note=message)
        if action and request.key == "read-only":
            return error_answer(403, note="the read-only key may not trigger syncs")
        try:
            if integration_id is None:
                body, note = self.read_list()
            elif not action:
                body, note = self.read_one(integration_id)
            else:
                sync_id, note = self.request_sync(integration_id, request.idempotency_key)
                if sync_id is None:
                    return error_answer(409, self.conflict_body, note=note)
                body = json.dumps({"status": "ok", "sync_id": sync_id}).encode()
        except KeyError:
            note = f"there is no integration {integration_id!r}"
            return error_answer(404, self.unknown_id_body, message="Integration not found", note=note)
        return Answer(200, body, {"Content-Type": JSON_TYPE}, note)

    def _rate_limit_wait(self) -> float:
        """Count a request, and return the seconds after which it may be tried again; 0 when it is allowed."""
        if self.rate_limit is None:
            return 0.0
        allowed, seconds = self.rate_limit
        with self._lock:
            now = self._clock()
            begin, count = self._window
            if now - begin >= seconds:  # a window begins with its first request
                begin, count = now, 0
            self._window = begin, count + 1
            if count < allowed:
                return 0.0
            self.rate_limited += 1
            return begin + seconds - now

    def _key_kind(self, authorization: str) -> KeyKind:
        kinds: dict[str, KeyKind] = {
            "": "missing",
            f"Bearer {self.read_only_key}": "read-only",
            f"Bearer {self.api_key}": "read-write",
        }
        return kinds.get(authorization, "invalid")

    def _record(self, number: int, request: RecordedRequest) -> None:
        with self._lock:
            self._requests[number] = request

    def _pause(self, seconds: float) -> None:
        if seconds and self._stopping.wait(seconds):
            raise ConnectionAbortedError("The simulator was stopped")


class _Server(ThreadingHTTPServer):
    """Listens for a simulator, and closes its connections when it is stopped."""

    request_queue_size = 1024

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self._connections: set[socket.socket] = set()
        super().__init__((simulator.host, simulator.port), _Handler)

    def server_bind(self) -> None:
        """Leave out the look-up of this machine's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts, where the system does that
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            with suppress(OSError):  # its client was quicker
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer on a kept connection waits 40 ms

    def _serve(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        simulator = self.server.simulator
        answer = simulator.exchange(self.command, self.path.partition("?")[0], self.headers)
        if answer is None:
            self.close_connection = True
            return
        body = b"" if answer.status in (204, 304) else answer.body  # HTTP allows none there
        headers = {"Server": "flokit-simulator", "Content-Length": str(len(body)), **answer.headers}
        if simulator.send_date:
            headers.setdefault("Date", http_date(simulator.server_time()))
        self.send_response_only(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server names them so

    def log_message(self, *_: object) -> None:
        """Print nothing: ``on_request`` is there for that."""


def http_date(seconds: float) -> str:
    """Write a moment as HTTP does."""
    return format_datetime(moment(seconds), usegmt=True)


def _parse_path(path: str) -> tuple[str | None, str]:
    """Return the integration's id in a path, decoded, and what follows it, such as ``sync``."""
    if not path.startswith(LIST_PATH + "/"):
        return None, ""
    segment, _, action = path[len(LIST_PATH) + 1 :].partition("/")
    return unquote(segment), action
