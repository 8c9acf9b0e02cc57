"""A whole Airflow, logging all it can, runs tasks that succeed and fail; then every file is searched for the key."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest

from airflow_provider_flokit.simulator import Fault, Simulator, Sync
from tests.leaks import forms_of
from tests.system.local_airflow import LocalAirflow

pytestmark = pytest.mark.system

KEY = "fk_rw_S3cr3t+Tok/en=&%41~Zq9"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the tasks, stop Airflow, and return its home."""
    scratch = tmp_path_factory.mktemp("key")
    echo = json.dumps({"message": f"Bearer {KEY} and {quote(KEY, safe='')} are odd"}).encode()
    with Simulator(api_key=KEY, sync=Sync(start_delay=0.5, duration=1)) as simulator:
        for mode in ("worker", "deferred"):
            simulator.add_integration(f"int_well_{mode}")
            simulator.add_integration(f"int_fails_{mode}", sync=Sync(duration=1, error=f"token {KEY} expired"))
            simulator.add_integration(f"int_echo_{mode}")
        simulator.add_integration("int_ready")
        simulator.add_integration("int_broken", status="error", error_message=f"Bearer {KEY}")
        simulator.add_integration("int_busy", status="syncing")
        simulator.fail(Fault.answer(418, echo), path="/v1/integrations/int_echo*", times=None)
        # All that is transient goes wrong as well, now and then.
        for number, fault in enumerate([Fault.answer(503, echo), Fault.drop(), Fault.answer(200, "html")]):
            simulator.fail(fault, method="GET", path="/v1/integrations", after=3 * number)
        env = {
            "AIRFLOW_CONN_FLOKIT_DEFAULT": simulator.connection_uri(),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        }
        with LocalAirflow(scratch / "airflow", Path(__file__).parent / "key_dags", env) as airflow:
            airflow.wait_until_ready()
            airflow.unpause("key_hunt")
            run_id = airflow.trigger("key_hunt")
            airflow.wait_for_run("key_hunt", run_id, timeout=600)
            states = airflow.task_states("key_hunt", run_id)
    assert {state for (name, _), state in states.items() if "well" in name} == {"success"}, states
    assert {state for (name, _), state in states.items() if "well" not in name} == {"failed"}, states
    return scratch / "airflow"


def test_no_file_that_airflow_wrote_holds_the_key(home: Path) -> None:
    """Neither logs (worker, triggerer, scheduler, DAG processor, API server) nor the database file, in any form."""
    forms = {form.encode() for form in forms_of(KEY)}
    files = [path for path in home.rglob("*") if path.is_file()]
    logs = {path.name for path in files if path.suffix == ".log"}
    assert {"scheduler.log", "triggerer.log"} <= logs
    assert any("***" in path.read_text(errors="replace") for path in files if path.suffix == ".log")
    leaks = [(str(path), form) for path in files for form in forms if form in path.read_bytes()]
    assert leaks == []


def test_no_row_of_the_database_holds_the_key(home: Path) -> None:
    """XComs, rendered fields, serialised DAGs, triggers, task states and all other tables: read, and searched again."""
    searched = set()
    with contextlib.closing(sqlite3.connect(home / "airflow.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - names from the database itself
                text = repr(row)
                searched.add(table)
                assert [form for form in forms_of(KEY) if form in text] == [], table
    assert {"xcom", "serialized_dag", "rendered_task_instance_fields", "task_instance"} <= searched
