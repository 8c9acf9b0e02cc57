"""A whole Airflow, logging all it can, runs tasks that succeed and fail; then everything is searched for the key."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest

from airflow_provider_flokit.simulator import Fault, Simulator, Sync
from tests.system.local_airflow import LocalAirflow

pytestmark = pytest.mark.system

KEY = "fk_rw_S3cr3t+Tok/en=&%41~Zq9"
FORMS = (KEY, quote(KEY, safe=""), KEY[:12])
"""Percent-encoded too, and its beginning, as a cut would leave it."""


def test_nothing_that_airflow_wrote_holds_the_key(tmp_path: Path) -> None:
    """
    Neither a file (logs of workers, triggerer, scheduler, DAG processor, API server) nor a row of the database.

    FloKit repeats the key wherever it can, and fails in every way that is transient, now and then.
    """
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
        for number, fault in enumerate([Fault.answer(503, echo), Fault.drop(), Fault.answer(200, "html")]):
            simulator.fail(fault, method="GET", path="/v1/integrations", after=3 * number)
        env = {
            "AIRFLOW_CONN_FLOKIT_DEFAULT": simulator.connection_uri(),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        }
        with LocalAirflow(tmp_path / "airflow", Path(__file__).parent / "key_dags", env) as airflow:
            airflow.wait_until_ready()
            run = airflow.trigger("key_hunt")
            run.wait()
            states = run.tasks()
    assert {state for (name, _), state in states.items() if "well" in name} == {"success"}, states
    assert {state for (name, _), state in states.items() if "well" not in name} == {"failed"}, states

    texts = {str(path): path.read_text(errors="replace") for path in airflow.home.rglob("*") if path.is_file()}
    assert any("***" in text for path, text in texts.items() if path.endswith(".log"))
    with contextlib.closing(sqlite3.connect(airflow.home / "airflow.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            texts[table] = repr(database.execute(f'SELECT * FROM "{table}"').fetchall())  # noqa: S608
    for table in ("xcom", "serialized_dag", "rendered_task_instance_fields", "task_instance"):
        assert len(texts[table]) > len("[]")
    assert [name for name, text in texts.items() if any(form in text for form in FORMS)] == []
