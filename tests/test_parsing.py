"""Reading a DAG file costs next to nothing and warns of nothing: no HTTP library, no trigger, no I/O."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.checkout import EXAMPLE_DAGS, REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = sorted(map(str, EXAMPLE_DAGS.glob("*.py")))

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


# What is for a newer Airflow cannot be imported on an older one.
EVERYTHING = """
import importlib, pkgutil, runpy, sys, warnings
from pathlib import Path
import airflow.settings
import airflow_provider_flokit as ours

warnings.simplefilter("always")  # Airflow has filters of its own
for module in pkgutil.walk_packages(ours.__path__, "airflow_provider_flokit."):
    try:
        module.name.endswith("__main__") or importlib.import_module(module.name)
    except ModuleNotFoundError as missing:
        if missing.name.startswith(ours.__name__):
            raise
from airflow.providers_manager import ProvidersManager
assert "flokit" in ProvidersManager().hooks
ProvidersManager().connection_form_widgets, ProvidersManager().field_behaviours
for path in sys.argv[1:]:
    runpy.run_path(path)
"""


def run(code: str, *arguments: str) -> list[str]:
    """Run code in a fresh interpreter and return the lines that it printed, its errors and warnings first."""
    command, env = [sys.executable, "-c", code, *arguments], {**os.environ, "COLUMNS": "1000"}
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return (done.stderr + done.stdout).splitlines()


def test_operator_and_sensor_load_neither_an_http_library_nor_triggers() -> None:
    """Importing the operator or the sensor loads nothing that only a running task needs."""
    *_, of_tasks, of_triggers = run(LOADED.format(heavy=HEAVY))
    assert of_tasks == "[]"
    assert "airflow_provider_flokit.hooks.flokit" in of_triggers


def test_metadata_costs_nothing() -> None:
    """Reading the metadata imports neither Airflow nor an HTTP library."""
    heavy = "{'airflow', 'requests', 'aiohttp', 'urllib3'} & set(sys.modules)"
    assert run(f"import sys, airflow_provider_flokit as p; p.get_provider_info(); print({heavy})") == ["set()"]


def test_parsing_does_no_input_or_output() -> None:
    """Making operators, sensors, hooks and triggers, in every mode and in every example, opens no socket."""
    assert EXAMPLES
    assert run(FORBIDDEN, *EXAMPLES)[-1] == "[]"


def test_nothing_of_ours_is_warned_of(tmp_path: Path) -> None:
    """Every module, the provider's discovery and every example DAG; a DAG here that warns shows that it is seen."""
    dag = tmp_path / "dag.py"
    dag.write_text("import warnings\nwarnings.warn('Moved to airflow.sdk', DeprecationWarning)\n")
    ours = re.compile(f"airflow[_-]provider[_-]flokit|{EXAMPLE_DAGS}|{dag}")
    told = [line for line in run(EVERYTHING, *EXAMPLES, str(dag)) if ours.search(line) and "warning" in line.lower()]
    assert ["Moved to airflow.sdk" in line for line in told] == [True], told
