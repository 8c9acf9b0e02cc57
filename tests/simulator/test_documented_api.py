"""The documented calls and error bodies, byte for field as in FloKit's samples."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from .conftest import ID, Call

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

SAMPLE = [
    ("int_01hx4j7revenuecat", "revenuecat", "connected", "2024-03-15T13:00:00Z", None),
    (
        "int_01hx4j7stripe",
        "stripe",
        "error",
        "2024-03-14T22:00:00Z",
        "Webhook signature verification failed — check",
    ),
]


def test_list_is_as_documented(sim: Simulator, call: Call) -> None:
    """The list holds exactly the documented fields, in order, with non-ASCII text intact."""
    sim.remove_integration(ID)
    for integration_id, kind, status, synced, error in SAMPLE:
        sim.add_integration(integration_id, kind, status=status, last_synced_at=synced, error_message=error)
    expected = [
        dict(zip(("id", "type", "status", "last_synced_at", "error_message"), row, strict=True)) for row in SAMPLE
    ]
    answer = call("GET")
    assert answer.json() == {"integrations": expected}
    assert answer.headers["Content-Type"].startswith("application/json")


def test_single_read_adds_sync_stats(sim: Simulator, call: Call) -> None:
    """The single read, and only it, has ``sync_stats``."""
    sim.set_state(ID, events_last_24h=4821, events_total=1204739, earliest_event_at=datetime(2023, 8, 1, tzinfo=UTC))
    document = call("GET", f"/v1/integrations/{ID}").json()["integration"]
    stats = {"events_last_24h": 4821, "events_total": 1204739, "earliest_event_at": "2023-08-01T00:00:00Z"}
    assert document.pop("sync_stats") == stats
    assert document == call("GET").json()["integrations"][0]


def test_post_answers_a_sync_id(call: Call) -> None:
    """A POST answers ok and a sync_id, and nothing else."""
    document = call("POST", f"/v1/integrations/{ID}/sync").json()
    assert document.pop("sync_id").startswith("sync_")
    assert document == {"status": "ok"}


@pytest.mark.parametrize("key", [None, "wrong", "fk_ro_simulator_"])
@pytest.mark.parametrize("path", ["/v1/integrations", f"/v1/integrations/{ID}"])
def test_missing_or_wrong_key(call: Call, path: str, key: str | None) -> None:
    """Without a valid key there is the documented 401."""
    answer = call("GET", path, key=key)
    assert answer.status_code == 401
    assert answer.json() == {"error": "unauthorized", "message": "Invalid or missing API key"}


@pytest.mark.parametrize("header", ["Basic abc", "fk_rw_simulator", "Bearer", "Bearer kéy"])
def test_other_authorization_headers(call: Call, header: str) -> None:
    """Only ``Bearer KEY`` is a key."""
    assert call("GET", key=None, headers={"Authorization": header.encode()}).status_code == 401


def test_read_only_key(sim: Simulator, call: Call) -> None:
    """A read-only key reads; triggering a sync with it is the documented 403 and starts nothing."""
    assert call("GET", key=sim.read_only_key).status_code == 200
    answer = call("POST", f"/v1/integrations/{ID}/sync", key=sim.read_only_key)
    assert answer.status_code == 403
    assert answer.json() == {"error": "forbidden", "message": "This operation requires a read-write key"}
    assert sim.syncs == []


def test_rotation_kills_the_old_key_at_once(sim: Simulator, call: Call) -> None:
    """After a rotation only the new key works; it can be chosen, by method or by attribute."""
    old = sim.api_key
    new = sim.rotate_key()
    assert (call("GET", key=old).status_code, call("GET", key=new).status_code) == (401, 200)
    sim.api_key = "chosen"
    assert (call("GET", key=new).status_code, call("GET", key="chosen").status_code) == (401, 200)
    with pytest.raises(ValueError, match="differ"):
        sim.rotate_key(sim.read_only_key)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/integrations/none", 404),
        ("POST", "/v1/integrations/none/sync", 404),
        ("GET", f"/v1/integrations/{ID}/other", 404),
        ("GET", "/v2", 404),
        ("POST", "/v1/integrations", 405),
        ("DELETE", f"/v1/integrations/{ID}", 405),
        ("GET", f"/v1/integrations/{ID}/sync", 405),
    ],
)
def test_what_there_is_not(call: Call, method: str, path: str, status: int) -> None:
    """Unknown ids and paths answer 404, wrong methods 405, with an error and a message."""
    answer = call(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "message"}


def test_ids_are_percent_decoded(sim: Simulator, call: Call) -> None:
    """An id is one path segment, decoded once."""
    sim.add_integration("a b/ü")
    assert call("GET", "/v1/integrations/a%20b%2F%C3%BC").json()["integration"]["id"] == "a b/ü"
    assert sim.requests[-1].integration_id == "a b/ü"


def test_date_header(sim: Simulator, call: Call) -> None:
    """Every answer carries the server's time, and none does with ``send_date`` off."""
    for path in ("", "/none"):
        date = parsedate_to_datetime(call("GET", f"/v1/integrations{path}").headers["Date"])
        assert date == datetime(2024, 3, 15, 13, tzinfo=UTC)
    sim.send_date = False
    assert "Date" not in call("GET").headers
