"""What the asset events of a task's outlets carry, the same in every mode."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_flokit.assets.flokit import flokit_asset
from airflow_provider_flokit.models import Integration
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.outlets import with_stats
from airflow_provider_flokit.report import SyncReport
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Fault, Sync
from tests.modes import ABANDONED, DEFERRED, RESCHEDULE, WORKER, End, run

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

STRIPE, ADJUST = "int_01hx4j7stripe", "int_01hx4j7adjust"
BEFORE = "2024-03-15T12:00:00Z"
SINGLE = f"/v1/integrations/{STRIPE}"
OTHER = Asset(uri="x-other://somewhere")
URI = flokit_asset(STRIPE).uri


def sync(mode: str, **arguments: Any) -> End:
    """Run an operator that waits, with an outlet of its integration and others."""
    settings: dict[str, Any] = {
        "integration_id": STRIPE,
        "wait_for_completion": True,
        "poll_interval": 0.05,
        "timeout": 10,
        "outlets": [OTHER, flokit_asset(STRIPE), flokit_asset(ADJUST)],
        "deferrable": mode != WORKER,
        **arguments,
    }
    return run(lambda: FlokitTriggerSyncOperator(task_id="sync", **settings), mode)


def wait(mode: str, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> End:
    """Run a sensor with outlets."""
    settings: dict[str, Any] = {
        "poke_interval": 0.05,
        "timeout": 10,
        "outlets": [OTHER, flokit_asset(STRIPE), flokit_asset(ADJUST)],
        "deferrable": mode in (DEFERRED, ABANDONED),
        "mode": "reschedule" if mode == RESCHEDULE else "poke",
        **arguments,
    }
    return run(lambda: FlokitIntegrationSensor(task_id="wait", **settings), mode, monkeypatch)


def singles(flokit: Simulator) -> int:
    """Count the single reads."""
    return sum(r.path == SINGLE and r.method == "GET" for r in flokit.requests)


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
def test_the_operator_tells_what_its_sync_has_brought(flokit: Simulator, mode: str) -> None:
    """The outlet of its integration carries the sync, both times and the numbers; no other outlet does."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, events_total=1000, sync=Sync(duration=0.2, events=42))
    ended = sync(mode)
    assert ended.state == "success", ended.message
    assert ended.extras[URI] == {
        "integration_id": STRIPE,
        "sync_id": ended.xcoms["return_value"],
        "last_synced_at": ended.xcoms["integration"]["last_synced_at"],
        "previous_synced_at": BEFORE,
        "events_total": 1042,
        "events_brought": 42,
    }
    assert [extra for uri, extra in ended.extras.items() if uri != URI] == [{}, {}]
    assert singles(flokit) == 2


def test_the_operator_by_type_tells_the_same(flokit: Simulator) -> None:
    """The list has no statistics, so the baseline is read singly."""
    flokit.add_integration(STRIPE, type="stripe", events_total=1000, sync=Sync(duration=0.1, events=42))
    ended = sync(WORKER, integration_id=None, integration_type="stripe")
    assert ended.extras[URI]["events_brought"] == 42


def test_statistics_that_cannot_be_had_stop_no_sync(flokit: Simulator) -> None:
    """The baseline of the list is good enough to wait by; only the numbers are missing."""
    flokit.add_integration(STRIPE, type="stripe", sync=Sync(duration=0.1))
    flokit.fail(403, path=f"/v1/integrations/{STRIPE}", times=None)
    ended = sync(WORKER, integration_id=None, integration_type="stripe")
    assert ended.state == "success"
    assert ended.extras[URI]["events_brought"] is None
    assert ended.extras[URI]["sync_id"] == flokit.syncs[0].sync_id


def test_an_outlet_of_another_connection_is_the_same_integration(flokit: Simulator) -> None:
    """Ids are unique: a watcher's read-only connection and the operator's read-write one may name the same asset."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0.1))
    asset = flokit_asset(STRIPE, flokit_conn_id="flokit_read_only")
    assert sync(WORKER, outlets=[asset]).extras[asset.uri]["sync_id"]


def test_without_outlets_nothing_more_is_asked(flokit: Simulator) -> None:
    """Only who wants the numbers pays for them."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0.1))
    assert sync(WORKER, outlets=[OTHER]).state == "success"
    assert singles(flokit) == 1


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
@pytest.mark.parametrize("fault", [Fault.answer(500), Fault.answer(404), Fault.answer(401), Fault.drop()], ids=str)
def test_numbers_that_cannot_be_read_fail_nothing(flokit: Simulator, mode: str, fault: Fault) -> None:
    """The sync is done; what else is known is told."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, sync=Sync(duration=0.1))
    flokit.fail(fault, method="GET", path=SINGLE, times=None, after=1)
    ended = sync(mode)
    assert ended.state == "success", ended.message
    extra = ended.extras[URI]
    assert (extra["previous_synced_at"], extra["events_total"], extra["events_brought"]) == (BEFORE, None, None)
    assert extra["sync_id"] == ended.xcoms["return_value"]


def test_a_connection_that_vanished_fails_nothing(flokit: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """The sync is done; the log says why the numbers are missing."""
    state = flokit.add_integration(STRIPE)
    report = SyncReport.of(Integration(state.id, state.type, state.status))
    with caplog.at_level(logging.WARNING):
        assert with_stats(report, "no_such_connection", logging.getLogger("task")) == report
    assert "'no_such_connection' is not defined" in caplog.text


def test_a_skipped_sync_tells_what_is_there(flokit: Simulator) -> None:
    """The data was fresh: nothing was brought, and the asset's event says so."""
    flokit.add_integration(STRIPE, events_total=1000)
    flokit.run_scheduled_sync(STRIPE, Sync(duration=0))
    extra = sync(WORKER, skip_if_synced_within=timedelta(hours=1)).extras[URI]
    assert (extra["sync_id"], extra["events_brought"]) == (None, 0)
    assert extra["events_total"] >= 1000


def test_a_sync_that_is_not_waited_for_tells_nothing(flokit: Simulator) -> None:
    """Nothing has come yet."""
    flokit.add_integration(STRIPE)
    assert sync(WORKER, wait_for_completion=False).extras[URI] == {}


@pytest.mark.parametrize("mode", [WORKER, RESCHEDULE, DEFERRED, ABANDONED])
def test_the_sensor_tells_of_its_integrations(flokit: Simulator, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a receipt there is no before; each integration's outlet carries its own state and total."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, events_total=1000)
    flokit.add_integration(ADJUST, type="adjust", last_synced_at=None, events_total=7)
    ended = wait(mode, monkeypatch, integration_id=[STRIPE, ADJUST])
    assert ended.state == "success", ended.message
    extras = {extra["integration_id"]: extra for extra in ended.extras.values() if extra}
    assert extras[STRIPE] == {
        "integration_id": STRIPE,
        "sync_id": None,
        "last_synced_at": BEFORE,
        "previous_synced_at": None,
        "events_total": 1000,
        "events_brought": None,
    }
    assert (extras[ADJUST]["last_synced_at"], extras[ADJUST]["events_total"]) == (None, 7)


@pytest.mark.parametrize("mode", [WORKER, RESCHEDULE, DEFERRED, ABANDONED])
def test_the_sensor_with_a_receipt_tells_of_that_sync(
    flokit: Simulator, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipt holds the state before, so the two-task form tells the same as the operator alone."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, events_total=1000, sync=Sync(duration=0, events=42))
    started = sync(WORKER, wait_for_completion=False)
    extra = wait(mode, monkeypatch, receipt=started.xcoms["receipt"]).extras[URI]
    assert (extra["sync_id"], extra["previous_synced_at"]) == (started.xcoms["return_value"], BEFORE)
    assert (extra["events_total"], extra["events_brought"]) == (1042, 42)
