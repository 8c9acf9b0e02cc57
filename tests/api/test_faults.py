"""The fault matrix: whatever goes wrong between us and FloKit, both hooks say the same of it, in bounded time."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from airflow_provider_flokit.api import attempts
from airflow_provider_flokit.errors import (
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
from tests.certificates import tls_of
from tests.transport_server import READ, TransportServer, hang, respond, send, trickle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_flokit.simulator import Simulator
    from tests.both_hooks import BothHooks
    from tests.transport_server import Behaviour, Exchange

GET, LIST, SYNC = ("get_integration", "int_1"), ("list_integrations",), ("trigger_sync", "int_1")


@dataclass
class Stage:
    """Where a fault is played; ``requests`` counts what has reached the server, None if there is none."""

    sim: Simulator
    connect: Callable[..., None]
    monkeypatch: pytest.MonkeyPatch
    certificates: Path
    exits: ExitStack
    settings: dict[str, Any] = field(default_factory=dict)
    requests: Callable[[], int] | None = None

    def lead_to(self, url: str, requests: Callable[[], int] | None = None, **extra: Any) -> None:
        """Let the connection lead to a URL."""
        self.connect(url, **self.settings, **extra)
        self.requests = requests


Play: TypeAlias = Callable[[Stage], None]


def simulated(fault: Fault | int) -> Play:
    """Let the simulator play a fault as long as it is asked."""

    def play(stage: Stage) -> None:
        stage.sim.fail(fault, times=None)
        stage.lead_to(stage.sim.url, lambda: len(stage.sim.requests))

    return play


def served(behaviour: Behaviour) -> Play:
    """Let a server do something to each request."""

    def play(stage: Stage) -> None:
        server = stage.exits.enter_context(TransportServer(behaviour))
        stage.lead_to(server.url, lambda: len(server.heads))

    return play


def certified(name: str, *, trusted: bool) -> Play:
    """Let a server show a certificate, which the connection's ``verify`` trusts or does not."""

    def play(stage: Stage) -> None:
        path = stage.certificates / f"{name}.pem"
        server = stage.exits.enter_context(TransportServer(send(respond()), tls_of(path)))
        stage.lead_to(server.url, verify=str(path) if trusted else True)

    return play


def plain_behind_https(stage: Stage) -> None:
    """Speak plain http where the connection says https."""
    server = stage.exits.enter_context(TransportServer(send(respond())))
    stage.lead_to(server.url.replace("http:", "https:"))


def unused_url() -> str:
    """Return the URL of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def refused(stage: Stage) -> None:
    """Lead to a port that nobody listens on."""
    stage.lead_to(unused_url())


def dead_proxy(stage: Stage) -> None:
    """Lead through a proxy that is not there."""
    stage.lead_to("https://flokit.invalid", proxies={"https": unused_url()})


def resolver(*, hangs: bool) -> Play:
    """Let the look-up of ``flokit.invalid`` fail, or not come back until the test is over."""

    def play(stage: Stage) -> None:
        honest, over = socket.getaddrinfo, threading.Event()
        stage.exits.callback(over.set)

        def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host not in ("flokit.invalid", b"flokit.invalid"):
                return honest(host, *args, **kwargs)
            if hangs:
                over.wait(60)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        stage.monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        stage.lead_to("https://flokit.invalid")

    return play


@dataclass(frozen=True)
class Row:
    """
    A fault and what it comes to.

    :param error: The exception; None if the call succeeds all the same.
    :param says: The telling part of its message.
    :param retried: Whether the one retry that the connection allows is made.
    :param within: Seconds after which the call has ended, at the most; its ``timeout`` is 30 unless another is given.
    :param pause: Bounds of the pause before the retry.
    """

    name: str
    play: Play
    error: type[FlokitError] | None
    says: str = ""
    retried: bool = False
    call: tuple[str, ...] = GET
    timeout: float = 30
    within: float = 15
    pause: tuple[float, float] = (0.25, 0.5)
    only_async: bool = False


def final(name: str, fault: Fault | int, error: type[FlokitError], says: str, call: tuple[str, ...] = GET) -> Row:
    """Describe an answer that no repeat would change."""
    return Row(name, simulated(fault), error, says, call=call)


def unanswered(name: str, play: Play, says: str, **changes: Any) -> Row:
    """Describe a request without a whole answer."""
    return Row(name, play, FlokitUnreachableError, says, retried=True, **changes)


def unusable(name: str, play: Play, says: str, **changes: Any) -> Row:
    """Describe an answer that is not the documented one."""
    return Row(name, play, FlokitResponseError, f"but not the documented answer: {says}", retried=True, **changes)


def limited(name: str, play: Play, says: str, low: float, high: float, *, retried: bool = True) -> Row:
    """Describe a 429, and the pause that it leads to."""
    return Row(name, play, FlokitRateLimitError, f"HTTP 429: Too many requests. {says}", retried, pause=(low, high))


def asking_for(retry_after: float | str | None) -> Play:
    """Answer 429 with this Retry-After."""
    return simulated(Fault.rate_limited(retry_after))


def naming_a_date(exchange: Exchange) -> None:
    """Answer 429, and ask to come back in 90 s by the date."""
    body = b'{"message": "Too many requests"}'
    exchange.send(respond("429 Too Many Requests", body, Retry_After=formatdate(time.time() + 90, usegmt=True)))


def failing(status: int, says: str) -> Row:
    """Describe a failure of the server's."""
    return Row(f"{status}", simulated(status), FlokitServerError, f"HTTP {status}: {says}. Try again later.", True)  # noqa: FBT003 - retried


NOT_JSON, CUT, TIMED_OUT = "it is not JSON", "no answer from http://127.0.0.1", "timed out after 1 s"
NO_REPEAT = "A repeat would not change this. Check the connection's API URL (host)."
LONG_HEADER = b"X: " + b"x" * 3000

ROWS = [
    # Statuses
    final("400", 400, FlokitRequestError, f"HTTP 400: The request is not valid. {NO_REPEAT}"),
    final("401", 401, FlokitAuthenticationError, "HTTP 401: Invalid or missing API key. Put a valid API key into"),
    final("403", 403, FlokitPermissionError, "HTTP 403: This operation requires a read-write key."),
    final("404", 404, FlokitNotFoundError, "HTTP 404: Not found. Check the integration's id and that the key belongs"),
    final("405", 405, FlokitRequestError, NO_REPEAT),
    final("409 on GET", 409, FlokitRequestError, NO_REPEAT),
    final("409 on POST", 409, FlokitSyncAlreadyRunningError, "A sync is running already; wait for it.", SYNC),
    final("418", 418, FlokitRequestError, NO_REPEAT),
    failing(500, "Internal server error"),
    failing(502, "Bad gateway"),
    failing(503, "Service unavailable"),
    failing(504, "Gateway timeout"),
    Row("503 with HTML", simulated(Fault.answer(503, "html")), FlokitServerError, "HTTP 503. Try again", retried=True),
    Row("503 on POST", simulated(503), FlokitServerError, "HTTP 503: Service unavailable", retried=True, call=SYNC),
    unusable("204", simulated(Fault.answer(204, b"")), NOT_JSON),
    final("302", Fault.answer(302, b"", {"Location": "https://eu.flokit.example/v1"}), FlokitRequestError,
          "HTTP 302 leads to https://eu.flokit.example/v1, and the API key is not sent there. If that is FloKit's API, "
          "set it as the connection's API URL (host)."),
    final("308 on POST", Fault.answer(308, b"", {"Location": "/v2"}), FlokitRequestError, "HTTP 308 leads to", SYNC),
    # Rate limits
    limited("429, 7 s", asking_for(7), "Try again in 7 s, as FloKit asks.", 7, 14),
    limited("429, date", served(naming_a_date), "Try again in ", 80, 180),
    limited("429, nonsense", asking_for("soon"), "Try again later.", 0.25, 0.5),
    limited("429, none", asking_for(None), "Try again later.", 0.25, 0.5),
    limited("429, 0", asking_for(0), "Try again in 0 s", 0.25, 0.5),
    limited("429, 300 s", asking_for(300), "Try again in 300 s", 300, 600),
    limited("429, 301 s", asking_for(301), "Try again in 301 s", 0, 0, retried=False),
    # No answer
    unanswered("refused", refused, "Connection refused"),
    unanswered("dropped", simulated(Fault.drop()), CUT),
    unanswered("dropped after effect", simulated(Fault.drop_after()), CUT, call=SYNC),
    unusable("cut in headers", served(send(b"HTTP/1.1 200 OK\r\nContent-Le")), NOT_JSON),
    unanswered("cut before headers", served(send(b"HTTP/1.")), CUT),
    unanswered("cut in body", served(send(respond(length=len(READ) + 1))), CUT),
    unanswered("cut in a chunk", served(send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{")), CUT),
    unanswered("no HTTP", served(send(b"SSH-2.0-OpenSSH_9.2\r\n")), CUT),
    unanswered("slow", simulated(Fault.slow(60)), TIMED_OUT, timeout=1),
    unanswered("silent", served(hang), TIMED_OUT, timeout=1, call=LIST),
    unanswered("trickling body", served(trickle(READ * 9, respond(body=b"", length=9999))), TIMED_OUT, timeout=1,
               within=9),
    Row("trickling headers", served(trickle(LONG_HEADER, b"HTTP/1.1 200 OK\r\n")), FlokitUnreachableError,
        "has not answered, and the request does not time out by itself", timeout=0.5, only_async=True),
    Row("hanging resolver", resolver(hangs=True), FlokitUnreachableError, "and its name servers",
        timeout=0.5, only_async=True),
    unanswered("unknown host", resolver(hangs=False), "Name or service not known"),
    unanswered("dead proxy", dead_proxy, "the proxy cannot be used ([Errno 111] Connection refused)"),
    # TLS
    unanswered("self-signed", certified("loopback", trusted=False), "TLS failed ([SSL: CERTIFICATE_VERIFY_FAILED]"),
    unanswered("wrong host", certified("other-host", trusted=True), "certificate is not valid for '127.0.0.1'"),
    unanswered("expired", certified("expired", trusted=True), "certificate has expired"),
    unanswered("plain http", plain_behind_https, "TLS failed"),
    Row("trusted certificate", certified("loopback", trusted=True), None),
    # Bodies
    unusable("truncated JSON", served(send(respond(body=READ[:-9]))), NOT_JSON),
    unusable("wrong JSON", simulated(Fault.answer(200, b'{"integration": {"id": "int_1"}}')), "'status' is missing"),
    unusable("another's", simulated(Fault.answer(200, READ.replace(b"int_1", b"int_2"))), "'integration' is another"),
    unusable("wrong list", simulated(Fault.answer(200, b"[1]")), "'integrations' is missing or not a list", call=LIST),
    unusable("status not ok", simulated(Fault.answer(200, b'{"status": "queued", "sync_id": "sync_1"}')),
             "'status' is not 'ok'", call=SYNC),
    unusable("no sync_id", simulated(Fault.answer(200, b'{"status": "ok"}')), "'sync_id' is missing", call=SYNC),
    unusable("non-JSON", simulated(Fault.answer(200, b"pong")), NOT_JSON),
    unusable("invalid UTF-8", simulated(Fault.answer(200, b'{"integration": "\xff"}')), NOT_JSON),
    unusable("HTML", simulated(Fault.answer(200, "html")), NOT_JSON),
    unusable("empty", simulated(Fault.answer(200, "empty")), NOT_JSON, call=SYNC),
    unusable("17 MiB", served(send(respond(body=b" " * (17 << 20)))), "it is larger than 16 MiB"),
    Row("gzip", served(send(respond(body=gzip.compress(READ), Content_Encoding="gzip"))), None),
]  # fmt: skip

CASES = [
    pytest.param(kind, row, id=f"{row.name}-{'sync' if kind is FlokitHook else 'async'}")
    for row in ROWS
    for kind in (FlokitHook, FlokitAsyncHook)
    if not row.only_async or kind is FlokitAsyncHook
]


@pytest.fixture
def stage(
    sim: Simulator, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch, certificates: Path
) -> Iterator[Stage]:
    """Prepare what a fault may need."""
    with ExitStack() as exits:
        yield Stage(sim, connect, monkeypatch, certificates, exits)


@pytest.mark.usefixtures("no_proxy_settings")
@pytest.mark.parametrize(("hook", "row"), CASES, indirect=["hook"])
def test_fault(hook: BothHooks, stage: Stage, pauses: list[float], row: Row) -> None:
    """Exception, message, number of attempts, pause and time are those of the table."""
    stage.settings = {"timeout": row.timeout, "retry_limit": 1}
    stage.monkeypatch.setattr(attempts, "_OVERDUE", 1.0)
    row.play(stage)
    began = time.monotonic()
    if row.error is None:
        assert hook(*row.call).id == "int_1"
    else:
        error = hook.failure(row.error, *row.call)
        assert str(error).startswith("FloKit")
        assert "(connection 'flokit_default')" in str(error)
        assert row.says in str(error)
    assert time.monotonic() - began < row.within
    assert len(pauses) == row.retried
    assert all(row.pause[0] <= pause <= row.pause[1] for pause in pauses)
    if stage.requests is not None:
        assert stage.requests() == len(pauses) + 1


def test_a_dropped_post_may_have_taken_effect(
    hook: BothHooks, sim: Simulator, connect: Callable[..., None], pauses: list[float]
) -> None:
    """The POST is sent again with the same key, by which a FloKit that knows such keys sees that it is the same."""
    sim.fail(Fault.drop_after())
    connect(sim.url)
    assert hook(*SYNC).startswith("sync_")
    first, second = sim.requests
    assert first.idempotency_key == second.idempotency_key is not None
    assert len(pauses) == 1


@pytest.mark.parametrize("call", [GET, LIST, SYNC], ids=["get", "list", "sync"])
def test_hints_go_by_the_call(hook: BothHooks, sim: Simulator, connect: Callable[..., None], call: Any) -> None:
    """Only a POST's 403 speaks of read-only keys, and the 404 of the list does not speak of an id."""
    connect(sim.url)
    sim.fail(Fault.answer(403, b"{}"))
    sim.fail(Fault.answer(404, b"{}"))
    forbidden = str(hook.failure(FlokitPermissionError, *call))
    not_found = str(hook.failure(FlokitNotFoundError, *call))
    assert ("read-only" in forbidden) is (call is SYNC)
    assert ("integration's id" in not_found) is (call is not LIST)
    assert ("API URL (host)" in not_found) is (call is LIST)


@pytest.mark.parametrize("hook", [FlokitAsyncHook], indirect=True)
def test_an_overdue_attempt_is_given_up_after_its_timeout_and_five_seconds(
    stage: Stage, hook: BothHooks, pauses: list[float]
) -> None:
    """In an event loop, what never comes back is no answer; in a worker the task's execution_timeout bounds it."""
    stage.settings = {"timeout": 0.5}
    resolver(hangs=True)(stage)
    began = time.monotonic()
    hook.failure(FlokitUnreachableError, *LIST)
    assert 5.5 <= time.monotonic() - began < 20
    assert pauses == []
