"""What a sync brought, told to asset events, Airflow's lineage collector and OpenLineage, the same in every mode."""

from __future__ import annotations

import asyncio
import importlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import Asset
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_flokit.assets.flokit import flokit_asset
from airflow_provider_flokit.errors import FlokitPermissionError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.lineage import SyncReport
from airflow_provider_flokit.models import Integration, SyncReceipt, SyncStats
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Fault, Sync
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from tests.modes import ABANDONED, DEFERRED, RESCHEDULE, WORKER, End, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

STRIPE, ADJUST = "int_01hx4j7stripe", "int_01hx4j7adjust"
SINGLE = f"/v1/integrations/{STRIPE}"
BEFORE = "2024-03-15T12:00:00Z"
OTHER = Asset(uri="x-other://somewhere")
URI = f"flokit://flokit_default/{STRIPE}"


@pytest.fixture(autouse=True)
def _nothing_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FlokitIntegrationTrigger, "SETTLE", 0.0)


# What is known of a sync


def at(hour: int, events_total: int | None = None) -> Integration:
    """Make an integration that synced at some hour, with statistics if a total is given."""
    stats = None if events_total is None else SyncStats(0, events_total)
    time = datetime(2024, 3, 15, hour, tzinfo=UTC)
    return Integration("int_a", "stripe", "connected", time, sync_stats=stats)


def receipt(baseline: Integration, *, skipped: bool = False) -> SyncReceipt:
    """Make a receipt with that baseline."""
    requested_at = datetime(2024, 3, 15, 13, tzinfo=UTC)
    return SyncReceipt("int_a", baseline, requested_at, None if skipped else "sync_1", skipped=skipped)


@pytest.mark.parametrize(
    ("report", "total", "brought"),
    [
        (SyncReport(at(14), receipt(at(13, 100)), at(14, 130)), 130, 30),
        (SyncReport(at(14, 130), receipt(at(13, 100))), 130, 30),
        (SyncReport(at(14), receipt(at(13, 100))), None, None),
        (SyncReport(at(14, 130), receipt(at(13))), 130, None),
        (SyncReport(at(14), receipt(at(13, 100)), at(15, 500)), 500, None),
        (SyncReport(at(14, 5), receipt(at(13, 100))), 5, None),
        (SyncReport(at(13, 100), receipt(at(13, 100), skipped=True)), 100, 0),
        (SyncReport(at(14, 130)), 130, None),
    ],
    ids=[
        "read for its statistics",
        "with statistics",
        "no statistics after",
        "no statistics before",
        "another sync meanwhile",
        "a total that shrank",
        "skipped",
        "no particular sync",
    ],
)
def test_a_number_that_cannot_be_known_is_none(report: SyncReport, total: int | None, brought: int | None) -> None:
    """Events are put down to a sync only if nothing else can have brought them."""
    extra = report.to_extra()
    assert (extra["events_total"], extra["events_brought"]) == (total, brought)
    assert extra["integration_id"] == "int_a"


# Asset events of outlets


def sync(mode: str, **arguments: Any) -> End:
    """Run an operator that waits, with an outlet of its integration and others."""
    settings: dict[str, Any] = {
        "integration_id": STRIPE,
        "wait_for_completion": True,
        "poll_interval": 0.05,
        "timeout": 30,
        "outlets": [OTHER, flokit_asset(STRIPE), flokit_asset(ADJUST)],
        "deferrable": mode != WORKER,
        **arguments,
    }
    return run(lambda: FlokitTriggerSyncOperator(task_id="sync", **settings), mode)


def wait(mode: str, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> End:
    """Run a sensor with outlets."""
    settings: dict[str, Any] = {
        "poke_interval": 0.05,
        "timeout": 30,
        "outlets": [OTHER, flokit_asset(STRIPE), flokit_asset(ADJUST)],
        "deferrable": mode in (DEFERRED, ABANDONED),
        "mode": "reschedule" if mode == RESCHEDULE else "poke",
        **arguments,
    }
    return run(lambda: FlokitIntegrationSensor(task_id="wait", **settings), mode, monkeypatch)


def singles(flokit: SimulatedFlokit) -> int:
    """Count the single reads."""
    return sum(r.path == SINGLE and r.method == "GET" for r in flokit.requests)


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
@pytest.mark.parametrize("by_type", [False, True])
def test_the_operator_tells_what_its_sync_has_brought(flokit: SimulatedFlokit, mode: str, by_type: bool) -> None:
    """The outlet of its integration carries the sync, both times and the numbers; no other outlet does."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, events_total=1000, sync=Sync(duration=0.2, events=42))
    ended = sync(mode, **({"integration_id": None, "integration_type": "stripe"} if by_type else {}))
    assert ended.state == "success", ended.message
    assert ended.extras[URI] == {
        "integration_id": STRIPE,
        "sync_id": flokit.syncs[0].sync_id,
        "last_synced_at": ended.xcoms["integration"]["last_synced_at"],
        "previous_synced_at": BEFORE,
        "events_total": 1042,
        "events_brought": 42,
    }
    assert [extra for uri, extra in ended.extras.items() if uri != URI] == [{}, {}]
    assert singles(flokit) == 2


def test_an_outlet_of_another_connection_is_the_same_integration(flokit: SimulatedFlokit) -> None:
    """Ids are unique: a watcher's read-only connection and the operator's read-write one may name the same asset."""
    flokit.add_integration(STRIPE)
    asset = flokit_asset(STRIPE, flokit_conn_id="flokit_read_only")
    assert sync(WORKER, outlets=[asset]).extras[asset.uri]["sync_id"]


def test_without_outlets_nothing_more_is_asked(flokit: SimulatedFlokit) -> None:
    """Only who wants the numbers pays for them."""
    flokit.add_integration(STRIPE)
    assert sync(WORKER, outlets=[OTHER]).state == "success"
    assert singles(flokit) == 1


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
@pytest.mark.parametrize("fault", [500, 404, 401, Fault.drop()], ids=["500", "404", "401", "dropped"])
def test_numbers_that_cannot_be_read_fail_nothing(flokit: SimulatedFlokit, mode: str, fault: Any) -> None:
    """The sync is done; what else is known is told."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE)
    flokit.fail(fault, method="GET", path=SINGLE, times=None, after=1)
    ended = sync(mode)
    assert ended.state == "success", ended.message
    extra = ended.extras[URI]
    assert (extra["previous_synced_at"], extra["events_total"], extra["events_brought"]) == (BEFORE, None, None)
    assert extra["sync_id"] == flokit.syncs[0].sync_id


def test_a_skipped_sync_tells_what_is_there(flokit: SimulatedFlokit) -> None:
    """The data was fresh: nothing was brought, and the asset's event says so."""
    flokit.add_integration(STRIPE, events_total=1000)
    extra = sync(WORKER, skip_if_synced_within=timedelta(hours=2)).extras[URI]
    assert (extra["sync_id"], extra["events_total"], extra["events_brought"]) == (None, 1000, 0)


def test_a_sync_that_is_not_waited_for_tells_nothing(flokit: SimulatedFlokit) -> None:
    """Nothing has come yet."""
    flokit.add_integration(STRIPE)
    assert sync(WORKER, wait_for_completion=False).extras[URI] == {}


@pytest.mark.parametrize("mode", [WORKER, RESCHEDULE, DEFERRED, ABANDONED])
def test_the_sensor_tells_of_its_integrations(
    flokit: SimulatedFlokit, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a receipt there is no before; each integration's outlet carries its own state and total."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, events_total=1000)
    flokit.add_integration(ADJUST, type="adjust", last_synced_at=None, events_total=7)
    # It is not ready at the first look, so that each mode comes to its own end.
    flokit.script(STRIPE, [{"status": "syncing"}, {"status": "connected"}])
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


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
def test_the_sensor_with_a_receipt_tells_of_that_sync(
    flokit: SimulatedFlokit, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipt holds the state before, so the two-task form tells the same as the operator alone."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, events_total=1000, sync=Sync(duration=0.2, events=42))
    receipt = sync(WORKER, wait_for_completion=False).xcoms["return_value"]
    extra = wait(mode, monkeypatch, receipt=receipt).extras[URI]
    assert (extra["sync_id"], extra["previous_synced_at"]) == (receipt["sync_id"], BEFORE)
    assert (extra["events_total"], extra["events_brought"]) == (1042, 42)


# Airflow's own collector


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let Airflow collect lineage, as it does when somebody reads it."""
    sdk = importlib.import_module("airflow.providers.common.compat.sdk")
    module = importlib.import_module("airflow.sdk.lineage" if AIRFLOW_V_3_2_PLUS else "airflow.lineage.hook")
    collector = module.HookLineageCollector()
    # Airflow makes the real one only if a plugin reads it.
    monkeypatch.setattr(sdk, "get_hook_lineage_collector", lambda: collector, raising=False)
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    return get_hook_lineage_collector()


def call(kind: str, start: Callable[[Any], Any]) -> Any:
    """Call a hook of either kind."""
    if kind == "worker":
        return start(FlokitHook())

    async def main() -> Any:
        return await start(FlokitAsyncHook())

    return asyncio.run(main())


@pytest.mark.parametrize("kind", ["worker", "triggerer"])
def test_a_triggered_sync_is_an_output_and_a_read_integration_an_input(
    flokit: SimulatedFlokit, collector: Any, kind: str
) -> None:
    """Whoever starts a sync changes the integration's data; whoever reads an integration goes by it."""
    flokit.add_integration(STRIPE)
    call(kind, lambda hook: hook.get_integration(STRIPE))
    assert [each.asset.uri for each in collector.collected_assets.inputs] == [URI]
    assert collector.collected_assets.outputs == []
    call(kind, lambda hook: hook.trigger_sync(STRIPE))
    assert [each.asset.uri for each in collector.collected_assets.outputs] == [URI]


@pytest.mark.parametrize("kind", ["worker", "triggerer"])
def test_a_refused_sync_is_nothing(flokit: SimulatedFlokit, collector: Any, kind: str) -> None:
    """What did not happen is not told."""
    flokit.add_integration(STRIPE)
    flokit.connect(api_key=flokit.read_only_key)
    with pytest.raises(FlokitPermissionError):
        call(kind, lambda hook: hook.trigger_sync(STRIPE))
    assert not collector.has_collected


# OpenLineage


def ended(mode: str, **arguments: Any) -> FlokitTriggerSyncOperator:
    """Run an operator without outlets and return it as it is when its task has ended, however it has."""
    made: list[FlokitTriggerSyncOperator] = []

    def make() -> FlokitTriggerSyncOperator:
        settings = {"integration_id": STRIPE, "wait_for_completion": True, "poll_interval": 0.05, **arguments}
        made.append(FlokitTriggerSyncOperator(task_id="sync", deferrable=mode == DEFERRED, **settings))
        return made[-1]

    run(make, mode)
    return made[-1]


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
def test_a_success_tells_what_it_brought(flokit: SimulatedFlokit, mode: str) -> None:
    """The integration is the output dataset, with the number of events; the sync is named; statistics are read once."""
    flokit.add_integration(STRIPE, events_total=1000, sync=Sync(duration=0.1, events=42))
    task = ended(mode)
    before = len(flokit.requests)
    facets = [task.get_openlineage_facets_on_complete(None) for _ in range(2)]
    assert len(flokit.requests) == before + 1
    (dataset,) = facets[1].outputs
    assert (dataset.namespace, dataset.name) == ("flokit://flokit_default", STRIPE)
    assert dataset.outputFacets["outputStatistics"].rowCount == 42
    (started,) = flokit.syncs
    facet = facets[1].run_facets["flokit_sync"]
    numbers = (facet.outcome, facet.syncId, facet.eventsTotal, facet.eventsBrought)
    assert numbers == ("succeeded", started.sync_id, 1042, 42)
    assert facets[1].run_facets["externalQuery"].externalQueryId == started.sync_id
    assert "errorMessage" not in facets[1].run_facets


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
def test_a_failure_tells_why(flokit: SimulatedFlokit, mode: str) -> None:
    """The error is FloKit's own, and no number is made up."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0.1, error="bad signing secret"))
    facets = ended(mode).get_openlineage_facets_on_failure(None)
    assert [dataset.name for dataset in facets.outputs] == [STRIPE]
    assert facets.outputs[0].outputFacets == {}
    assert "bad signing secret" in facets.run_facets["errorMessage"].message
    assert facets.run_facets["flokit_sync"].outcome == "failed"
    assert facets.run_facets["flokit_sync"].syncId == flokit.syncs[0].sync_id


@pytest.mark.parametrize("waits", [True, False])
def test_a_sync_that_was_skipped_or_not_waited_for(flokit: SimulatedFlokit, waits: bool) -> None:
    """Nothing was requested, with or without a wait; or it was, and what came of it is not known."""
    flokit.add_integration(STRIPE)
    skipped = ended(WORKER, wait_for_completion=waits, skip_if_synced_within=timedelta(hours=2))
    facets = skipped.get_openlineage_facets_on_complete(None).run_facets
    assert facets["flokit_sync"].outcome == "skipped"
    assert "externalQuery" not in facets
    facets = ended(WORKER, wait_for_completion=False).get_openlineage_facets_on_complete(None).run_facets
    assert facets["flokit_sync"].outcome == "requested"
    assert facets["externalQuery"].externalQueryId == flokit.syncs[0].sync_id


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"integration_id": "int_unknown"}, ["int_unknown"]),
        ({"integration_id": "{{ unrendered }}"}, []),
        ({"integration_id": None, "integration_type": "adjust"}, []),
    ],
    ids=repr,
)
def test_a_task_that_ends_before_it_begins(
    flokit: SimulatedFlokit, arguments: dict[str, Any], names: list[str]
) -> None:
    """What is known is told; a wrong argument does not break the lineage."""
    assert flokit.integrations == []
    facets = ended(WORKER, **arguments).get_openlineage_facets_on_failure(None)
    assert [dataset.name for dataset in facets.outputs] == names
    assert facets.run_facets["flokit_sync"].outcome == "failed"
