"""Every fault, as a client meets it, and which requests it meets."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import pytest
import requests

from airflow_provider_flokit.simulator import Fault, ManualClock, Simulator

from .conftest import LIST, ONE, Call


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


@pytest.mark.parametrize("value", [3, 0.5, "soon", None])
def test_retry_after(sim: Simulator, call: Call, value: float | str | None) -> None:
    """Retry-After is whatever was asked for, absurd values too."""
    sim.fail(Fault.rate_limited(value))
    answer = call("GET")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (429, None if value is None else str(value))


def test_retry_after_http_date(sim: Simulator, clock: ManualClock, call: Call) -> None:
    """The HTTP date form is counted from the server's clock at the time of the answer."""
    sim.fail(Fault.rate_limited(http_date_in=90))
    sim.clock_skew = 1000
    clock.advance(5)
    headers = call("GET").headers
    retry, date = (parsedate_to_datetime(headers[name]) for name in ("Retry-After", "Date"))
    assert (retry - date).total_seconds() == 90


@pytest.mark.parametrize(("fault", "syncs"), [(Fault.drop(), 0), (Fault.drop_after(), 1)])
def test_drop(sim: Simulator, post: Call, fault: Fault, syncs: int) -> None:
    """A dropped request gets no answer; it had no effect, or it is the ambiguous POST that had."""
    sim.fail(fault)
    with pytest.raises(requests.ConnectionError):
        post("k")
    assert (len(sim.syncs), sim.requests[0].status) == (syncs, None)
    assert post("k").json()["sync_id"] == sim.syncs[0].sync_id
    assert len(sim.syncs) == 1


@pytest.mark.parametrize("after_effect", [True, False])
def test_slow(sim: Simulator, post: Call, *, after_effect: bool) -> None:
    """A slow answer runs into the client's timeout, after or before the sync was started; in the end it is honest."""
    sim.fail(Fault.slow(30, after_effect=after_effect))
    with pytest.raises(requests.ReadTimeout):
        post(timeout=0.3)
    wait_for_request(sim)
    assert (len(sim.syncs), len(sim.requests)) == (int(after_effect), 1)
    sim.fail(Fault.slow(0.05, after_effect=after_effect))
    assert post().json()["sync_id"] == sim.syncs[0].sync_id


def test_stop_cuts_slow_answers_off(sim: Simulator, call: Call) -> None:
    """Answers that still take long do not hold a stop up; their clients lose the connection."""
    sim.fail(Fault.slow(600))
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(call, "GET", timeout=60)
        wait_for_request(sim)
        sim.stop()
        with pytest.raises(requests.ConnectionError):
            answer.result()


def wait_for_request(sim: Simulator) -> None:
    """Wait until the first request has come."""
    while not sim.requests:
        time.sleep(0.01)


def test_which_requests_a_fault_meets(sim: Simulator, call: Call, post: Call) -> None:
    """Method, path pattern, ``after`` and ``times`` choose; the rest is served honestly."""
    sim.fail(500, method="POST")
    sim.fail(502, path=f"{LIST}/*", method="GET", after=1, times=2)
    assert [call("GET", ONE).status_code for _ in range(4)] == [200, 502, 502, 200]
    assert call("GET").status_code == 200
    assert [post().status_code for _ in range(2)] == [500, 200]
    sim.fail(503, path=LIST, times=None)
    assert [call("GET").status_code for _ in range(3)] == [503] * 3
    assert call("GET", ONE).status_code == 200


def test_an_outage_goes_before_all_other_faults(sim: Simulator, call: Call) -> None:
    """Faults come one after the other; in an outage everything is dropped, until all of them are cleared."""
    sim.fail(503, times=2)
    sim.fail(429, times=None)
    assert [call("GET").status_code for _ in range(4)] == [503, 503, 429, 429]
    sim.outage()
    for _ in range(3):
        with pytest.raises(requests.ConnectionError):
            call("GET")
    sim.clear_faults()
    assert call("GET").status_code == 200
