"""What was asked of a simulator, how it is reached, and that it is quick."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from airflow_provider_flokit.simulator import Fault, Simulator, Sync, workspace

from .conftest import ID, Call

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


def test_requests_are_recorded(sim: Simulator, call: Call, post: Call) -> None:
    """Every request is on record before its answer arrives, with all that matters about it."""
    call("GET", "/v1/integrations?page=2", key=None)
    call("GET", key="wrong")
    call("GET", key=sim.read_only_key)
    post("k1")
    rows = [(r.method, r.path, r.status, r.integration_id, r.idempotency_key, r.key) for r in sim.requests]
    assert rows == [
        ("GET", "/v1/integrations", 401, None, None, "missing"),
        ("GET", "/v1/integrations", 401, None, None, "invalid"),
        ("GET", "/v1/integrations", 200, None, None, "read-only"),
        ("POST", f"/v1/integrations/{ID}/sync", 200, ID, "k1", "read-write"),
    ]
    assert sim.requests[3].headers["idempotency-key"] == "k1"
    assert sim.requests[2].note == "1 integrations: 1 connected"
    sim.clear_requests()
    assert sim.requests == []


def test_no_key_is_recorded(sim: Simulator, call: Call) -> None:
    """No API key, valid or not, is in any record."""
    call("GET")
    call("GET", key="a-wrong-key")
    sim.fail(Fault.drop_after())
    assert "authorization" not in sim.requests[0].headers
    assert sim.api_key not in repr(sim.requests)
    assert "a-wrong-key" not in repr(sim.requests)


def test_wait_for_requests(sim: Simulator, call: Call) -> None:
    """It returns when there are enough requests and gives up in time."""
    threading.Timer(0.05, call, ("GET",)).start()
    assert len(sim.wait_for_requests(1, timeout=5)) == 1
    with pytest.raises(TimeoutError, match="1 of 2 requests"):
        sim.wait_for_requests(2, timeout=0.05)


def test_connection_uri(sim: Simulator) -> None:
    """The URI has every piece where Airflow looks for it; typed extras keep their types."""
    sim.rotate_key("k/ey @:%")
    parts = urlsplit(sim.connection_uri(timeout="5"))
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == (
        "flokit",
        "127.0.0.1",
        sim.port,
        "/http",
    )
    assert unquote(parts.password or "") == "k/ey @:%"
    assert parse_qsl(parts.query) == [("timeout", "5")]
    query = dict(parse_qsl(urlsplit(sim.connection_uri(timeout=5, verify=False)).query))
    assert json.loads(query["__extra__"]) == {"timeout": 5, "verify": False}
    assert "?" not in sim.connection_uri()


def test_connection_json(sim: Simulator) -> None:
    """The JSON form names the same place; another key can be put in."""
    assert json.loads(sim.connection_json(sim.read_only_key, timeout=5)) == {
        "conn_type": "flokit",
        "host": sim.url,
        "password": sim.read_only_key,
        "extra": {"timeout": 5},
    }


@pytest.mark.filterwarnings("ignore")  # importing Airflow 2.11 warns about its own settings
def test_airflow_reads_both_forms(sim: Simulator) -> None:
    """Airflow itself makes the right connection out of either."""
    models = pytest.importorskip("airflow.models.connection")
    of_uri = models.Connection(uri=sim.connection_uri(timeout=5))
    assert (of_uri.conn_type, of_uri.schema, of_uri.host, of_uri.port) == (
        "flokit",
        "http",
        "127.0.0.1",
        sim.port,
    )
    assert (of_uri.password, of_uri.extra_dejson) == (sim.api_key, {"timeout": 5})
    of_json = models.Connection.from_json(sim.connection_json(timeout=5))
    assert (of_json.conn_type, of_json.host, of_json.password) == ("flokit", sim.url, sim.api_key)


def test_start_and_stop_are_quick() -> None:
    """Starting and stopping take milliseconds, so that every test can have its own."""
    begin = time.perf_counter()
    for _ in range(20):
        with Simulator():
            pass
    assert time.perf_counter() - begin < 3


def test_ten_thousand_integrations(sim: Simulator, call: Call, mocker: MockerFixture) -> None:
    """A list of 10,000 is rendered once and then served as it is."""
    for number in range(10_000):
        sim.add_integration(f"int_x{number}", last_synced_at="2024-03-15T12:00:00Z")
    first = call("GET")
    assert len(first.json()["integrations"]) == 10_001
    rendered = mocker.spy(workspace, "integration_document")
    assert call("GET").content == first.content
    assert rendered.call_count == 0
    assert sim.read_list()[0] is sim.read_list()[0]


def test_on_the_wall_clock() -> None:
    """Without a clock of its own, a sync takes real time, and its end is by the real clock."""
    with Simulator(sync=Sync(start_delay=0, duration=0.05)) as sim:
        sim.add_integration(ID)
        assert sim.run_scheduled_sync(ID).outcome == "running"
        time.sleep(0.06)
        assert sim.syncs[0].outcome == "succeeded"
        assert sim.syncs[0].finished_at is not None
        assert abs(sim.syncs[0].finished_at.timestamp() - time.time()) < 1


def test_fixture_for_users(flokit: Simulator) -> None:
    """The fixture runs an empty simulator and points the default connection at it."""
    assert os.environ["AIRFLOW_CONN_FLOKIT_DEFAULT"] == flokit.connection_uri()
    assert flokit.integrations == []
