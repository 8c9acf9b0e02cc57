"""The fault table: whatever goes wrong between us and FloKit, both hooks say the same of it, in bounded time."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

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
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook
from airflow_provider_flokit.simulator import Fault
from tests.transport_server import CA, READ, TransportServer, certified, hang, respond, send, trickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_flokit.simulator import Simulator
    from tests.both_hooks import BothHooks
    from tests.transport_server import Behaviour, Exchange

GET, LIST, SYNC = ("get_integration", "int_1"), ("list_integrations",), ("trigger_sync", "int_1")

pytestmark = pytest.mark.usefixtures("no_proxy_settings")


def answer(body: bytes) -> Behaviour:
    """Answer with this body."""
    return send(respond(body=body))


def name_a_date(exchange: Exchange) -> None:
    """Ask to come back in 90 s, by the date."""
    exchange.send(respond("429 Too Many Requests", b"", Retry_After=formatdate(time.time() + 90, usegmt=True)))


@dataclass(frozen=True)
class Row:
    """
    A fault and what it comes to.

    :param fault: What the simulator, or a server of ours, does to every request.
    :param error: The exception. The one retry that the connection allows is made if it is a :class:`FlokitAPIError`.
    :param says: The telling part of its message.
    :param pause: Bounds of the pause before the retry.
    """

    name: str
    fault: Fault | int | Behaviour
    error: type[FlokitError]
    says: str
    call: tuple[str, ...] = GET
    timeout: float = 30
    pause: tuple[float, float] = (0.25, 0.5)


Unreachable, Response = FlokitUnreachableError, FlokitResponseError
NO_REPEAT = "A repeat would not change this. Check the connection's API URL (host)."
NOT_JSON = "but not the documented answer: it is not JSON"
CUT = "no answer from http://127.0.0.1"
EU = "https://eu.flokit.example/v1"

ROWS = [
    # Statuses
    Row("400", 400, FlokitRequestError, f"HTTP 400: The request is not valid. {NO_REPEAT}"),
    Row("401", 401, FlokitAuthenticationError, "HTTP 401: Invalid or missing API key. Put a valid API key into"),
    Row("403", 403, FlokitPermissionError, "HTTP 403: This operation requires a read-write key. The API key may not"),
    Row("403 on POST", 403, FlokitPermissionError, "and this one is read-only: put another one there.", SYNC),
    Row("404", Fault.answer(404, b"{}"), FlokitNotFoundError, "HTTP 404. Check the integration's id and that the key"),
    Row("404 of the list", 404, FlokitNotFoundError, "Not found. Check the connection's API URL (host).", LIST),
    Row("409 on GET", 409, FlokitRequestError, NO_REPEAT),
    Row("409 on POST", 409, FlokitSyncAlreadyRunningError, "A sync is running already; wait for it.", SYNC),
    Row("500", 500, FlokitServerError, "HTTP 500: Internal server error. Try again later."),
    Row("502", 502, FlokitServerError, "HTTP 502: Bad gateway. Try again later."),
    Row("503 on POST", 503, FlokitServerError, "HTTP 503: Service unavailable. Try again later.", SYNC),
    Row("504 with HTML", Fault.answer(504, "html"), FlokitServerError, "HTTP 504. Try again later."),
    Row("302", Fault.answer(302, b"", {"Location": EU}), FlokitRequestError, f"HTTP 302 leads to {EU}, and the API key "
        "is not sent there. If that is FloKit's API, set it as the connection's API URL (host)."),
    Row("302 nowhere", Fault.answer(302, b"", {"Location": "http://[x"}), Unreachable, "no answer from http"),
    Row("308 on POST", Fault.answer(308, b"", {"Location": "/v2"}), FlokitRequestError, "HTTP 308 leads to", SYNC),
    # Rate limits
    Row("429, date", name_a_date, FlokitRateLimitError, "Try again in ", pause=(80, 180)),
    Row("429, 300 s", Fault.rate_limited(300), FlokitRateLimitError, "in 300 s, as FloKit asks.", pause=(300, 600)),
    Row("429, nonsense", Fault.rate_limited("soon"), FlokitRateLimitError, "Too many requests. Try again later."),
    # No answer
    Row("dropped", Fault.drop(), Unreachable, CUT),
    Row("dropped after effect", Fault.drop_after(), Unreachable, CUT, SYNC),
    Row("cut in body", send(respond(length=len(READ) + 1)), Unreachable, CUT),
    Row("no HTTP", send(b"SSH-2.0-OpenSSH_9.2\r\n"), Unreachable, CUT),
    Row("silent", hang, Unreachable, "timed out after 1 s", LIST, timeout=1),
    Row("trickling body", trickle(READ * 9, respond(body=b"", length=9999)), Unreachable, "timed out after", timeout=1),
    # Bodies
    Row("HTML", Fault.answer(200, "html"), Response, NOT_JSON),
    Row("invalid UTF-8", answer(b'{"integration": "\xff"}'), Response, NOT_JSON),
    Row("17 MiB", answer(b" " * (17 << 20)), Response, "it is larger than 16 MiB"),
    Row("wrong JSON", answer(b'{"integration": {"id": "int_1"}}'), Response, "'status' is missing"),
    Row("no list", answer(b""), Response, NOT_JSON, LIST),
    Row("another's", answer(READ.replace(b"int_1", b"int_2")), Response, "'integration' is another one"),
    Row("wrong list", answer(b"[1]"), Response, "'integrations' is missing or not a list", LIST),
    Row("not ok", answer(b'{"status": "queued", "sync_id": "s"}'), Response, "'status' is not 'ok'", SYNC),
    Row("no sync_id", answer(b'{"status": "ok"}'), Response, "'sync_id' is missing", SYNC),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_fault(hook: BothHooks, row: Row, sim: Simulator, connect: Callable[..., None], pauses: list[float]) -> None:
    """Exception, message, number of attempts and pause are those of the table, and the call ends in time."""
    behaviour = None if isinstance(row.fault, Fault | int) else row.fault
    with TransportServer(behaviour) as server:
        if behaviour is None:
            sim.fail(row.fault, times=None)
        connect(server.url if behaviour else sim.url, timeout=row.timeout, retry_limit=1)
        began = time.monotonic()
        message = str(hook.failure(row.error, *row.call))
        assert time.monotonic() - began < 15
        assert message.startswith("FloKit, ")
        assert "(connection 'flokit_default')" in message
        assert row.says in message
        assert len(pauses) == issubclass(row.error, FlokitAPIError)
        assert all(row.pause[0] <= pause <= row.pause[1] for pause in pauses)
        assert len(server.heads) + len(sim.requests) == len(pauses) + 1


def test_a_compressed_answer_is_read(hook: BothHooks, connect: Callable[..., None]) -> None:
    """FloKit, or a proxy before it, may send gzip."""
    with TransportServer(send(respond(body=gzip.compress(READ), Content_Encoding="gzip"))) as server:
        connect(server.url)
        assert hook(*GET).id == "int_1"


# Nobody there


@pytest.fixture
def closed() -> str:
    """Return the URL of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let the look-up of ``flokit.invalid`` fail as soon as this event is set."""
    honest, answers = socket.getaddrinfo, threading.Event()

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in ("flokit.invalid", b"flokit.invalid"):
            return honest(host, *args, **kwargs)
        answers.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield answers
    answers.set()


@pytest.mark.usefixtures("pauses")
def test_nobody_listens(hook: BothHooks, connect: Callable[..., None], closed: str, resolver: threading.Event) -> None:
    """The message tells what it was: the server, its name or the proxy; of a wrong proxy it shows nothing."""
    connect(closed, retry_limit=1)
    try:
        int("what the caller is handling")
    except ValueError:
        assert "Connection refused" in str(hook.failure(Unreachable, *GET))
    resolver.set()
    connect("https://flokit.invalid", retry_limit=1)
    assert "Name or service not known" in str(hook.failure(Unreachable, *GET))
    connect("https://flokit.invalid", retry_limit=1, proxies={"https": closed})
    assert "the proxy cannot be used ([Errno 111] Connection refused)" in str(hook.failure(Unreachable, *GET))
    connect("https://flokit.invalid", retry_limit=1, proxies={"https": "http://user:pr0xyw0rd@[proxy"})
    message = str(hook.failure(Unreachable, *GET))
    assert "the URL of the API or of the proxy is not valid" in message
    assert "pr0xyw0rd" not in message


@pytest.mark.parametrize(
    ("certificate", "says"),
    [
        ({}, None),
        ({"host": "flokit.example"}, "certificate is not valid for '127.0.0.1'"),
        ({"not_after": datetime(2010, 1, 1, tzinfo=UTC)}, "certificate has expired"),
        (None, "TLS failed"),
    ],
    ids=["good", "wrong host", "expired", "plain http"],
)
@pytest.mark.usefixtures("pauses")
def test_tls(
    hook: BothHooks, connect: Callable[..., None], tmp_path: Path, certificate: dict[str, Any] | None, says: str | None
) -> None:
    """A certificate of the connection's CA is checked for its host and time; https never falls back to plain http."""
    CA.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = None if certificate is None else certified(**certificate)
    with TransportServer(send(respond()), tls) as server:
        connect(server.url.replace("http:", "https:"), retry_limit=1, verify=str(tmp_path / "ca.pem"))
        if says is None:
            assert hook(*GET).id == "int_1"
        else:
            assert says in str(hook.failure(Unreachable, *GET))


@pytest.mark.parametrize("where", ["headers", "resolver"])
@pytest.mark.parametrize("hook", [FlokitAsyncHook], indirect=True)
def test_what_never_times_out_by_itself_is_given_up_in_an_event_loop(
    hook: BothHooks,
    connect: Callable[..., None],
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    resolver: threading.Event,
    where: str,
) -> None:
    """Headers that trickle, a resolver that hangs: no poll stands still. In a worker, execution_timeout bounds them."""
    monkeypatch.setattr(attempts, "_OVERDUE", 1.0)
    with TransportServer(trickle(b"X: " + b"x" * 3000, b"HTTP/1.1 200 OK\r\n")) as server:
        connect(server.url if where == "headers" else "https://flokit.invalid", timeout=0.5)
        message = str(hook.failure(Unreachable, *GET))
    assert "FloKit (connection 'flokit_default') has not answered, and the request does not time out by its" in message
    assert pauses == []
    assert not resolver.is_set()
