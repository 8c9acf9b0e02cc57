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
from airflow_provider_flokit.simulator import Sync
from tests.modes import ABANDONED, ADJUST, BEFORE, DEFERRED, RESCHEDULE, STRIPE, WORKER, End, operate, sense

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

SINGLE = f"/v1/integrations/{STRIPE}"
OTHER = Asset(uri="x-other://somewhere")
URI = f"flokit://flokit_default/{STRIPE}"
# Ids are unique: an asset of another connection, such as a watcher's read-only one, is the same integration.
OUTLETS = [OTHER, flokit_asset(STRIPE), flokit_asset(STRIPE, flokit_conn_id="read_only"), flokit_asset(ADJUST)]

both_modes = pytest.mark.parametrize("mode", [WORKER, DEFERRED])


def at(hour: int, events_total: int | None = None) -> Integration:
    """Make an integration that synced at some hour, with statistics if a total is given."""
    stats = None if events_total is None else SyncStats(0, events_total)
    return Integration("int_a", "stripe", "connected", datetime(2024, 3, 15, hour, tzinfo=UTC), sync_stats=stats)


def receipt(baseline: Integration, *, skipped: bool = False) -> SyncReceipt:
    """Make a receipt with that baseline."""
    return SyncReceipt("int_a", baseline, datetime(2024, 3, 15, 13, tzinfo=UTC), "sync_1", skipped=skipped)


@pytest.mark.parametrize(
    ("now", "of", "later", "total", "brought"),
    [
        pytest.param(at(14), receipt(at(13, 100)), at(14, 130), 130, 30, id="read for its statistics"),
        pytest.param(at(14, 130), receipt(at(13, 100)), None, 130, 30, id="with statistics"),
        pytest.param(at(14), receipt(at(13, 100)), None, None, None, id="no statistics after"),
        pytest.param(at(14, 130), receipt(at(13)), None, 130, None, id="no statistics before"),
        pytest.param(at(14), receipt(at(13, 100)), at(15, 500), 500, None, id="another sync meanwhile"),
        pytest.param(at(14, 5), receipt(at(13, 100)), None, 5, None, id="a total that shrank"),
        pytest.param(at(13, 100), receipt(at(13, 100), skipped=True), None, 100, 0, id="skipped"),
        pytest.param(at(14, 130), None, None, 130, None, id="no particular sync"),
    ],
)
def test_a_number_that_cannot_be_known_is_none(
    now: Integration, of: SyncReceipt | None, later: Integration | None, total: int | None, brought: int | None
) -> None:
    """Events are put down to a sync only if nothing else can have brought them."""
    extra = SyncReport(now, of, lambda _: later).extra
    assert (extra["events_total"], extra["events_brought"]) == (total, brought)


# What a task tells the asset events of its outlets, and OpenLineage


def sync(mode: str = WORKER, **arguments: Any) -> End:
    """Start a sync and wait for it."""
    return operate(mode, **{"wait_for_completion": True, **arguments})


@both_modes
def test_the_operator_tells_what_its_sync_has_brought(flokit: SimulatedFlokit, mode: str) -> None:
    """The outlet of its integration carries the sync, both times and the numbers; OpenLineage is told the same."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, events_total=1000, sync=Sync(duration=0.2, events=42))
    ended = sync(mode, outlets=OUTLETS)
    assert ended.state == "success", ended.message
    sync_id = flokit.syncs[0].sync_id
    told = {
        "integration_id": STRIPE,
        "sync_id": sync_id,
        "last_synced_at": ended.xcoms["integration"]["last_synced_at"],
        "previous_synced_at": BEFORE,
        "events_total": 1042,
        "events_brought": 42,
    }
    assert list(ended.extras.values()) == [{}, told, told, {}]
    facets = ended.task.get_openlineage_facets_on_complete(None)
    (dataset,) = facets.outputs
    assert (dataset.namespace, dataset.name) == ("flokit://flokit_default", STRIPE)
    assert dataset.outputFacets["outputStatistics"].rowCount == 42
    facet = facets.run_facets["flokit_sync"]
    assert (facet.outcome, facet.syncId, facet.eventsTotal, facet.eventsBrought) == ("succeeded", sync_id, 1042, 42)
    assert (facet.lastSyncedAt, facet.previousSyncedAt) == (ended.xcoms["integration"]["last_synced_at"], BEFORE)
    assert facets.run_facets["externalQuery"].externalQueryId == sync_id


def test_only_who_wants_the_numbers_pays_for_them(flokit: SimulatedFlokit) -> None:
    """Without an outlet the one single read is the baseline; OpenLineage, however often it asks, takes another."""
    flokit.add_integration(STRIPE)
    task = sync(outlets=[OTHER]).task
    for reads in (1, 2, 2):
        assert sum(r.path == SINGLE and r.method == "GET" for r in flokit.requests) == reads
        task.get_openlineage_facets_on_complete(None)


@both_modes
def test_numbers_that_cannot_be_read_fail_nothing(flokit: SimulatedFlokit, mode: str) -> None:
    """The sync is done; what else is known is told."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE)
    flokit.fail(500, method="GET", path=SINGLE, times=None, after=1)
    extra = sync(mode, outlets=OUTLETS).extras[URI]
    assert (extra["sync_id"], extra["previous_synced_at"]) == (flokit.syncs[0].sync_id, BEFORE)
    assert (extra["events_total"], extra["events_brought"]) == (None, None)


@pytest.mark.parametrize("waits", [True, False])
def test_a_sync_that_was_not_needed_has_brought_nothing(flokit: SimulatedFlokit, waits: bool) -> None:
    """OpenLineage is told so in any case, the asset's event if there would have been a wait; it takes no request."""
    flokit.add_integration(STRIPE, events_total=1000)
    ended = sync(outlets=OUTLETS, skip_if_synced_within=timedelta(hours=2), wait_for_completion=waits)
    facets = ended.task.get_openlineage_facets_on_complete(None).run_facets
    assert facets["flokit_sync"].outcome == "skipped"
    assert "externalQuery" not in facets
    assert len(flokit.requests) == 1
    numbers = [ended.extras[URI].get(name) for name in ("sync_id", "events_total", "events_brought")]
    assert numbers == ([None, 1000, 0] if waits else [None] * 3)


def test_what_came_of_a_sync_that_is_not_waited_for_is_not_known(flokit: SimulatedFlokit) -> None:
    """The asset's event tells nothing, OpenLineage that it was requested."""
    flokit.add_integration(STRIPE)
    ended = operate(outlets=OUTLETS)
    assert ended.extras[URI] == {}
    facets = ended.task.get_openlineage_facets_on_complete(None).run_facets
    assert facets["flokit_sync"].outcome == "requested"
    assert facets["externalQuery"].externalQueryId == flokit.syncs[0].sync_id


@both_modes
def test_a_failure_names_the_sync_and_makes_up_no_number(flokit: SimulatedFlokit, mode: str) -> None:
    """Airflow's OpenLineage provider adds the error."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0.1, error="bad signing secret"))
    facets = sync(mode, outlets=OUTLETS).task.get_openlineage_facets_on_failure(None)
    assert [(dataset.name, dataset.outputFacets) for dataset in facets.outputs] == [(STRIPE, {})]
    facet = facets.run_facets["flokit_sync"]
    assert (facet.outcome, facet.syncId) == ("failed", flokit.syncs[0].sync_id)


@pytest.mark.parametrize(("integration_id", "names"), [("int_unknown", ["int_unknown"]), ("{{ unrendered }}", [])])
def test_a_task_that_ends_before_it_begins(flokit: SimulatedFlokit, integration_id: str, names: list[str]) -> None:
    """What is known is told; a wrong argument does not break the lineage."""
    assert flokit.integrations == []
    facets = operate(integration_id=integration_id).task.get_openlineage_facets_on_failure(None)
    assert [dataset.name for dataset in facets.outputs] == names
    assert facets.run_facets["flokit_sync"].outcome == "failed"


@pytest.mark.parametrize("mode", [WORKER, RESCHEDULE, DEFERRED, ABANDONED])
def test_the_sensor_tells_of_its_integrations(flokit: SimulatedFlokit, mode: str) -> None:
    """Without a receipt there is no before; each integration's outlet carries its own state and total."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, events_total=1000)
    flokit.add_integration(ADJUST, type="adjust", last_synced_at=None, events_total=7)
    # It is not ready at the first look, so that each mode comes to its own end.
    flokit.script(STRIPE, [{"status": "syncing"}, {"status": "connected"}])
    ended = sense(mode, integration_id=[STRIPE, ADJUST], outlets=OUTLETS)
    assert ended.state == "success", ended.message
    of_stripe, *_, of_adjust = filter(None, ended.extras.values())
    assert of_stripe == {
        "integration_id": STRIPE,
        "sync_id": None,
        "last_synced_at": BEFORE,
        "previous_synced_at": None,
        "events_total": 1000,
        "events_brought": None,
    }
    assert (of_adjust["last_synced_at"], of_adjust["events_total"]) == (None, 7)


@both_modes
def test_the_sensor_with_a_receipt_tells_of_that_sync(flokit: SimulatedFlokit, mode: str) -> None:
    """The receipt holds the state before, so the two-task form tells the same as the operator alone."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, events_total=1000, sync=Sync(duration=0.2, events=42))
    receipt = operate().value
    extra = sense(mode, receipt=receipt, outlets=OUTLETS).extras[URI]
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


@pytest.mark.parametrize("kind", [FlokitHook, FlokitAsyncHook], ids=["sync", "async"])
def test_a_triggered_sync_is_an_output_and_a_read_integration_an_input(
    flokit: SimulatedFlokit, collector: Any, kind: Any
) -> None:
    """Whoever starts a sync changes the integration's data, whoever reads one goes by it; a refused sync is nothing."""

    def call(name: str) -> None:
        result = getattr(kind(), name)(STRIPE)
        if kind is FlokitAsyncHook:
            asyncio.run(result)

    flokit.add_integration(STRIPE)
    flokit.connect(api_key=flokit.read_only_key)
    with pytest.raises(FlokitPermissionError):
        call("trigger_sync")
    assert not collector.has_collected
    flokit.connect()
    call("get_integration")
    assert [each.asset.uri for each in collector.collected_assets.inputs] == [URI]
    assert collector.collected_assets.outputs == []
    call("trigger_sync")
    assert [each.asset.uri for each in collector.collected_assets.outputs] == [URI]


@pytest.mark.parametrize("kind", [FlokitHook, FlokitAsyncHook], ids=["sync", "async"])
def test_an_integration_that_one_hook_reads_twice_is_one_input(
    flokit: SimulatedFlokit, collector: Any, kind: Any
) -> None:
    """Airflow counts the calls of a hook, and tells the uses of two hooks apart."""
    flokit.add_integration(STRIPE)
    hook = kind()
    for _ in range(2):
        result = hook.get_integration(STRIPE)
        if kind is FlokitAsyncHook:
            asyncio.run(result)
    assert [each.count for each in collector.collected_assets.inputs] == [2]
