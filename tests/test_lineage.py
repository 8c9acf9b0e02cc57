"""What hooks tell Airflow's lineage collector, and the operator OpenLineage, in both transports and every mode."""

from __future__ import annotations

import asyncio
import importlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_flokit.errors import FlokitPermissionError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.simulator import Sync
from tests.modes import DEFERRED, WORKER, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator import Simulator

STRIPE = "int_01hx4j7stripe"
URI = f"flokit://flokit_default/{STRIPE}"


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
    """Call a hook of either transport."""
    if kind == "worker":
        return start(FlokitHook())

    async def main() -> Any:
        return await start(FlokitAsyncHook())

    return asyncio.run(main())


@pytest.mark.parametrize("kind", ["worker", "triggerer"])
def test_a_triggered_sync_is_an_output(flokit: Simulator, collector: Any, kind: str) -> None:
    """Whoever starts a sync changes the integration's data."""
    flokit.add_integration(STRIPE)
    call(kind, lambda hook: hook.trigger_sync(STRIPE))
    found = collector.collected_assets
    assert [each.asset.uri for each in found.outputs] == [URI]
    assert found.inputs == []


@pytest.mark.parametrize("kind", ["worker", "triggerer"])
def test_a_read_integration_is_an_input(flokit: Simulator, collector: Any, kind: str) -> None:
    """Whoever reads an integration goes by it."""
    flokit.add_integration(STRIPE)
    call(kind, lambda hook: hook.get_integration(STRIPE))
    found = collector.collected_assets
    assert [each.asset.uri for each in found.inputs] == [URI]
    assert found.outputs == []


@pytest.mark.parametrize("kind", ["worker", "triggerer"])
def test_a_refused_sync_is_nothing(
    flokit: Simulator, collector: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What did not happen is not told."""
    flokit.add_integration(STRIPE)
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_json(flokit.read_only_key))
    with pytest.raises(FlokitPermissionError):
        call(kind, lambda hook: hook.trigger_sync(STRIPE))
    assert not collector.has_collected


# OpenLineage


def ended(mode: str, **arguments: Any) -> FlokitTriggerSyncOperator:
    """Run an operator and return it as it is when its task has ended, however it has."""
    made: list[FlokitTriggerSyncOperator] = []

    def make() -> FlokitTriggerSyncOperator:
        settings = {"integration_id": STRIPE, "wait_for_completion": True, "poll_interval": 0.05, **arguments}
        made.append(FlokitTriggerSyncOperator(task_id="sync", deferrable=mode == DEFERRED, **settings))
        return made[-1]

    run(make, mode)
    return made[-1]


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
def test_a_success_tells_what_it_brought(flokit: Simulator, mode: str) -> None:
    """The integration is the output dataset, with the number of events; the sync is named."""
    flokit.add_integration(STRIPE, events_total=1000, sync=Sync(duration=0.1, events=42))
    told = ended(mode).get_openlineage_facets_on_complete(None)
    (dataset,) = told.outputs
    assert (dataset.namespace, dataset.name) == ("flokit://flokit_default", STRIPE)
    assert dataset.outputFacets["outputStatistics"].rowCount == 42
    (started,) = flokit.syncs
    facet = told.run_facets["flokit_sync"]
    assert (facet.outcome, facet.syncId, facet.eventsTotal, facet.eventsBrought) == (
        "succeeded",
        started.sync_id,
        1042,
        42,
    )
    assert told.run_facets["externalQuery"].externalQueryId == started.sync_id
    assert "errorMessage" not in told.run_facets


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
def test_a_failure_tells_why(flokit: Simulator, mode: str) -> None:
    """The error is FloKit's own, and no number is made up."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0.1, error="bad signing secret"))
    told = ended(mode).get_openlineage_facets_on_failure(None)
    assert [dataset.name for dataset in told.outputs] == [STRIPE]
    assert told.outputs[0].outputFacets == {}
    assert "bad signing secret" in told.run_facets["errorMessage"].message
    assert told.run_facets["flokit_sync"].outcome == "failed"
    assert told.run_facets["flokit_sync"].syncId == flokit.syncs[0].sync_id


def test_statistics_are_read_once(flokit: Simulator) -> None:
    """Only if they are wanted: the operator itself asked for the baseline alone."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0.1))
    task = ended(WORKER)
    before = len(flokit.requests)
    task.get_openlineage_facets_on_complete(None)
    task.get_openlineage_facets_on_complete(None)
    assert len(flokit.requests) == before + 1


def test_a_sync_that_is_not_waited_for(flokit: Simulator) -> None:
    """It was requested; what came of it is not known."""
    flokit.add_integration(STRIPE)
    told = ended(WORKER, wait_for_completion=False).get_openlineage_facets_on_complete(None)
    assert told.run_facets["flokit_sync"].outcome == "requested"
    assert told.run_facets["externalQuery"].externalQueryId == flokit.syncs[0].sync_id


def test_a_skipped_sync_that_nobody_would_have_waited_for(flokit: Simulator) -> None:
    """Nothing was requested, and that is what is told."""
    flokit.add_integration(STRIPE)
    flokit.run_scheduled_sync(STRIPE, Sync(duration=0))
    task = ended(WORKER, wait_for_completion=False, skip_if_synced_within=timedelta(hours=1))
    assert task.get_openlineage_facets_on_complete(None).run_facets["flokit_sync"].outcome == "skipped"


def test_a_skipped_sync(flokit: Simulator) -> None:
    """No sync, no id, nothing brought."""
    flokit.add_integration(STRIPE)
    flokit.run_scheduled_sync(STRIPE, Sync(duration=0))
    told = ended(WORKER, skip_if_synced_within=timedelta(hours=1)).get_openlineage_facets_on_complete(None)
    assert told.run_facets["flokit_sync"].outcome == "skipped"
    assert told.outputs[0].outputFacets["outputStatistics"].rowCount == 0
    assert "externalQuery" not in told.run_facets


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"integration_id": "int_unknown"}, ["int_unknown"]),
        ({"integration_id": "{{ unrendered }}"}, []),
        ({"integration_id": None, "integration_type": "adjust"}, []),
    ],
    ids=repr,
)
def test_a_task_that_ends_before_it_begins(flokit: Simulator, arguments: dict[str, Any], names: list[str]) -> None:
    """What is known is told; a wrong argument does not break the lineage."""
    assert flokit.integrations == []
    told = ended(WORKER, **arguments).get_openlineage_facets_on_failure(None)
    assert [dataset.name for dataset in told.outputs] == names
    assert told.run_facets["flokit_sync"].outcome == "failed"
