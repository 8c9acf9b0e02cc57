"""Every fault, as a client meets it, and which requests it meets."""

from __future__ import annotations

import gzip
import http.client
import socket
import threading
import time
import zlib
from email.utils import parsedate_to_datetime

import pytest
import requests

from airflow_provider_flokit.simulator import Fault, ManualClock, Simulator
from airflow_provider_flokit.simulator.records import to_jsonable

from .conftest import ID, Call

LOST = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


@pytest.mark.parametrize(
    ("body", "expected"),
    [("json", b'{"error": "serv'), ("html", b"<html>"), ("empty", b""), (b"own", b"own")],
)
def test_status(sim: Simulator, call: Call, body: str | bytes, expected: bytes) -> None:
    """A status with the chosen body and headers is answered once, then all is well."""
    sim.fail(Fault.answer(503, body, {"X-Trace": "1"}))  # type: ignore[arg-type]
    answer = call("GET")
    assert (answer.status_code, answer.headers["X-Trace"]) == (503, "1")
    assert answer.content[: len(expected) or None] == expected
    assert call("GET").status_code == 200
    assert [(request.status, request.fault) for request in sim.requests] == [(503, "answer 503"), (200, None)]


@pytest.mark.parametrize("takes_effect", [False, True])
def test_status_with_or_without_effect(sim: Simulator, post: Call, *, takes_effect: bool) -> None:
    """A 502 may come before or after the POST took effect."""
    sim.fail(Fault.answer(502, takes_effect=takes_effect))
    assert post().status_code == 502
    assert len(sim.syncs) == int(takes_effect)


@pytest.mark.parametrize("value", [3, 0.5, "soon", "-1", "1e400", None])
def test_retry_after(sim: Simulator, call: Call, value: float | str | None) -> None:
    """Retry-After is whatever was asked for, absurd values too."""
    sim.fail(Fault.rate_limited(value))
    answer = call("GET")
    assert answer.status_code == 429
    assert answer.headers.get("Retry-After") == (None if value is None else str(value))


def test_retry_after_http_date(sim: Simulator, clock: ManualClock, call: Call) -> None:
    """The HTTP date form is counted from the server's clock at the time of the answer."""
    sim.fail(Fault.rate_limited(http_date_in=90))
    sim.clock_skew = 1000
    clock.advance(5)
    headers = call("GET").headers
    retry, date = (parsedate_to_datetime(headers[name]) for name in ("Retry-After", "Date"))
    assert (retry - date).total_seconds() == 90


def test_drop(sim: Simulator, post: Call) -> None:
    """A dropped request gets no answer and has no effect."""
    sim.fail(Fault.drop())
    with pytest.raises(LOST):
        post()
    assert sim.syncs == []
    assert sim.requests[0].status is None


def test_drop_after(sim: Simulator, post: Call) -> None:
    """The ambiguous POST: the sync starts although the client gets no answer; a repeat with its key joins."""
    sim.fail(Fault.drop_after())
    with pytest.raises(LOST):
        post("k")
    assert post("k").json()["sync_id"] == sim.syncs[0].sync_id
    assert len(sim.syncs) == 1


def test_reset(sim: Simulator, post: Call) -> None:
    """A connection that is reset, not closed in order; the request has no effect."""
    sim.fail(Fault.reset())
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        post()
    assert sim.syncs == []
    assert sim.requests[0].status is None


def test_raw(sim: Simulator) -> None:
    """The very bytes are sent, whatever they are, also through JSON from another process."""
    for fault in (Fault.raw(b"\x00\xff no HTTP"), Fault.from_json(to_jsonable(Fault.raw(b"\x00\xff no HTTP")))):
        sim.fail(fault)
        assert received(sim, "GET") == b"\x00\xff no HTTP"


def test_trickling_headers(sim: Simulator) -> None:
    """Header after header comes, each byte by itself, until the client hangs up."""
    sim.fail(Fault.trickling_headers(0.001))
    with socket.create_connection((sim.host, sim.port), timeout=5) as connection:
        connection.sendall(f"GET /v1/integrations HTTP/1.1\r\nHost: {sim.host}\r\n\r\n".encode())
        head = b""
        while head.count(b"X-Patience: yes\r\n") < 3:
            head += connection.recv(4096)
    assert head.startswith(b"HTTP/1.1 200 OK\r\nX-Patience: yes\r\n")
    assert b"\r\n\r\n" not in head


def received(sim: Simulator, method: str, path: str = "/v1/integrations") -> bytes:
    """Send a request and return everything that comes, until the connection is closed."""
    with socket.create_connection((sim.host, sim.port), timeout=5) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: {sim.host}\r\nAuthorization: Bearer {sim.api_key}\r\n\r\n"
        connection.sendall(head.encode())
        return b"".join(iter(lambda: connection.recv(4096), b""))


def test_closed_in_headers(sim: Simulator) -> None:
    """The connection ends in the middle of a header's value; the request took effect."""
    sim.fail(Fault.close_in_headers())
    head = received(sim, "POST", f"/v1/integrations/{ID}/sync")
    assert head == b"HTTP/1.1 200 OK\r\nContent-Type: applica"
    assert len(sim.syncs) == 1


def test_closed_in_body(sim: Simulator, post: Call) -> None:
    """The connection ends half way through the announced body; the request took effect."""
    sim.fail(Fault.close_in_body())
    with pytest.raises(LOST):
        post()
    assert len(sim.syncs) == 1


def test_truncated_body(sim: Simulator, call: Call) -> None:
    """The answer is complete HTTP but only half of its JSON."""
    sim.fail(Fault.truncated_body())
    answer = call("GET")
    assert answer.status_code == 200
    assert answer.content.startswith(b'{"integrations"')
    with pytest.raises(requests.exceptions.JSONDecodeError):
        answer.json()


def test_trickle(sim: Simulator, call: Call) -> None:
    """The body comes in pieces; every pause counts, and no single one looks like a timeout."""
    sim.fail(Fault.trickle(0.5, 32))
    begin = time.perf_counter()
    assert call("GET", timeout=1.5).json()["integrations"][0]["id"] == ID
    assert time.perf_counter() - begin >= 2


@pytest.mark.parametrize("after_effect", [True, False])
def test_slow(sim: Simulator, post: Call, *, after_effect: bool) -> None:
    """A slow answer runs into the client's timeout, after or before the sync was started."""
    sim.fail(Fault.slow(30, after_effect=after_effect))
    with pytest.raises(requests.ReadTimeout):
        post(timeout=1)
    sim.wait_for_requests(1)
    assert len(sim.syncs) == int(after_effect)
    assert len(sim.requests) == 1


def test_slow_but_honest(sim: Simulator, post: Call) -> None:
    """Waited for long enough, a slow answer is the honest one."""
    for after_effect in (True, False):
        sim.fail(Fault.slow(0.05, after_effect=after_effect))
        assert post().json()["sync_id"] == sim.syncs[0].sync_id


@pytest.mark.parametrize("document", [None, [], "text", {"integrations": None}, {"integrations": [1]}])
def test_wrong_shape(sim: Simulator, call: Call, document: object) -> None:
    """The answer is JSON, but not what is documented."""
    sim.fail(Fault.wrong_shape(document))
    assert call("GET").json() == ({"data": []} if document is None else document)


def test_invalid_utf8(sim: Simulator, call: Call) -> None:
    """The answer says JSON, but it is not UTF-8."""
    sim.fail(Fault.invalid_utf8())
    with pytest.raises(UnicodeDecodeError):
        call("GET").content.decode()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip", "deflate, gzip"])
def test_bomb(sim: Simulator, call: Call, encoding: str) -> None:
    """A few kilobytes unpack to megabytes, by whatever encodings."""
    sim.fail(Fault.gzip_bomb(3, encoding))
    answer = call("GET", stream=True)
    packed = answer.raw.read(decode_content=False)
    assert answer.headers["Content-Encoding"] == encoding
    assert len(packed) < 10_000
    assert len(unpacked(packed, encoding)) == 3 << 20


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
def test_compressed(sim: Simulator, post: Call, encoding: str) -> None:
    """The honest answer comes compressed; the request took effect."""
    sim.fail(Fault.compressed(encoding))
    answer = post(stream=True)
    assert answer.headers["Content-Encoding"] == encoding
    assert sim.syncs[0].sync_id.encode() in unpacked(answer.raw.read(decode_content=False), encoding)


def unpacked(body: bytes, encoding: str) -> bytes:
    """Undo the encodings, the last one first."""
    for name in reversed(encoding.split(", ")):
        body = gzip.decompress(body) if name == "gzip" else zlib.decompress(body)
    return body


def test_unknown_encoding() -> None:
    """An encoding that the simulator cannot make is refused."""
    with pytest.raises(ValueError, match="must be gzip or deflate"):
        Fault.compressed("br")


def test_large_body(sim: Simulator, call: Call) -> None:
    """The body has the size that was asked for and is valid JSON; a client may hang up in the middle."""
    sim.fail(Fault.large_body(2), times=2)
    answer = call("GET")
    assert len(answer.content) == 2 << 20
    assert answer.json()["integrations"] == []
    with call("GET", stream=True) as half:
        half.raw.read(1000)
    assert call("GET").status_code == 200


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirect(sim: Simulator, call: Call, code: int) -> None:
    """A redirect leads where it was told to."""
    sim.fail(Fault.redirect("http://127.0.0.1:1/elsewhere", code))
    answer = call("GET", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (code, "http://127.0.0.1:1/elsewhere")


@pytest.mark.parametrize("code", [302, 307])
def test_redirect_loop(sim: Simulator, call: Call, code: int) -> None:
    """One redirect leads to the next until the client has enough."""
    sim.fail(Fault.redirect_loop(code))
    with pytest.raises(requests.TooManyRedirects):
        call("GET")
    assert {request.status for request in sim.requests} == {code}
    assert len({request.path for request in sim.requests}) == len(sim.requests) > 20
    assert call("GET", "/redirect-loop/x", allow_redirects=False).status_code == 302


def test_outage(sim: Simulator, call: Call) -> None:
    """In an outage everything is dropped, whatever else was asked for, until it is cleared."""
    sim.fail(503)
    sim.outage()
    for _ in range(3):
        with pytest.raises(LOST):
            call("GET")
    sim.clear_faults()
    assert call("GET").status_code == 200


def test_which_requests_a_fault_meets(sim: Simulator, call: Call, post: Call) -> None:
    """Method, path pattern, ``after`` and ``times`` choose; the rest is served honestly."""
    sim.fail(500, method="POST")
    sim.fail(502, path="/v1/integrations/*", method="GET", after=1, times=2)
    single = f"/v1/integrations/{ID}"
    assert [call("GET", single).status_code for _ in range(4)] == [200, 502, 502, 200]
    assert call("GET").status_code == 200
    assert [post().status_code for _ in range(2)] == [500, 200]
    sim.fail(503, path="/v1/integrations", times=None)
    assert [call("GET").status_code for _ in range(3)] == [503] * 3
    assert call("GET", single).status_code == 200


def test_faults_are_played_in_order(sim: Simulator, call: Call) -> None:
    """Faults that match the same request come one after the other."""
    sim.fail(503, times=2)
    sim.fail(429)
    assert [call("GET").status_code for _ in range(4)] == [503, 503, 429, 200]
    with pytest.raises(ValueError, match="times"):
        sim.fail(503, times=0)


def test_stop_is_a_real_outage_and_start_goes_on(sim: Simulator, call: Call, post: Call) -> None:
    """Stopped, it refuses connections; started again, it has the same port and workspace."""
    sync_id, url = post().json()["sync_id"], sim.url
    sim.stop()
    sim.stop()
    with pytest.raises(requests.ConnectionError):
        call("GET")
    sim.start()
    sim.start()
    assert sim.url == url
    assert post().json()["sync_id"] == sync_id


def test_stop_does_not_wait_for_slow_answers(sim: Simulator, call: Call) -> None:
    """Answers that still take long are cut off by a stop."""
    sim.fail(Fault.slow(30))
    errors: list[Exception] = []

    def client() -> None:
        try:
            call("GET", timeout=10)
        except LOST as error:
            errors.append(error)

    thread = threading.Thread(target=client)
    thread.start()
    sim.wait_for_requests(1)
    begin = time.perf_counter()
    sim.stop()
    thread.join(timeout=20)
    assert time.perf_counter() - begin < 10
    assert len(errors) == 1


def test_start_on_a_taken_port() -> None:
    """A port that is taken is an error where it was asked for, and leaves nothing behind."""
    with Simulator() as first, pytest.raises(OSError, match="address already in use"):
        Simulator(port=first.port).start()


def test_keep_alive_survives_honest_answers(sim: Simulator) -> None:
    """Several requests go over one connection."""
    connection = http.client.HTTPConnection(sim.host, sim.port, timeout=5)
    for _ in range(3):
        connection.request("GET", "/v1/integrations", headers={"Authorization": f"Bearer {sim.api_key}"})
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.will_close) == (200, False)
    connection.close()
