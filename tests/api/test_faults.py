"""The fault table: whatever goes wrong between us and FloKit, both hooks say the same of it, in bounded time."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from airflow_provider_flokit.api import attempts
from airflow_provider_flokit.errors import (
    FlokitAPIError,
    FlokitAuthenticationError,
    FlokitError,
    FlokitNotFoundError,
    FlokitPermissionError,
    FlokitRateLimitError,
    FlokitRequestError,
    FlokitResponseError,
    FlokitServerError,
    FlokitSyncAlreadyRunningError,
    FlokitUnreachableError,
)
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.simulator import Fault
from tests.transport_server import CA, READ, TransportServer, certified, hang, respond, send, trickle

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from airflow_provider_flokit.simulator import Simulator
    from tests.both_hooks import BothHooks
    from tests.transport_server import Behaviour, Exchange

GET, LIST, SYNC = ("get_integration", "int_1"), ("list_integrations",), ("trigger_sync", "int_1")


@dataclass
class Stage:
    """Where a fault is played; ``reached`` counts the requests that have come, None if nobody counts."""

    monkeypatch: pytest.MonkeyPatch
    folder: Path
    exits: ExitStack = field(default_factory=ExitStack)
    reached: Callable[[], int] | None = None


Play: TypeAlias = Callable[[Stage], tuple[str, dict[str, Any]]]
"""Prepares a fault and returns the URL and the extras of a connection that meets it."""


def served(behaviour: Behaviour) -> Play:
    """Let a server do something to each request."""

    def play(stage: Stage) -> tuple[str, dict[str, Any]]:
        server = stage.exits.enter_context(TransportServer(behaviour))
        stage.reached = lambda: len(server.heads)
        return server.url, {}

    return play


def answer(body: bytes) -> Play:
    """Answer with this body."""
    return served(send(respond(body=body)))


def name_a_date(exchange: Exchange) -> None:
    """Ask to come back in 90 s, by the date."""
    exchange.send(respond("429 Too Many Requests", b"", Retry_After=formatdate(time.time() + 90, usegmt=True)))


def trusted(tls: ssl.SSLContext) -> Play:
    """Let a server show a certificate of a CA that the connection's ``verify`` names."""

    def play(stage: Stage) -> tuple[str, dict[str, Any]]:
        CA.cert_pem.write_to_path(stage.folder / "ca.pem")
        server = stage.exits.enter_context(TransportServer(send(respond()), tls))
        return server.url, {"verify": str(stage.folder / "ca.pem")}

    return play


def untrusted(stage: Stage) -> tuple[str, dict[str, Any]]:
    """Let a server show a certificate of a CA that nobody knows."""
    return stage.exits.enter_context(TransportServer(send(respond()), certified())).url, {}


def plain_behind_https(stage: Stage) -> tuple[str, dict[str, Any]]:
    """Speak plain http where the connection says https."""
    server = stage.exits.enter_context(TransportServer(send(respond())))
    return server.url.replace("http:", "https:"), {}


def refused(_: Stage) -> tuple[str, dict[str, Any]]:
    """Lead to a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}", {}


def dead_proxy(stage: Stage) -> tuple[str, dict[str, Any]]:
    """Lead through a proxy that is not there."""
    return "https://flokit.invalid", {"proxies": {"https": refused(stage)[0]}}


def resolver(*, hangs: bool) -> Play:
    """Let the look-up of ``flokit.invalid`` fail, or not come back until the test is over."""

    def play(stage: Stage) -> tuple[str, dict[str, Any]]:
        honest, over = socket.getaddrinfo, threading.Event()
        stage.exits.callback(over.set)

        def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host not in ("flokit.invalid", b"flokit.invalid"):
                return honest(host, *args, **kwargs)
            if hangs:
                over.wait(60)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        stage.monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return "https://flokit.invalid", {}

    return play


@dataclass(frozen=True)
class Row:
    """
    A fault and what it comes to.

    :param fault: What the simulator does to every request, or how to meet something else.
    :param error: The exception, None if the call succeeds all the same. The one retry that the connection allows is
        made if it is a :class:`FlokitAPIError`.
    :param says: The telling part of its message.
    :param pause: Bounds of the pause before the retry.
    :param hangs: It never times out by itself: in an event loop it is given up, without a retry.
    """

    name: str
    fault: Fault | int | Play
    error: type[FlokitError] | None
    says: str = ""
    call: tuple[str, ...] = GET
    timeout: float = 30
    pause: tuple[float, float] = (0.25, 0.5)
    hangs: bool = False


Unreachable, Response = FlokitUnreachableError, FlokitResponseError
NO_REPEAT = "A repeat would not change this. Check the connection's API URL (host)."
NOT_JSON = "but not the documented answer: it is not JSON"
CUT = "no answer from http://127.0.0.1"
EU = "https://eu.flokit.example/v1"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"

ROWS = [
    # Statuses
    Row("400", 400, FlokitRequestError, f"HTTP 400: The request is not valid. {NO_REPEAT}"),
    Row("401", 401, FlokitAuthenticationError, "HTTP 401: Invalid or missing API key. Put a valid API key into"),
    Row("403", 403, FlokitPermissionError, "HTTP 403: This operation requires a read-write key."),
    Row("404", 404, FlokitNotFoundError, "HTTP 404: Not found. Check the integration's id and that the key belongs"),
    Row("409 on GET", 409, FlokitRequestError, NO_REPEAT),
    Row("409 on POST", 409, FlokitSyncAlreadyRunningError, "A sync is running already; wait for it.", SYNC),
    Row("500", 500, FlokitServerError, "HTTP 500: Internal server error. Try again later."),
    Row("502", 502, FlokitServerError, "HTTP 502: Bad gateway. Try again later."),
    Row("503", 503, FlokitServerError, "HTTP 503: Service unavailable. Try again later."),
    Row("504", 504, FlokitServerError, "HTTP 504: Gateway timeout. Try again later."),
    Row("503 on POST", 503, FlokitServerError, "HTTP 503: Service unavailable", SYNC),
    Row("503 with HTML", Fault.answer(503, "html"), FlokitServerError, "HTTP 503. Try again"),
    Row("302", Fault.answer(302, b"", {"Location": EU}), FlokitRequestError, f"HTTP 302 leads to {EU}, and the API key "
        "is not sent there. If that is FloKit's API, set it as the connection's API URL (host)."),
    Row("308 on POST", Fault.answer(308, b"", {"Location": "/v2"}), FlokitRequestError, "HTTP 308 leads to", SYNC),
    # Rate limits
    Row("429, 7 s", Fault.rate_limited(7), FlokitRateLimitError, "Try again in 7 s, as FloKit asks.", pause=(7, 14)),
    Row("429, date", served(name_a_date), FlokitRateLimitError, "Try again in ", pause=(80, 180)),
    Row("429, 300 s", Fault.rate_limited(300), FlokitRateLimitError, "Try again in 300 s", pause=(300, 600)),
    Row("429, nonsense", Fault.rate_limited("soon"), FlokitRateLimitError, "Too many requests. Try again later."),
    # No answer
    Row("refused", refused, Unreachable, "Connection refused"),
    Row("dropped", Fault.drop(), Unreachable, CUT),
    Row("dropped after effect", Fault.drop_after(), Unreachable, CUT, SYNC),
    Row("cut in headers", served(send(b"HTTP/1.1 200 OK\r\nContent-Le")), Response, NOT_JSON),
    Row("cut in body", served(send(respond(length=len(READ) + 1))), Unreachable, CUT),
    Row("cut in a chunk", served(send(CHUNKED)), Unreachable, CUT),
    Row("no HTTP", served(send(b"SSH-2.0-OpenSSH_9.2\r\n")), Unreachable, CUT),
    Row("silent", served(hang), Unreachable, "timed out after 1 s", LIST, timeout=1),
    Row("trickling body", served(trickle(READ * 9, respond(body=b"", length=9999))), Unreachable, "timed out after 1 s",
        timeout=1),
    Row("trickling headers", served(trickle(b"X: " + b"x" * 3000, b"HTTP/1.1 200 OK\r\n")), Unreachable,
        "has not answered, and the request does not time out by itself", timeout=0.5, hangs=True),
    Row("hanging resolver", resolver(hangs=True), Unreachable, "and its name servers", timeout=0.5, hangs=True),
    Row("unknown host", resolver(hangs=False), Unreachable, "Name or service not known"),
    Row("dead proxy", dead_proxy, Unreachable, "the proxy cannot be used ([Errno 111] Connection refused)"),
    # TLS
    Row("unknown CA", untrusted, Unreachable, "TLS failed ([SSL: CERTIFICATE_VERIFY_FAILED]"),
    Row("wrong host", trusted(certified("flokit.example")), Unreachable, "certificate is not valid for '127.0.0.1'"),
    Row("expired", trusted(certified(not_after=datetime(2010, 1, 1, tzinfo=UTC))), Unreachable, "certificate has exp"),
    Row("plain http", plain_behind_https, Unreachable, "TLS failed"),
    Row("known CA", trusted(certified()), None),
    # Bodies
    Row("truncated JSON", answer(READ[:-9]), Response, NOT_JSON),
    Row("invalid UTF-8", answer(b'{"integration": "\xff"}'), Response, NOT_JSON),
    Row("HTML", Fault.answer(200, "html"), Response, NOT_JSON),
    Row("17 MiB", answer(b" " * (17 << 20)), Response, "it is larger than 16 MiB"),
    Row("wrong JSON", answer(b'{"integration": {"id": "int_1"}}'), Response, "'status' is missing"),
    Row("another's", answer(READ.replace(b"int_1", b"int_2")), Response, "'integration' is another one"),
    Row("wrong list", answer(b"[1]"), Response, "'integrations' is missing or not a list", LIST),
    Row("not ok", answer(b'{"status": "queued", "sync_id": "s"}'), Response, "'status' is not 'ok'", SYNC),
    Row("no sync_id", answer(b'{"status": "ok"}'), Response, "'sync_id' is missing", SYNC),
    Row("gzip", served(send(respond(body=gzip.compress(READ), Content_Encoding="gzip"))), None),
]  # fmt: skip

CASES = [
    pytest.param(kind, row, id=f"{row.name}-{'sync' if kind is FlokitHook else 'async'}")
    for row in ROWS
    for kind in (FlokitHook, FlokitAsyncHook)
    if kind is FlokitAsyncHook or not row.hangs  # in a worker the task's execution_timeout bounds it
]


@pytest.mark.usefixtures("no_proxy_settings")
@pytest.mark.parametrize(("hook", "row"), CASES, indirect=["hook"])
def test_fault(
    hook: BothHooks,
    row: Row,
    sim: Simulator,
    connect: Callable[..., None],
    pauses: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exception, message, number of attempts and pause are those of the table, and the call ends in time."""
    monkeypatch.setattr(attempts, "_OVERDUE", 1.0)
    stage = Stage(monkeypatch, tmp_path)
    with stage.exits:
        if isinstance(row.fault, Fault | int):
            sim.fail(row.fault, times=None)
            stage.reached = lambda: len(sim.requests)
            url, extra = sim.url, {}
        else:
            url, extra = row.fault(stage)
        connect(url, timeout=row.timeout, retry_limit=1, **extra)
        began = time.monotonic()
        if row.error is None:
            assert hook(*row.call).id == "int_1"
        else:
            message = str(hook.failure(row.error, *row.call))
            assert message.startswith("FloKit")
            assert "(connection 'flokit_default')" in message
            assert row.says in message
        assert time.monotonic() - began < 15
        retried = row.error is not None and issubclass(row.error, FlokitAPIError) and not row.hangs
        assert len(pauses) == retried
        assert all(row.pause[0] <= pause <= row.pause[1] for pause in pauses)
        assert stage.reached is None or stage.reached() == len(pauses) + 1


@pytest.mark.parametrize("call", [GET, LIST, SYNC], ids=["get", "list", "sync"])
def test_hints_go_by_the_call(hook: BothHooks, sim: Simulator, call: Any) -> None:
    """Only a POST's 403 speaks of read-only keys, and the 404 of the list does not speak of an id."""
    sim.fail(Fault.answer(403, b"{}"))
    sim.fail(Fault.answer(404, b"{}"))
    forbidden = str(hook.failure(FlokitPermissionError, *call))
    not_found = str(hook.failure(FlokitNotFoundError, *call))
    assert ("read-only" in forbidden) is (call is SYNC)
    assert ("integration's id" in not_found) is (call is not LIST)
    assert ("API URL (host)" in not_found) is (call is LIST)
