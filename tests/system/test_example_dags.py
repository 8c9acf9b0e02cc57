"""Every example DAG runs on a real scheduler and triggerer, against the simulator, and ends as it promises."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_flokit.simulator import Simulator, Sync
from tests.system.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

EXAMPLE_DAGS = Path(__file__).parents[2] / "example_dags"
REVENUECAT, APPSFLYER, STRIPE = "int_01hx4j7revenuecat", "int_01hx4j7appsflyer", "int_01hx4j7stripe"
FAILING = "int_01hx4j7failing"
REASON = "Webhook signature verification failed"


class Stage:
    """A simulator, an Airflow and a warehouse."""

    def __init__(self, simulator: Simulator, airflow: LocalAirflow, warehouse: Path) -> None:
        self.simulator = simulator
        self.airflow = airflow
        self.warehouse = warehouse
        self.runs: dict[str, str] = {}

    def loaded(self, table: str) -> set[str]:
        """Return the integrations that were loaded into a table of the warehouse."""
        with contextlib.closing(sqlite3.connect(self.warehouse)) as warehouse:
            return {row[0] for row in warehouse.execute(f"SELECT integration_id FROM {table}")}  # noqa: S608


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Start everything once, and all DAGs at the same time: their waits share one poll."""
    scratch = tmp_path_factory.mktemp("examples")
    with Simulator(sync=Sync(start_delay=1, duration=2)) as simulator:
        for integration_id, kind in ((REVENUECAT, "revenuecat"), (APPSFLYER, "appsflyer"), (STRIPE, "stripe")):
            simulator.add_integration(integration_id, type=kind, schedule_every=15)
        simulator.add_integration(FAILING, type="adjust", sync=Sync(start_delay=1, duration=1, error=REASON))
        env = {
            "AIRFLOW_CONN_FLOKIT_DEFAULT": simulator.connection_uri(),
            "FLOKIT_DEMO_WAREHOUSE": str(scratch / "warehouse.db"),
        }
        with LocalAirflow(scratch / "airflow", EXAMPLE_DAGS, env) as airflow:
            airflow.wait_until_ready()
            stage = Stage(simulator, airflow, scratch / "warehouse.db")
            for dag_id in ("flokit_pre_warehouse_gate", "flokit_gate", "flokit_two_tasks", "flokit_mapped_sync"):
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
    ended = stage.airflow.wait_for_run(dag_id, stage.runs[dag_id], timeout=180)
    assert ended == "success", stage.airflow.task_states(dag_id, stage.runs[dag_id])
    assert integrations <= stage.loaded(table)


def test_a_failed_sync_holds_the_load_back_and_the_log_says_why(stage: Stage) -> None:
    """The load is upstream_failed; the sync task's log has FloKit's message, and no log the key."""
    run_id = stage.airflow.trigger("flokit_gate", conf={"integration_id": FAILING})
    assert stage.airflow.wait_for_run("flokit_gate", run_id, timeout=120) == "failed"
    states = stage.airflow.task_states("flokit_gate", run_id)
    assert states["sync_stripe", -1] == "failed"
    assert states["load_warehouse", -1] == "upstream_failed"
    log = stage.airflow.task_log("flokit_gate", run_id, "sync_stripe")
    assert REASON in log
    assert FAILING not in stage.loaded("integration_metrics")
    for path in (stage.airflow.home / "logs").rglob("*.log"):
        assert stage.simulator.api_key not in path.read_text(errors="replace"), path
