"""The documented calls and error bodies, byte for field as in FloKit's samples, and the record of what was asked."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
import requests
from airflow.models.connection import Connection

from airflow_provider_flokit.simulator import ManualClock, Simulator

from .conftest import ID, LIST, ONE, SYNC, Call

ERROR = "Webhook signature verification failed — check"


def test_list_is_as_documented(sim: Simulator, call: Call) -> None:
    """The list holds exactly the documented fields, in order, with non-ASCII text intact."""
    sim.set_state(ID, status="error", last_synced_at="2024-03-14T22:00:00Z", error_message=ERROR)
    answer = call("GET")
    assert answer.json()["integrations"] == [
        {
            "id": ID,
            "type": "stripe",
            "status": "error",
            "last_synced_at": "2024-03-14T22:00:00Z",
            "error_message": ERROR,
        }
    ]
    assert answer.headers["Content-Type"].startswith("application/json")
    assert parsedate_to_datetime(answer.headers["Date"]) == datetime(2024, 3, 15, 13, tzinfo=UTC)


def test_single_read_adds_sync_stats(sim: Simulator, call: Call) -> None:
    """The single read, and only it, has ``sync_stats``."""
    sim.set_state(ID, events_last_24h=4821, events_total=1204739, earliest_event_at=datetime(2023, 8, 1, tzinfo=UTC))
    document = call("GET", ONE).json()["integration"]
    stats = {"events_last_24h": 4821, "events_total": 1204739, "earliest_event_at": "2023-08-01T00:00:00Z"}
    assert document.pop("sync_stats") == stats
    assert document == call("GET").json()["integrations"][0]


def test_post_answers_a_sync_id(call: Call) -> None:
    """A POST answers ok and a sync_id, and nothing else."""
    document = call("POST", SYNC).json()
    assert document.pop("sync_id").startswith("sync_")
    assert document == {"status": "ok"}


@pytest.mark.parametrize("header", [None, "Basic abc", "fk_rw_simulator", "Bearer", "Bearer wrong"])
def test_missing_or_wrong_key(call: Call, header: str | None) -> None:
    """Without a valid key there is the documented 401."""
    answer = call("GET", key=None, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json() == {"error": "unauthorized", "message": "Invalid or missing API key"}


def test_read_only_key(sim: Simulator, call: Call) -> None:
    """A read-only key reads; triggering a sync with it is the documented 403 and starts nothing."""
    assert call("GET", key=sim.read_only_key).status_code == 200
    answer = call("POST", SYNC, key=sim.read_only_key)
    assert answer.status_code == 403
    assert answer.json() == {"error": "forbidden", "message": "This operation requires a read-write key"}
    assert sim.syncs == []


def test_rotation_kills_the_old_key_at_once(sim: Simulator, call: Call) -> None:
    """After a rotation only the new key works; it is one never used before, or one of choice."""
    keys = [sim.api_key, sim.rotate_key(), sim.rotate_key(), sim.rotate_key("chosen")]
    assert len(set(keys)) == 4
    assert [call("GET", key=key).status_code for key in keys] == [401, 401, 401, 200]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{LIST}/none", 404),
        ("POST", f"{LIST}/none/sync", 404),
        ("GET", f"{ONE}/other", 404),
        ("GET", "/v2", 404),
        ("POST", LIST, 405),
        ("DELETE", ONE, 405),
        ("GET", SYNC, 405),
    ],
)
def test_what_there_is_not(call: Call, method: str, path: str, status: int) -> None:
    """Unknown ids and paths answer 404, wrong methods 405, with an error and a message."""
    answer = call(method, path)
    assert (answer.status_code, set(answer.json())) == (status, {"error", "message"})


def test_requests_are_recorded(sim: Simulator, call: Call) -> None:
    """Every request is on record before its answer arrives, with all that matters about it but without a key."""
    sim.add_integration("a b/ü")
    call("GET", f"{LIST}?page=2", key="wrong-key")
    call("GET", f"{LIST}/a%20b%2F%C3%BC", key=sim.read_only_key)
    call("POST", SYNC, headers={"Idempotency-Key": "k1"})
    assert [(r.method, r.path, r.status, r.integration_id, r.key) for r in sim.requests] == [
        ("GET", LIST, 401, None, "invalid"),
        ("GET", f"{LIST}/a%20b%2F%C3%BC", 200, "a b/ü", "read-only"),
        ("POST", SYNC, 200, ID, "read-write"),
    ]
    assert sim.requests[2].idempotency_key == sim.requests[2].headers["idempotency-key"] == "k1"
    assert not any(key in repr(sim.requests) for key in (sim.api_key, sim.read_only_key, "wrong-key"))
    sim.clear_requests()
    assert sim.requests == []


def test_airflow_reads_the_connection(sim: Simulator) -> None:
    """Airflow makes the right connection of the URI and of the JSON; extras keep their types."""
    sim.rotate_key("k/ey @:%")
    of_uri = Connection(uri=sim.connection_uri(timeout=5))
    assert (of_uri.conn_type, of_uri.schema, of_uri.host, of_uri.port) == ("flokit", "http", sim.host, sim.port)
    assert (of_uri.password, of_uri.extra_dejson) == ("k/ey @:%", {"timeout": 5})
    of_json = json.loads(sim.connection_json(sim.read_only_key, timeout=5))
    assert of_json == {
        "conn_type": "flokit", "host": sim.url, "password": sim.read_only_key, "extra": {"timeout": 5},
    }  # fmt: skip


def test_two_hundred_clients_at_once(sim: Simulator, call: Call) -> None:
    """Everybody who connects at the same moment is answered, over a connection of his own."""

    def connect(_: int) -> int:
        headers = {"Authorization": f"Bearer {sim.api_key}"}
        return requests.get(sim.url + LIST, headers=headers, timeout=30).status_code

    with ThreadPoolExecutor(200) as clients:
        assert list(clients.map(connect, range(200))) == [200] * 200
    assert call("GET").headers.get("Connection") != "close"


def test_stop_and_start(sim: Simulator, call: Call, clock: ManualClock) -> None:
    """Stopped, it refuses connections; started again, it has the same port and workspace, and time went on."""
    url = sim.url
    call("POST", SYNC)
    sim.stop()
    sim.stop()
    with pytest.raises(requests.ConnectionError):
        call("GET")
    clock.advance(30)
    sim.start()
    sim.start()
    assert (sim.url, call("GET", ONE).json()["integration"]["last_synced_at"]) == (url, "2024-03-15T13:00:30Z")


def test_a_port_that_is_taken(sim: Simulator) -> None:
    """It is an error where it was asked for."""
    with pytest.raises(OSError, match="Address already in use"):
        Simulator(port=sim.port).start()
