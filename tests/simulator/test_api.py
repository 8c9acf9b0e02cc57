"""The documented calls and errors, the keys, and the record of what was asked."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
import requests
from airflow.models.connection import Connection

from .conftest import ID, LIST, ONE, SYNC, Call, Clock

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

ERROR = "Webhook signature verification failed — check"


def test_calls_are_as_documented(sim: Simulator, call: Call) -> None:
    """The list has exactly the documented fields, the single read ``sync_stats`` too, and a POST answers a sync_id."""
    sim.set_state(ID, status="error", last_synced_at=datetime(2024, 3, 14, 22, tzinfo=UTC), error_message=ERROR)
    sim.set_state(ID, events_last_24h=4821, events_total=1204739, earliest_event_at=datetime(2023, 8, 1, tzinfo=UTC))
    listed = {
        "id": ID,
        "type": "stripe",
        "status": "error",
        "last_synced_at": "2024-03-14T22:00:00Z",
        "error_message": ERROR,
    }
    stats = {"events_last_24h": 4821, "events_total": 1204739, "earliest_event_at": "2023-08-01T00:00:00Z"}
    answer = call("GET")
    assert answer.json() == {"integrations": [listed]}
    assert answer.headers["Content-Type"].startswith("application/json")
    assert parsedate_to_datetime(answer.headers["Date"]) == datetime(2024, 3, 15, 13, tzinfo=UTC)
    assert call("GET", ONE).json() == {"integration": {**listed, "sync_stats": stats}}
    assert call("POST", SYNC).json() == {"status": "ok", "sync_id": sim.syncs[0].sync_id}


@pytest.mark.parametrize(
    ("header", "status", "error", "message"),
    [
        (None, 401, "unauthorized", "Invalid or missing API key"),
        ("fk_rw_simulator", 401, "unauthorized", "Invalid or missing API key"),
        ("Bearer wrong", 401, "unauthorized", "Invalid or missing API key"),
        ("Bearer fk_ro_simulator", 403, "forbidden", "This operation requires a read-write key"),
    ],
)
def test_wrong_keys(sim: Simulator, call: Call, header: str | None, status: int, error: str, message: str) -> None:
    """Without a valid key, or with a read-only one, no sync starts, and the answer is the documented one."""
    answer = call("POST", SYNC, headers={"Authorization": header})
    assert (answer.status_code, answer.json()) == (status, {"error": error, "message": message})
    assert sim.syncs == []


def test_rotation_kills_the_old_key_at_once(sim: Simulator, call: Call) -> None:
    """After a rotation only the new key works; it is one never used before, or one of choice."""
    keys = [sim.api_key, sim.rotate_key(), sim.rotate_key("chosen")]
    assert [call("GET", key=key).status_code for key in keys] == [401, 401, 200]


def test_airflow_reads_the_connection(sim: Simulator) -> None:
    """Airflow makes the right connection of the URI, whatever the key is; extras keep their types."""
    connection = Connection(uri=sim.connection_uri("k/ey @:%", timeout=5))
    assert (connection.conn_type, connection.schema, connection.host) == ("flokit", "http", "127.0.0.1")
    assert (connection.port, connection.password, connection.extra_dejson) == (sim.port, "k/ey @:%", {"timeout": 5})


def test_requests_are_recorded(sim: Simulator, call: Call) -> None:
    """Every request is on record, with all that matters about it but without a key."""
    sim.add_integration("a b/ü")
    call("GET", f"{LIST}?page=2", key="wrong-key")
    call("GET", f"{LIST}/a%20b%2F%C3%BC", key=sim.read_only_key)
    call("POST", SYNC, headers={"Idempotency-Key": "k1"})
    assert [(r.method, r.path, r.status, r.integration_id, r.key, r.idempotency_key) for r in sim.requests] == [
        ("GET", LIST, 401, None, "invalid", None),
        ("GET", f"{LIST}/a%20b%2F%C3%BC", 200, "a b/ü", "read-only", None),
        ("POST", SYNC, 200, ID, "read-write", "k1"),
    ]
    assert not any(key in repr(sim.requests) for key in (sim.api_key, sim.read_only_key, "wrong-key"))
    sim.clear_requests()
    assert sim.requests == []


def test_stop_and_start(sim: Simulator, call: Call, clock: Clock) -> None:
    """Stopped, it answers nobody; started again, it has the same URL and workspace, and time went on."""
    url = sim.url
    call("POST", SYNC)
    sim.stop()
    with pytest.raises(requests.ConnectionError):  # on the open connection
        call("GET")
    with pytest.raises(requests.ConnectionError):  # on a new one
        call("GET")
    clock.now += 30
    sim.start()
    assert (sim.url, call("GET", ONE).json()["integration"]["last_synced_at"]) == (url, "2024-03-15T13:00:30Z")
