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

pytestmark = pytest.mark.system

REVENUECAT, APPSFLYER, STRIPE = "int_01hx4j7revenuecat", "int_01hx4j7appsflyer", "int_01hx4j7stripe"
FAILING, ADAPTY = "int_01hx4j7failing", "int_01hx4j7adapty"
REASON = "Webhook signature verification failed"
WATCHED = ("flokit_watched_asset", "flokit_all_sources") if AIRFLOW_3 else ()
"""DAGs that asset watchers start; Airflow 2 has none."""


class Stage:
    """A simulator, an Airflow and a warehouse."""

    def __init__(self, simulator: Simulator, airflow: LocalAirflow, warehouse: Path) -> None:
        self.simulator = simulator
        self.airflow = airflow
        self.warehouse = warehouse
        self.runs: dict[str, str] = {}

    def loaded(self, table: str) -> set[str]:
        """Return the integrations that were loaded into a table of the warehouse."""
        return {row[0] for row in self.rows(table)}

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """Return the rows of a table of the warehouse."""
        with contextlib.closing(sqlite3.connect(self.warehouse)) as warehouse:
            return warehouse.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608

    def first_success(self, dag_id: str) -> str:
        """Wait until a run that an asset started has succeeded, and return its id."""

        def found() -> str | None:
            rows = self.airflow.query(
                "SELECT run_id FROM dag_run WHERE dag_id = ? AND state = 'success' ORDER BY id", (dag_id,)
            )
            return str(rows[0]["run_id"]) if rows else None

        return self.airflow.wait_for(
            found,
            180,
            f"{dag_id} was started and has succeeded",
            lambda: [
                dict(row) for row in self.airflow.query("SELECT run_id, state FROM dag_run WHERE dag_id = ?", (dag_id,))
            ],
        )

    def told_openlineage(self, job: str, kind: str, sync_id: str) -> dict[str, Any]:
        """Wait until OpenLineage was told of a job's COMPLETE or FAIL, and of its sync, and return the event."""

        def found() -> list[dict[str, Any]]:
            events = (each for each in self.lineage if (each["job"]["name"], each["eventType"]) == (job, kind))
            return [each for each in events if each["run"]["facets"].get("flokit_sync", {}).get("syncId") == sync_id]

        what = f"OpenLineage has the {kind} of {job} for {sync_id}"
        return self.airflow.wait_for(found, 120, what, lambda: len(self.lineage))[0]

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """What OpenLineage was told."""
        written = "".join(path.read_text() for path in self.warehouse.parent.glob("lineage*"))
        return [json.loads(line) for line in written.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Start everything once, and all DAGs at the same time: their waits share one poll."""
    scratch = tmp_path_factory.mktemp("examples")
    with Simulator(sync=Sync(start_delay=1, duration=2)) as simulator:
        for integration_id, kind in ((REVENUECAT, "revenuecat"), (APPSFLYER, "appsflyer"), (STRIPE, "stripe")):
            simulator.add_integration(integration_id, type=kind, schedule_every=15)
        simulator.add_integration(ADAPTY, type="adapty", sync=Sync(start_delay=1, duration=2, events=42))
        simulator.add_integration(FAILING, type="adjust", sync=Sync(start_delay=1, duration=1, error=REASON))
        env = {
            "AIRFLOW_CONN_FLOKIT_DEFAULT": simulator.connection_uri(),
            "FLOKIT_DEMO_WAREHOUSE": str(scratch / "warehouse.db"),
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(scratch / "lineage.jsonl"), "append": True}
            ),
            # Else Python keeps most of them to itself.
            "PYTHONWARNINGS": "always::DeprecationWarning,always::FutureWarning",
        }
        with LocalAirflow(scratch / "airflow", EXAMPLE_DAGS, env) as airflow:
            airflow.wait_until_ready()
            stage = Stage(simulator, airflow, scratch / "warehouse.db")
            for dag_id in ("flokit_asset_consumer", *WATCHED):
                airflow.unpause(dag_id)
            for dag_id in (
                "flokit_pre_warehouse_gate",
                "flokit_gate",
                "flokit_two_tasks",
                "flokit_mapped_sync",
                "flokit_asset_producer",
            ):
                airflow.unpause(dag_id)
                stage.runs[dag_id] = airflow.trigger(dag_id)
            yield stage


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
    ended = stage.airflow.wait_for_run(dag_id, stage.runs[dag_id], timeout=300)
    assert ended == "success", stage.airflow.task_states(dag_id, stage.runs[dag_id])
    assert integrations <= stage.loaded(table)


def test_mapped_tasks_are_called_by_their_integration(stage: Stage) -> None:
    """The UI shows each instance of the mapped tasks by the id of its integration."""
    run_id = stage.runs["flokit_mapped_sync"]
    assert stage.airflow.wait_for_run("flokit_mapped_sync", run_id, timeout=300) == "success"
    for task_id in ("sync", "synced"):
        rows = stage.airflow.query(
            "SELECT rendered_map_index FROM task_instance WHERE dag_id = 'flokit_mapped_sync' AND task_id = ?",
            (task_id,),
        )
        assert {row["rendered_map_index"] for row in rows} == {REVENUECAT, APPSFLYER, STRIPE}


def test_a_failed_sync_holds_the_load_back_and_the_log_says_why(stage: Stage) -> None:
    """The load is upstream_failed; the sync task's log has FloKit's message, and no log the key."""
    run_id = stage.airflow.trigger("flokit_gate", conf={"integration_id": FAILING})
    assert stage.airflow.wait_for_run("flokit_gate", run_id, timeout=300) == "failed"
    states = stage.airflow.task_states("flokit_gate", run_id)
    assert states["sync_stripe", -1] == "failed"
    assert states["load_warehouse", -1] == "upstream_failed"
    log = stage.airflow.task_log("flokit_gate", run_id, "sync_stripe")
    assert REASON in log
    assert FAILING not in stage.loaded("integration_metrics")
    for path in (stage.airflow.home / "logs").rglob("*.log"):
        assert stage.simulator.api_key not in path.read_text(errors="replace"), path


def test_the_sync_of_one_dag_starts_the_other(stage: Stage) -> None:
    """The outlet's event joins producer and consumer, and tells of the very sync, with the events that it brought."""
    run_id = stage.runs["flokit_asset_producer"]
    assert stage.airflow.wait_for_run("flokit_asset_producer", run_id, timeout=300) == "success"
    stage.first_success("flokit_asset_consumer")
    sync_id = stage.airflow.xcom("flokit_asset_producer", run_id, "sync_adapty")["sync_id"]
    assert stage.rows("consumed") == [(ADAPTY, sync_id, 42)]


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
    run_id = stage.first_success(dag_id)
    assert run_id.startswith("asset_triggered__")
    assert stage.loaded(table) == integrations


def test_no_example_breaks_on_this_airflow(stage: Stage) -> None:
    """Every file is read without an error, also one that needs a newer Airflow."""
    assert [dict(row) for row in stage.airflow.query("SELECT filename, stacktrace FROM import_error")] == []


def test_openlineage_hears_of_the_sync(stage: Stage) -> None:
    """Airflow's real OpenLineage provider writes what the operator tells it: dataset, numbers, sync and outcome."""
    run_id = stage.runs["flokit_asset_producer"]
    assert stage.airflow.wait_for_run("flokit_asset_producer", run_id, timeout=300) == "success"
    sync_id = stage.airflow.xcom("flokit_asset_producer", run_id, "sync_adapty")["sync_id"]
    event = stage.told_openlineage("flokit_asset_producer.sync_adapty", "COMPLETE", sync_id)
    (dataset,) = event["outputs"]
    assert (dataset["namespace"], dataset["name"]) == ("flokit://flokit_default", ADAPTY)
    facets = event["run"]["facets"]
    assert facets["externalQuery"]["externalQueryId"] == sync_id
    told = facets["flokit_sync"]
    assert (told["outcome"], told["syncId"]) == ("succeeded", sync_id)
    state = stage.airflow.xcom("flokit_asset_producer", run_id, "sync_adapty", "integration")
    assert told["lastSyncedAt"] == state["last_synced_at"]
    assert (told["eventsBrought"], dataset["outputFacets"]["outputStatistics"]["rowCount"]) == (42, 42)


def test_openlineage_hears_of_the_failure(stage: Stage) -> None:
    """A failed sync is told with its error; the key is in no line."""
    before = {sync.sync_id for sync in stage.simulator.syncs if sync.integration_id == FAILING}
    # Another error than the one from before: a repeat of that one could pass unseen between two polls.
    stage.simulator.plan(FAILING, Sync(start_delay=1, duration=1, error=f"{REASON} again"))
    run_id = stage.airflow.trigger("flokit_gate", conf={"integration_id": FAILING})
    assert stage.airflow.wait_for_run("flokit_gate", run_id, timeout=300) == "failed"
    (sync_id,) = {sync.sync_id for sync in stage.simulator.syncs if sync.integration_id == FAILING} - before
    event = stage.told_openlineage("flokit_gate.sync_stripe", "FAIL", sync_id)
    assert event["outputs"][0]["name"] == FAILING
    assert event["run"]["facets"]["flokit_sync"]["outcome"] == "failed"
    assert f"{REASON} again" in event["run"]["facets"]["errorMessage"]["message"]
    assert stage.simulator.api_key not in json.dumps(stage.lineage)


def test_no_component_warns_of_this_package(stage: Stage) -> None:
    """In no log of a component or task does Python or Airflow's provider manager warn of this package or its DAGs."""
    for dag_id, run_id in stage.runs.items():
        stage.airflow.wait_for_run(dag_id, run_id, timeout=300)
    paths = list((stage.airflow.home / "logs").rglob("*.log"))
    assert {f"{name}.log" for name in stage.airflow.components} <= {path.name for path in paths}
    lines = [line for path in paths for line in path.read_text(errors="replace").splitlines()]
    named = [line for line in lines if re.search("airflow[_-]provider[_-]flokit|example_dags/", line)]
    assert [line for line in named if re.search(r"\wWarning\b|(?i:warning).*providers_manager", line)] == []
