"""What every fault comes to: the rows that the tests play, and of which ``docs/faults.md`` is made."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from airflow_provider_flokit import retry
from airflow_provider_flokit.body import BODY_LIMIT
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
from airflow_provider_flokit.simulator import Fault

CALLS: Final = {
    "list": (("list_integrations",), "listing the integrations"),
    "get": (("get_integration", "int_1"), "reading int_1"),
    "sync": (("trigger_sync", "int_1"), "triggering a sync of int_1"),
}
"""The calls by their short names: how to make them, and what the messages call them."""

TIMEOUT: Final = 0.25
"""The connection's timeout, in seconds, where a fault takes long."""

Faults = Fault | Mapping[str, Fault] | str


@dataclass(frozen=True)
class Row:
    """
    A fault and what it comes to.

    :param name: What it is called.
    :param fault: What the simulator plays, or one for each call that it is made for; or the name of a stage.
    :param error: The exception; None if the call succeeds all the same.
    :param says: Its message, after the call and the connection; or what the call returns.
    :param retried: Whether it is tried again.
    :param retry_after: Seconds that each pause takes at least.
    :param requests: Requests that reach the server in one attempt.
    :param settings: Extras of the connection.
    """

    name: str
    fault: Faults
    error: type[FlokitError] | None
    says: str
    retried: bool = False
    retry_after: float = 0.0
    requests: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def calls(self) -> tuple[str, ...]:
        """The calls that can meet it."""
        return tuple(self.fault) if isinstance(self.fault, Mapping) else tuple(CALLS)

    def fault_of(self, call: str) -> Fault | str:
        """Return what is played for a call."""
        return self.fault[call] if isinstance(self.fault, Mapping) else self.fault


SYNCED_AT: Final = datetime(2024, 3, 15, 13, tzinfo=UTC)
INTEGRATION: Final = {
    "id": "int_1",
    "type": "stripe",
    "status": "connected",
    "last_synced_at": SYNCED_AT.isoformat(),
    "error_message": None,
}


def described(result: Any) -> str:
    """Say what a call returned."""
    if isinstance(result, str):
        return _AS_EVER if result.startswith("sync_") else result
    found = result[0] if isinstance(result, list) else result
    if (found.id, found.type, found.status, found.last_synced_at) == ("int_1", "stripe", "connected", SYNCED_AT):
        return _AS_EVER
    return f"{found.id}: {found.type}, {found.status}, last synced {found.last_synced_at or 'never'}"


def _document(call: str, integration: Any) -> Any:
    return {
        "list": {"integrations": [integration]},
        "get": {"integration": integration},
        "sync": {"status": "ok", "sync_id": "sync_1"},
    }[call]


def _json(call: str, document: Any) -> dict[str, Fault]:
    return {call: Fault.answer(200, json.dumps(document).encode())}


def _integrations(**changes: Any) -> dict[str, Fault]:
    """Answer a list and a single read with an integration that has other values, or (...) lacks them."""
    integration = {name: value for name, value in (INTEGRATION | changes).items() if value is not ...}
    return {call: _json(call, _document(call, integration))[call] for call in ("list", "get")}


def _redirected(more: str) -> dict[str, Fault]:
    paths = {"list": "/v1/integrations", "get": "/v1/integrations/int_1", "sync": "/v1/integrations/int_1/sync"}
    return {call: Fault.redirect(paths[call] + more, 307) for call in CALLS}


def _raw(head: str, body: bytes = b"") -> Fault:
    return Fault.raw(head.replace("\n", "\r\n").encode("latin-1") + body)


def _headed(header: str, before: str = "") -> dict[str, Fault]:
    """Give the documented answers with one more header, perhaps with something before them."""
    faults = {}
    for call in CALLS:
        body = json.dumps(_document(call, INTEGRATION)).encode()
        faults[call] = _raw(f"{before}HTTP/1.1 200 OK\nContent-Length: {len(body)}\n{header}\n\n", body)
    return faults


def _unreachable(name: str, fault: Faults, why: str, *, requests: int = 1, **settings: Any) -> Row:
    todo = "Check the connection's API URL (host), the network and FloKit's status."
    return Row(
        name,
        fault,
        FlokitUnreachableError,
        f"no answer from {{url}}: {why}. {todo}",
        retried=True,
        requests=requests,
        settings=settings,
    )


def _status(status: int, error: type[FlokitError], said: str, todo: str) -> Row:
    retried = status in retry.RETRIED_STATUSES
    return Row(f"HTTP {status}", Fault.answer(status), error, f"HTTP {status}: {said}. {todo}.", retried=retried)


def _limited(name: str, fault: Fault, todo: str, *, retried: bool = True, retry_after: float = 0.0) -> Row:
    return Row(
        f"HTTP 429, {name}",
        fault,
        FlokitRateLimitError,
        f"HTTP 429: Too many requests. {todo}.",
        retried=retried,
        retry_after=retry_after,
    )


def _unusable(name: str, fault: Faults, why: str, status: int = 200) -> Row:
    says = f"HTTP {status}, but not the documented answer: {why}."
    todo = "Check that the connection's API URL (host) is FloKit's API."
    return Row(name, fault, FlokitResponseError, f"{says} {todo}", retried=True)


def _refused(name: str, fault: Faults, says: str, *, requests: int = 1) -> Row:
    return Row(name, fault, FlokitRequestError, says, requests=requests)


_AS_EVER = "as without a fault"
_BROKE = "the connection broke before the whole answer had come"
_TIMED_OUT = f"timed out after {TIMEOUT:g} s"
_TOO_LARGE = f"the body cannot be used: it is larger than {BODY_LIMIT >> 20} MiB"
_TOO_LONG = "is longer than 256 characters or not printable"
_NO_REPEAT = "A repeat would not change this; check the request and the connection's API URL (host)"
_LATER = "Try again later"
_CIRCLE = "it redirects in a circle. Check the connection's API URL (host)."
_ELSEWHERE = (
    "redirects to another origin, {}; the key was not sent there. If that is the right address, set it as the "
    "connection's API URL (host)."
)
_ESCAPES = "\x1b[2J\u202e\u200b"

GROUPS: Final[dict[str, list[Row]]] = {
    "No connection": [
        _unreachable("connection refused", "refused", "connection refused", requests=0),
        _unreachable("proxy that refuses connections", "dead proxy", "the proxy cannot be used", requests=0),
        _unreachable("DNS failure", "unknown host", "the host name cannot be resolved", requests=0),
        _unreachable("DNS that does not answer", "slow host", _TIMED_OUT, requests=0, timeout=TIMEOUT),
        _unreachable("connect timeout", "full backlog", _TIMED_OUT, requests=0, timeout=TIMEOUT),
        _unreachable(
            "self-signed TLS certificate",
            "self-signed",
            "the TLS certificate is not accepted (self-signed certificate)",
            requests=0,
        ),
        _unreachable(
            "TLS certificate of another host",
            "other host's",
            "the TLS certificate is not accepted (IP address mismatch, certificate is not valid for '127.0.0.1'.)",
            requests=0,
        ),
        _unreachable(
            "expired TLS certificate",
            "expired",
            "the TLS certificate is not accepted (certificate has expired)",
            requests=0,
        ),
        _unreachable("plain HTTP where TLS is expected", "no TLS", "TLS failed (WRONG_VERSION_NUMBER)", requests=0),
        Row("TLS certificate that `verify` names", "trusted", None, _AS_EVER),
    ],
    "No complete answer": [
        _unreachable("read timeout", Fault.slow(30), _TIMED_OUT, timeout=TIMEOUT),
        _unreachable("headers that trickle in", Fault.trickling_headers(0.02), _TIMED_OUT, timeout=TIMEOUT),
        _unreachable("body that trickles in", Fault.trickle(0.05, 2), _TIMED_OUT, timeout=TIMEOUT),
        _unreachable("connection closed before the headers", Fault.drop(), _BROKE),
        _unreachable("the same, after the request took effect", Fault.drop_after(), _BROKE),
        _unreachable("connection reset", Fault.reset(), _BROKE),
        _unreachable("connection closed in the headers", Fault.close_in_headers(), _BROKE),
        _unreachable("connection closed in the headers of a 401", _raw("HTTP/1.1 401 Unauthorized\nX: "), _BROKE),
        _unreachable("connection closed in the body", Fault.close_in_body(), _BROKE),
        _unreachable(
            "connection closed in a chunk of the body",
            _raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n10\n{"),
            _BROKE,
        ),
        _unreachable("no HTTP", _raw("SSH-2.0-OpenSSH_9.2\n"), "what came is not HTTP"),
    ],
    "Statuses": [
        _status(400, FlokitRequestError, "The request is not valid", _NO_REPEAT),
        _status(
            401,
            FlokitAuthenticationError,
            "Invalid or missing API key",
            "Put a valid API key into connection 'flokit_default' (a key dies at once when it is rotated)",
        ),
        _status(
            403,
            FlokitPermissionError,
            "This operation requires a read-write key",
            "The key of connection 'flokit_default' may not do this; triggering a sync needs a read-write key",
        ),
        _status(
            404,
            FlokitNotFoundError,
            "Not found",
            "Check the integration's id and that the key belongs to its workspace",
        ),
        _status(
            409,
            FlokitSyncAlreadyRunningError,
            "A sync is already running for this integration",
            "A sync is running already; wait for it",
        ),
        *(_status(status, FlokitRequestError, f"HTTP {status}", _NO_REPEAT) for status in (405, 418, 422, 501)),
        _status(500, FlokitServerError, "Internal server error", _LATER),
        Row("HTTP 502, with HTML", Fault.answer(502, "html"), FlokitServerError, "HTTP 502. Try again later.", True),  # noqa: FBT003 - retried
        Row(
            "HTTP 503, `Retry-After: 20`",
            Fault.answer(503, headers={"Retry-After": "20"}),
            FlokitServerError,
            "HTTP 503: Service unavailable. Try again in 20 s, as FloKit asks.",
            retried=True,
            retry_after=20,
        ),
        _status(503, FlokitServerError, "Service unavailable", _LATER),
        _status(504, FlokitServerError, "Gateway timeout", _LATER),
        Row(
            "HTTP 404, with a body of 50 MB",
            Fault.raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 52428800\r\n\r\n" + b" " * 17_000_000),
            FlokitNotFoundError,
            "HTTP 404. Check the integration's id and that the key belongs to its workspace.",
        ),
        Row(
            "HTTP 400 that says 10,000 characters with terminal escapes",
            Fault.answer(400, json.dumps({"message": _ESCAPES + "x" * 10_000}).encode()),
            FlokitRequestError,
            f"HTTP 400: \\x1b[2J\\x202e\\x200b{'x' * 480}…. {_NO_REPEAT}.",
        ),
        Row("a header of 10,000 bytes", _headed(f"X-Trace: {'x' * 10_000}"), None, _AS_EVER),
        Row("a `Date` that no calendar has in UTC", _headed("Date: Fri, 31 Dec 9999 23:59:59 -2300"), None, _AS_EVER),
        Row(
            "HTTP 103 before the answer",
            _headed("X: y", before="HTTP/1.1 103 Early Hints\nLink: </x>\n\n"),
            None,
            _AS_EVER,
        ),
    ],
    "Rate limits": [
        _limited("`Retry-After: 7`", Fault.rate_limited(7), "Try again in 7 s, as FloKit asks", retry_after=7),
        _limited(
            "`Retry-After` as a date in 90 s",
            Fault.rate_limited(http_date_in=90),
            "Try again in 90 s, as FloKit asks",
            retry_after=90,
        ),
        _limited("`Retry-After: 300`", Fault.rate_limited(300), "Try again in 300 s, as FloKit asks", retry_after=300),
        _limited(
            "`Retry-After: 86400`",
            Fault.rate_limited(86400),
            "Try again in 86400 s, as FloKit asks",
            retried=False,
        ),
        _limited(
            "`Retry-After` as a date in a day",
            Fault.rate_limited(http_date_in=86400),
            "Try again in 86400 s, as FloKit asks",
            retried=False,
        ),
        _limited(
            "`Retry-After: 999999999999999999`",
            Fault.rate_limited(999_999_999_999_999_999),
            "Try again in 1000000000000000000 s, as FloKit asks",
            retried=False,
        ),
        _limited("`Retry-After: soon`", Fault.rate_limited("soon"), _LATER),
        _limited("`Retry-After: 1e400`", Fault.rate_limited("1e400"), _LATER),
        _limited("`Retry-After: -5`", Fault.rate_limited("-5"), _LATER),
        _limited(
            "`Retry-After` as a date that has passed",
            Fault.rate_limited(http_date_in=-90),
            "Try again in 0 s, as FloKit asks",
        ),
        _limited("no `Retry-After`", Fault.rate_limited(None), _LATER),
    ],
    "Redirects": [
        _refused(
            "redirect to another host",
            Fault.redirect("http://flokit.example/v1"),
            f"HTTP 302 {_ELSEWHERE}".format("http://flokit.example:80"),
        ),
        _refused(
            "redirect to another host that keeps the method",
            Fault.redirect("//flokit.example/", 308),
            f"HTTP 308 {_ELSEWHERE}".format("http://flokit.example:80"),
        ),
        Row("redirect within the host, badly quoted", _redirected("?q=é ü\u202e<>"), None, _AS_EVER),
        _refused(
            "redirect that holds control characters",
            _raw("HTTP/1.1 302 Found\nLocation: http://flokit\x1b[31m.example/\n\n"),
            "HTTP 302 redirects to no valid URL. Check the connection's API URL (host).",
        ),
        _refused(
            "redirect to a host of terminal escapes",
            Fault.redirect("http://[2J\u202e\u200b.example/"),
            "HTTP 302 redirects to no valid URL. Check the connection's API URL (host).",
        ),
        _refused("redirect loop (307)", Fault.redirect_loop(307), _CIRCLE, requests=6),
    ],
    "Bodies": [
        Row("gzip", Fault.compressed("gzip"), None, _AS_EVER),
        _unusable("HTML", Fault.answer(200, "html"), "the body is not JSON"),
        _unusable("empty body", Fault.answer(200, "empty"), "the body is not JSON"),
        _unusable("HTTP 204, without a body", Fault.answer(204, b""), "FloKit has no such success", 204),
        _unusable("JSON that is cut off", Fault.truncated_body(), "the body is not JSON"),
        _unusable("invalid UTF-8", Fault.invalid_utf8(), "the body is not JSON"),
        _unusable("JSON nested 100,000 times", Fault.answer(200, b"[" * 100_000), "the body is not JSON"),
        _unusable("body of 50 MB", Fault.large_body(50), _TOO_LARGE),
        _unusable("gzip bomb of 50 MB", Fault.gzip_bomb(50), _TOO_LARGE),
        _unusable(
            "gzip bomb within a gzip bomb",
            Fault.gzip_bomb(50, "gzip, gzip"),
            "the body cannot be used: its Content-Encoding is 'gzip, gzip', which was not asked for",
        ),
        _unusable(
            "deflate bomb",
            Fault.gzip_bomb(50, "deflate"),
            "the body cannot be used: its Content-Encoding is 'deflate', which was not asked for",
        ),
        _unusable(
            "gzip twice, in two headers",
            _raw("HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Encoding: gzip\n\n", b"{}"),
            "the body cannot be used: its Content-Encoding is 'gzip, gzip', which was not asked for",
        ),
        _unusable(
            "gzip that is cut off",
            Fault.answer(200, gzip.compress(b"{}")[:12], {"Content-Encoding": "gzip"}),
            "the body cannot be used: its gzip data is cut off",
        ),
        _unusable(
            "gzip that is none",
            Fault.answer(200, b"{}", {"Content-Encoding": "gzip"}),
            "the body cannot be used: its gzip data is damaged",
        ),
    ],
    "Documents": [
        _unusable(
            'JSON of another shape (`{"data": []}`)',
            {"list": Fault.wrong_shape()},
            "'integrations' is missing or not a list",
        ),
        _unusable(
            'JSON of another shape (`{"data": []}`)',
            {"get": Fault.wrong_shape()},
            "the integration is not a JSON object",
        ),
        _unusable(
            'JSON of another shape (`{"data": []}`)',
            {"sync": Fault.wrong_shape()},
            "'sync_id' is missing or not a text",
        ),
        _unusable(
            "an id twice", _json("list", {"integrations": [INTEGRATION] * 2}), "'integrations' holds an id twice"
        ),
        _unusable(
            "another integration",
            _json("get", {"integration": INTEGRATION | {"id": "int_2"}}),
            "'integration' is another one than was asked for",
        ),
        _unusable(
            "no `status`",
            {"list": _integrations(status=...)["list"]},
            "integration int_1: 'status' is missing or not a text",
        ),
        _unusable("no `status`", {"get": _integrations(status=...)["get"]}, "'status' is missing or not a text"),
        _unusable("no `sync_id`", _json("sync", {"status": "ok"}), "'sync_id' is missing or not a text"),
        _unusable("`sync_id` that is a number", _json("sync", {"sync_id": 5}), "'sync_id' is missing or not a text"),
        _unusable("`sync_id` of 300 characters", _json("sync", {"sync_id": "s" * 300}), f"'sync_id' {_TOO_LONG}"),
        _unusable(
            "`status` with a NUL",
            {"list": _integrations(status="connected\0")["list"]},
            f"integration int_1: 'status' {_TOO_LONG}",
        ),
        _unusable("`status` with a NUL", {"get": _integrations(status="connected\0")["get"]}, f"'status' {_TOO_LONG}"),
        Row(
            "`last_synced_at` null",
            _integrations(last_synced_at=None),
            None,
            "int_1: stripe, connected, last synced never",
        ),
        Row(
            "no `last_synced_at`",
            _integrations(last_synced_at=...),
            None,
            "int_1: stripe, connected, last synced never",
        ),
        _unusable(
            "malformed `last_synced_at`",
            {"list": _integrations(last_synced_at="soon")["list"]},
            "integration int_1: 'last_synced_at': 'soon' is not an ISO 8601 time",
        ),
        _unusable(
            "malformed `last_synced_at`",
            {"get": _integrations(last_synced_at="soon")["get"]},
            "'last_synced_at': 'soon' is not an ISO 8601 time",
        ),
        Row(
            "unknown status",
            _integrations(status="paused"),
            None,
            "int_1: stripe, paused, last synced 2024-03-15 13:00:00+00:00",
        ),
        Row(
            "unknown type",
            _integrations(type="segment"),
            None,
            "int_1: segment, connected, last synced 2024-03-15 13:00:00+00:00",
        ),
    ],
}
