"""Reading a DAG file costs next to nothing: no HTTP library, no trigger, no I/O."""

from __future__ import annotations

import subprocess
import sys

from tests.checkout import EXAMPLE_DAGS, REPOSITORY

HEAVY = ("requests", "aiohttp", "airflow_provider_flokit.triggers", "airflow_provider_flokit.hooks.flokit")

# What Airflow itself loads is Airflow's: it is loaded first, and then taken out, so that only what the package asks
# for is in again. What a trigger's module loads shows that the check sees it.
LOADED = """
import sys
import airflow.models
from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator, conf
heavy = {heavy!r}
def found():
    return sorted(n for n in sys.modules if any(n == h or n.startswith(h + ".") for h in heavy))
for name in found():
    del sys.modules[name]
import airflow_provider_flokit.operators.flokit, airflow_provider_flokit.sensors.flokit
print(found())
import airflow_provider_flokit.triggers.flokit
print(found())
"""

# An audit hook sees what any library does, in C too.
FORBIDDEN = """
import sys
from datetime import UTC, datetime, timedelta
from airflow.models.dagbag import DagBag  # Airflow's own imports are none of ours
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

# So are those of a DAG with a cron schedule.
DAG("cron", schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC))
done = []

def watch(event, arguments):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.system", "sqlite3.connect"):
        done.append(event)
        raise RuntimeError("I/O while a DAG is parsed: " + event)

sys.addaudithook(watch)
with DAG("io", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    sync = FlokitTriggerSyncOperator(
        task_id="sync", integration_type="stripe", wait_for_completion=True, deferrable=True,
        skip_if_synced_within=timedelta(hours=1),
    )
    FlokitIntegrationSensor(task_id="wait", receipt=sync.output, deferrable=True)
    FlokitIntegrationSensor(task_id="start", integration_id="int_1", synced_after="{{ ds }}", start_from_trigger=True)
    FlokitTriggerSyncOperator.partial(task_id="mapped").expand(integration_id=["int_1", "int_2"])
    FlokitIntegrationSensor.partial(task_id="many").expand(integration_id=["int_1", "int_2"])
FlokitHook(), FlokitAsyncHook(), FlokitIntegrationTrigger(integration_id="int_1")
for path in sys.argv[1:]:
    exec(compile(open(path).read(), path, "exec"), {"__name__": "dag", "__file__": path})
print(done)
"""


def run(code: str, *arguments: str) -> list[str]:
    """Run code in a fresh interpreter and return the lines that it printed."""
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_operator_and_sensor_load_neither_an_http_library_nor_triggers() -> None:
    """Importing the operator or the sensor loads nothing that only a running task needs."""
    *_, of_tasks, of_triggers = run(LOADED.format(heavy=HEAVY))
    assert of_tasks == "[]"
    assert "airflow_provider_flokit.hooks.flokit" in of_triggers


def test_parsing_does_no_input_or_output() -> None:
    """Making operators, sensors, hooks and triggers, in every mode and in every example, opens no socket."""
    examples = sorted(str(path) for path in EXAMPLE_DAGS.glob("*.py"))
    assert examples
    assert run(FORBIDDEN, *examples)[-1] == "[]"
