"""Every example DAG runs on a real scheduler and triggerer, against the simulator, and ends as it promises."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.simulator import Simulator, Sync
from tests.checkout import EXAMPLE_DAGS
from tests.system.local_airflow import LocalAirflow
from tests.system.settings import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.runs import Run

pytestmark = pytest.mark.system

REVENUECAT, APPSFLYER, STRIPE = "int_01hx4j7revenuecat", "int_01hx4j7appsflyer", "int_01hx4j7stripe"
FAILING, ADAPTY = "int_01hx4j7failing", "int_01hx4j7adapty"
REASON = "Webhook signature verification failed"
TRIGGERED = (
    "flokit_pre_warehouse_gate",
    "flokit_gate",
    "flokit_two_tasks",
    "flokit_mapped_sync",
    "flokit_asset_producer",
)
WATCHED = ("flokit_watched_asset", "flokit_all_sources") if AIRFLOW_3 else ()
"""DAGs that asset watchers start; Airflow 2 has none."""


class Stage:
    """A simulator, an Airflow and a warehouse, all of them in one folder."""

    def __init__(self, simulator: Simulator, airflow: LocalAirflow, folder: Path) -> None:
        self.simulator = simulator
        self.airflow = airflow
        self.folder = folder
        for dag_id in ("flokit_asset_consumer", *WATCHED):
            airflow.unpause(dag_id)
        self.runs = {dag_id: airflow.trigger(dag_id) for dag_id in TRIGGERED}

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """Return the rows of a table of the warehouse; the first column is the integration."""
        with contextlib.closing(sqlite3.connect(self.folder / "warehouse.db")) as warehouse:
            return warehouse.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608

    def first_success(self, dag_id: str) -> Run:
        """Wait until a run that an asset started has succeeded, and return it."""
        runs = self.airflow.wait_for(
            lambda: [run for run in self.airflow.runs(dag_id) if run.state() == "success"], f"{dag_id} has succeeded"
        )
        return runs[0]

    def lineage(self) -> list[dict[str, Any]]:
        """Return what OpenLineage was told."""
        written = "".join(path.read_text() for path in self.folder.glob("lineage*"))
        return [json.loads(line) for line in written.splitlines(keepends=True) if line.endswith("\n")]

    def told_openlineage(self, job: str, kind: str, sync_id: str) -> dict[str, Any]:
        """Wait until OpenLineage was told of a job's COMPLETE or FAIL, and of its sync, and return the event."""

        def found() -> list[dict[str, Any]]:
            events = [each for each in self.lineage() if (each["job"]["name"], each["eventType"]) == (job, kind)]
            return [each for each in events if each["run"]["facets"].get("flokit_sync", {}).get("syncId") == sync_id]

        return self.airflow.wait_for(found, f"OpenLineage has the {kind} of {job} for {sync_id}")[0]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Start everything once, and all DAGs at the same time: their waits share one poll."""
    folder = tmp_path_factory.mktemp("examples")
    with Simulator(sync=Sync(start_delay=1, duration=2)) as simulator:
        for integration_id, kind in ((REVENUECAT, "revenuecat"), (APPSFLYER, "appsflyer"), (STRIPE, "stripe")):
            simulator.add_integration(integration_id, type=kind, schedule_every=15)
        simulator.add_integration(ADAPTY, type="adapty", sync=Sync(start_delay=1, duration=2, events=42))
        simulator.add_integration(FAILING, type="adjust", sync=Sync(start_delay=1, duration=1, error=REASON))
        transport = {"type": "file", "log_file_path": str(folder / "lineage.jsonl"), "append": True}
        env = {
            "AIRFLOW_CONN_FLOKIT_DEFAULT": simulator.connection_uri(),
            "FLOKIT_DEMO_WAREHOUSE": str(folder / "warehouse.db"),
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            # Else Python keeps most of them to itself.
            "PYTHONWARNINGS": "always::DeprecationWarning,always::FutureWarning",
        }
        with LocalAirflow(folder / "airflow", EXAMPLE_DAGS, env) as airflow:
            airflow.wait_until_ready()
            yield Stage(simulator, airflow, folder)


@pytest.mark.parametrize(
    ("dag_id", "table", "integrations"),
    [
        ("flokit_gate", "integration_metrics", {STRIPE}),
        ("flokit_two_tasks", "loads", {STRIPE}),
        ("flokit_mapped_sync", "loads", {REVENUECAT, APPSFLYER, STRIPE}),
        ("flokit_pre_warehouse_gate", "loads", {REVENUECAT, APPSFLYER, STRIPE}),
    ],
)
def test_the_load_runs_once_the_data_is_there(stage: Stage, dag_id: str, table: str, integrations: set[str]) -> None:
    """The run succeeds, and the warehouse holds what the gate let through."""
    run = stage.runs[dag_id]
    assert run.wait() == "success", run.tasks()
    assert integrations <= {row[0] for row in stage.rows(table)}


def test_mapped_tasks_are_called_by_their_integration(stage: Stage) -> None:
    """The UI shows each instance of the mapped tasks by the id of its integration."""
    run = stage.runs["flokit_mapped_sync"]
    run.wait()
    rows = run.query("task_id, rendered_map_index", "task_instance")
    for task_id in ("sync", "synced"):
        names = {row["rendered_map_index"] for row in rows if row["task_id"] == task_id}
        assert names == {REVENUECAT, APPSFLYER, STRIPE}


def test_a_failed_sync_holds_the_load_back_and_tells_why(stage: Stage) -> None:
    """The load is upstream_failed; log and OpenLineage have FloKit's message, and neither has the key."""
    run = stage.airflow.trigger("flokit_gate", {"integration_id": FAILING})
    assert run.wait() == "failed"
    assert run.tasks()["sync_stripe", -1] == "failed"
    assert run.tasks()["load_warehouse", -1] == "upstream_failed"
    assert REASON in run.log("sync_stripe")
    assert FAILING not in {row[0] for row in stage.rows("integration_metrics")}
    (sync,) = [sync for sync in stage.simulator.syncs if sync.integration_id == FAILING]
    event = stage.told_openlineage("flokit_gate.sync_stripe", "FAIL", sync.sync_id)
    assert event["outputs"][0]["name"] == FAILING
    assert event["run"]["facets"]["flokit_sync"]["outcome"] == "failed"
    assert REASON in event["run"]["facets"]["errorMessage"]["message"]
    assert stage.simulator.api_key not in json.dumps(stage.lineage())


def test_the_sync_of_one_dag_starts_the_other(stage: Stage) -> None:
    """The outlet's event joins producer and consumer, and tells of the very sync, with the events that it brought."""
    producer = stage.runs["flokit_asset_producer"]
    assert producer.wait() == "success"
    stage.first_success("flokit_asset_consumer")
    assert stage.rows("consumed") == [(ADAPTY, producer.xcom("sync_adapty")["sync_id"], 42)]


def test_openlineage_hears_of_the_sync(stage: Stage) -> None:
    """Airflow's real OpenLineage provider writes what the operator tells it: dataset, numbers, sync and outcome."""
    run = stage.runs["flokit_asset_producer"]
    assert run.wait() == "success"
    sync_id = run.xcom("sync_adapty")["sync_id"]
    event = stage.told_openlineage("flokit_asset_producer.sync_adapty", "COMPLETE", sync_id)
    (dataset,) = event["outputs"]
    assert (dataset["namespace"], dataset["name"]) == ("flokit://flokit_default", ADAPTY)
    facets = event["run"]["facets"]
    assert facets["externalQuery"]["externalQueryId"] == sync_id
    told = facets["flokit_sync"]
    assert told["outcome"] == "succeeded"
    assert told["lastSyncedAt"] == run.xcom("sync_adapty", "integration")["last_synced_at"]
    assert (told["eventsBrought"], dataset["outputFacets"]["outputStatistics"]["rowCount"]) == (42, 42)


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers; there these examples define no DAG")
@pytest.mark.parametrize(
    ("dag_id", "table", "integrations"),
    [
        ("flokit_watched_asset", "watched_loads", {STRIPE}),
        ("flokit_all_sources", "all_sources_loads", {REVENUECAT, APPSFLYER, STRIPE}),
    ],
)
def test_flokits_own_sync_starts_the_dag(stage: Stage, dag_id: str, table: str, integrations: set[str]) -> None:
    """Nobody triggers the run: the watcher's event does, and tells what has synced."""
    assert stage.first_success(dag_id).run_id.startswith("asset_triggered__")
    assert {row[0] for row in stage.rows(table)} == integrations


def test_no_log_warns_of_this_package_or_shows_the_key(stage: Stage) -> None:
    """No component or task logs a warning of this package or its DAGs, an import error, or the API key."""
    for run in stage.runs.values():
        run.wait()
    assert stage.airflow.query("SELECT filename FROM import_error") == []
    paths = list((stage.airflow.home / "logs").rglob("*.log"))
    assert {f"{name}.log" for name in stage.airflow.components} <= {path.name for path in paths}
    lines = [line for path in paths for line in path.read_text(errors="replace").splitlines()]
    named = [line for line in lines if re.search("airflow[_-]provider[_-]flokit|example_dags/", line)]
    assert [line for line in named if re.search(r"\wWarning\b|(?i:warning).*providers_manager", line)] == []
    assert [line for line in lines if stage.simulator.api_key in line] == []
