"""The operator: what it sends and returns, and what it does not sync."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.models import SyncReceipt
from airflow_provider_flokit.simulator import Fault, Sync
from tests.modes import ADJUST, BEFORE, STRIPE, logged, operate

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.01)


def test_it_starts_one_sync_and_returns_its_receipt(flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The return value is the receipt with the state from before the POST; who does not wait is told so."""
    lines = logged(monkeypatch)
    flokit.add_integration(STRIPE, status="error", error_message="boom", last_synced_at=BEFORE)
    ended = operate()
    (sync,) = flokit.syncs
    assert list(ended.xcoms) == ["return_value"]
    receipt = SyncReceipt.from_json(ended.value)
    assert (receipt.sync_id, receipt.idempotency_key, receipt.skipped) == (sync.sync_id, sync.idempotency_key, False)
    baseline = ended.value["baseline"]
    assert (baseline["status"], baseline["error_message"], baseline["last_synced_at"]) == ("error", "boom", BEFORE)
    assert [r.method for r in flokit.requests] == ["GET", "POST"]
    assert "Not waiting: the next task starts now" in lines[-1]


def test_a_type_stands_for_its_one_integration(flokit: SimulatedFlokit) -> None:
    """integration_type finds the id; the baseline has the statistics that only a single read gives."""
    flokit.add_integration(ADJUST, type="adjust")
    flokit.add_integration(STRIPE, type="stripe", events_total=1000)
    baseline = operate(integration_id=None, integration_type="stripe").value["baseline"]
    assert (baseline["id"], baseline["sync_stats"]["events_total"]) == (STRIPE, 1000)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"integration_id": "int_01hx4j7stirpe"}, "FlokitNotFoundError", f"did you mean {STRIPE}?"),
        ({"integration_id": None, "integration_type": "strip"}, "FlokitNotFoundError", "did you mean stripe?"),
        ({"integration_id": None, "integration_type": "adjust"}, "FlokitAmbiguousTypeError", "int_a, int_b"),
        ({"integration_id": STRIPE, "flokit_conn_id": "read_only"}, "FlokitPermissionError", "read-write key"),
    ],
    ids=["unknown id", "unknown type", "ambiguous type", "read-only key"],
)
def test_what_cannot_be_synced_fails_by_name(
    flokit: SimulatedFlokit, arguments: dict[str, Any], error: str, says: str
) -> None:
    """A permanent error that says what to write instead, and of which connection it speaks."""
    flokit.connect("read_only", api_key=flokit.read_only_key)
    flokit.add_integration(STRIPE, type="stripe")
    for name in ("int_a", "int_b"):
        flokit.add_integration(name, type="adjust")
    ended = operate(**arguments)
    assert (ended.error, flokit.syncs) == (error, [])
    assert says in ended.message
    assert repr(arguments.get("flokit_conn_id", "flokit_default")) in ended.message


def test_an_old_error_is_forgiven_from_the_409_on(flokit: SimulatedFlokit) -> None:
    """The baseline may be old by then: start_timeout counts from when FloKit told of the running sync."""
    flokit.when_running = "conflict"
    flokit.add_integration(STRIPE)
    flokit.run_scheduled_sync(STRIPE, Sync(duration=math.inf))
    flokit.fail(Fault.slow(2, after_effect=False), method="POST")
    receipt = SyncReceipt.from_json(operate().value)
    assert receipt.sync_id is None
    assert receipt.triggered_at - flokit.requests[0].at > timedelta(seconds=1)


@pytest.mark.parametrize("waits", [True, False])
def test_fresh_data_is_not_synced_again(flokit: SimulatedFlokit, waits: bool) -> None:
    """
    skip_if_synced_within: no POST, a receipt that says so (mapping over it loses no item), one request.

    How old the data is goes by FloKit's clock, which is a day off here.
    """
    flokit.clock_skew = -86_400.0
    flokit.add_integration(STRIPE, last_synced_at=datetime.fromtimestamp(flokit.server_time() - 50 * 60, tz=UTC))
    ended = operate(skip_if_synced_within=timedelta(hours=1), wait_for_completion=waits)
    assert (ended.value["skipped"], ended.value["sync_id"]) == (True, None)
    assert ("integration" in ended.xcoms) is waits
    assert [r.method for r in flokit.requests] == ["GET"]


@pytest.mark.parametrize(
    ("status", "within"),
    [("connected", timedelta(minutes=30)), ("error", timedelta(hours=2))],
    ids=["stale", "in error"],
)
def test_only_fresh_and_connected_data_saves_the_sync(flokit: SimulatedFlokit, status: str, within: timedelta) -> None:
    """An hour-old success is not within 30 minutes, and an integration in error is never fresh."""
    flokit.add_integration(STRIPE, status=status)
    operate(skip_if_synced_within=within)
    assert len(flokit.syncs) == 1
