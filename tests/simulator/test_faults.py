"""Every fault, as a client meets it, and which requests it meets."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from airflow_provider_flokit.simulator import Fault, Simulator

from .conftest import LIST, ONE, SYNC, Call, Clock


def test_status(sim: Simulator, call: Call) -> None:
    """A status, with a body and headers of one's own or without, is answered once, without effect; then all is well."""
    sim.fail(503)
    sim.fail(Fault.answer(418, b"own", {"X-Trace": "1"}))
    assert call("POST", SYNC).json() == {"error": "service_unavailable", "message": "Service unavailable"}
    answer = call("POST", SYNC)
    assert (answer.status_code, answer.content, answer.headers["X-Trace"]) == (418, b"own", "1")
    assert sim.syncs == []
    assert call("POST", SYNC).status_code == 200


@pytest.mark.parametrize(("fault", "syncs"), [(Fault.drop(), 0), (Fault.drop_after(), 1)])
def test_drop(sim: Simulator, call: Call, fault: Fault, syncs: int) -> None:
    """A dropped request gets no answer; it had no effect, or it is the ambiguous POST that had."""
    sim.fail(fault)
    with pytest.raises(requests.ConnectionError):
        call("POST", SYNC)
    assert (len(sim.syncs), sim.requests[0].status) == (syncs, None)


@pytest.mark.parametrize("after_effect", [True, False])
def test_slow(sim: Simulator, call: Call, *, after_effect: bool) -> None:
    """A slow answer comes after or before the sync was started; a stop cuts it off."""
    sim.fail(Fault.slow(0.05, after_effect=after_effect))
    assert call("POST", SYNC).json()["sync_id"] == sim.syncs[0].sync_id
    sim.when_running = "queue"
    sim.fail(Fault.slow(600, after_effect=after_effect))
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(call, "POST", SYNC, timeout=60)
        while len(sim.requests) == 1:
            time.sleep(0.01)
        assert len(sim.syncs) == 1 + after_effect
        sim.stop()
        with pytest.raises(requests.ConnectionError):
            answer.result()


def test_latency(sim: Simulator, call: Call) -> None:
    """Every request takes that long before it is handled."""
    sim.latency = 0.1
    begin = time.perf_counter()
    assert call("GET").status_code == 200
    assert time.perf_counter() - begin >= 0.1


def test_rate_limit(sim: Simulator, clock: Clock, call: Call) -> None:
    """Beyond N requests per window there is a 429 whose Retry-After leads to the next window; one can be played too."""
    sim.rate_limit = (2, 10)
    assert [call("GET").status_code for _ in range(3)] == [200, 200, 429]
    clock.now += 4
    assert call("GET").headers["Retry-After"] == "6"
    clock.now += 6
    assert call("GET").status_code == 200
    sim.fail(Fault.rate_limited("soon"))
    answer = call("GET")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "soon")


def test_which_requests_a_fault_meets(sim: Simulator, call: Call) -> None:
    """Method, path pattern, ``after`` and ``times`` choose; the rest is served honestly."""
    sim.fail(500, method="POST")
    sim.fail(502, path=f"{LIST}/*", method="GET", after=1, times=2)
    assert [call("GET", ONE).status_code for _ in range(4)] == [200, 502, 502, 200]
    assert call("GET").status_code == 200
    assert [call("POST", SYNC).status_code for _ in range(2)] == [500, 200]
