"""
See a load wait for its data: ``make demo`` (``python -m tests.system.demo``).

It starts a FloKit simulator and a real Airflow in a scratch folder and runs the example DAG ``flokit_gate`` twice: with
a sync that succeeds, and with one that fails. The exit code is 0 only if both went as told. With ``FLOKIT_API_KEY``
set, it looks at that workspace instead and triggers nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from airflow_provider_flokit.simulator import Simulator, Sync
from tests.checkout import EXAMPLE_DAGS
from tests.system.local_airflow import LocalAirflow, LocalAirflowError
from tests.system.settings import AIRFLOW_VERSION

if TYPE_CHECKING:
    from tests.system.runs import Run

SYNC, LOAD = "sync_stripe", "load_warehouse"
INTEGRATION = "int_01hx4j7stripe"
REASON = "Webhook signature verification failed — check your signing secret"
IN_AIRFLOW = {
    "deferred": ("waits in the triggerer and holds no worker", "yellow"),
    "running": ("runs", ""),
    "success": ("has succeeded", "green"),
    "failed": ("has failed", "red"),
    "upstream_failed": ("is held back: it does not run", "red"),
}

console = Console(highlight=False, soft_wrap=True)


class Gate:
    """The example DAG between a simulator and a warehouse; it tells what happens as it happens."""

    def __init__(self, simulator: Simulator, airflow: LocalAirflow, warehouse: Path) -> None:
        self.simulator = simulator
        self.airflow = airflow
        self.warehouse = warehouse
        self.started = time.monotonic()

    def tell(self, who: str, what: str, style: str = "") -> None:
        """Print one event."""
        console.print(f"{time.monotonic() - self.started:6.1f} s  {who:<11}{what}", style=style, markup=False)

    def run(self, title: str) -> Run:
        """Run the DAG once to its end, telling each change."""
        console.print(f"\n{title}", style="bold")
        self.started = time.monotonic()
        told: dict[str, str | None] = {}
        run = self.airflow.trigger("flokit_gate")

        def ended() -> bool:
            # Read before the rest, so that nothing that happened before the end goes untold.
            is_over = run.state() in {"success", "failed"}
            if (now := self.at_flokit()) != told.get("FloKit"):
                told["FloKit"] = now
                self.tell("FloKit", now, "cyan")
            for (task_id, _), state in run.tasks().items():
                if state in IN_AIRFLOW and state != told.get(task_id):
                    told[task_id] = state
                    what, style = IN_AIRFLOW[state]
                    self.tell("Airflow", f"{task_id} {what}", style)
            return is_over

        self.airflow.wait_for(ended, "the run has ended", run.tasks)
        return run

    def at_flokit(self) -> str:
        """Return how FloKit shows the integration."""
        state = self.simulator.integration(INTEGRATION)
        what = f"in error: {state.error_message}" if state.status == "error" else state.status
        return f"{state.id} is {what} (last synced {str(state.last_synced_at)[:19]})"

    def rows(self) -> list[tuple[str, str, str, object]]:
        """Return what is in the warehouse."""
        with contextlib.closing(sqlite3.connect(self.warehouse)) as warehouse:
            return warehouse.execute("SELECT * FROM integration_metrics ORDER BY synced_at, metric").fetchall()

    def data_arrives(self) -> None:
        """Tell of a sync that succeeds: the load waits for it, then runs."""
        run = self.run("1. The load waits until the data has arrived")
        expect(run.state() == "success", f"the run succeeds: {run.tasks()}")
        rows, synced_at = self.rows(), self.simulator.syncs[-1].finished_at
        expect(rows[-1][1][:19] == f"{synced_at:%Y-%m-%dT%H:%M:%S}", f"the sync of {synced_at} is loaded: {rows}")
        self.tell("Warehouse", f"{len(rows)} rows loaded, of that sync:", "green")
        for _, _, metric, value in rows:
            console.print(f"{'':21}{metric:<20} {value}", markup=False)

    def sync_fails(self) -> None:
        """Tell of a sync that fails: the load is held back, and the log says why."""
        before = self.rows()
        self.simulator.plan(INTEGRATION, Sync(start_delay=2.0, duration=4.0, error=REASON))
        run = self.run("2. The next sync fails, and the load is held back")
        states = {task_id: state for (task_id, _), state in run.tasks().items()}
        expect(states == {SYNC: "failed", LOAD: "upstream_failed"}, f"the load is held back: {states}")
        expect(self.rows() == before, "the warehouse stays as it was")
        self.tell("Warehouse", f"{len(before)} rows, as before", "green")
        # From Airflow 3 on, the lines of a log are JSON.
        reasons = re.findall(rf'[^"\\\n]*{REASON}[^"\\\n]*', run.log(SYNC))
        expect(reasons, f"the log of {SYNC} says why:\n{run.log(SYNC)}")
        console.print(f"\nWhy, from the log of {SYNC}:", style="bold")
        console.print(f"  {reasons[-1].strip()}", style="red", markup=False)


def expect(as_told: object, what: str) -> None:
    """Raise an error unless it is as told."""
    if not as_told:
        raise LocalAirflowError(f"Not as told: {what}")


def demo() -> int:
    """Play the demo in a scratch folder; kept only if it did not go as told."""
    scratch = Path(tempfile.mkdtemp(prefix="flokit-demo-"))
    warehouse = scratch / "warehouse.db"
    version = ".".join(map(str, AIRFLOW_VERSION))
    console.print(f"FloKit and Airflow {version} start on this machine; everything is under {scratch}", style="bold")
    try:
        with Simulator(sync=Sync(start_delay=2.0, duration=6.0)) as simulator:
            simulator.add_integration(INTEGRATION, type="stripe")
            env = {"AIRFLOW_CONN_FLOKIT_DEFAULT": simulator.connection_uri(), "FLOKIT_DEMO_WAREHOUSE": str(warehouse)}
            with LocalAirflow(scratch / "airflow", EXAMPLE_DAGS, env) as airflow:
                airflow.wait_until_ready()
                gate = Gate(simulator, airflow, warehouse)
                gate.data_arrives()
                gate.sync_fails()
    except LocalAirflowError as error:
        console.print(f"\n{error}", style="bold red", markup=False)
        console.print(f"Logs and databases are kept in {scratch}")
        return 1
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(scratch)
    console.print("\nBoth went as told. Everything that was started is stopped, and its files are gone.", style="green")
    console.print(f"The DAG is {EXAMPLE_DAGS / 'flokit_gate.py'}")
    return 0


def look_at_workspace(api_key: str) -> int:
    """List the integrations of a real workspace; this only reads."""
    connection = {"conn_type": "flokit", "password": api_key, "host": os.environ.get("FLOKIT_HOST")}
    with tempfile.TemporaryDirectory(prefix="flokit-demo-") as scratch:
        os.environ |= {
            "AIRFLOW_HOME": scratch,
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY": "True",  # else Airflow 2 warns
            "AIRFLOW_CONN_FLOKIT_DEFAULT": json.dumps(connection),
        }
        # Only now: Airflow reads its settings when it is imported.
        from airflow_provider_flokit.errors import FlokitError
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        try:
            integrations = FlokitHook().list_integrations()
        except FlokitError as error:
            console.print(str(error), style="red", markup=False)
            return 1
    for each in integrations:
        style = {"connected": "green", "error": "red", "disconnected": "red"}.get(str(each.status), "yellow")
        synced = f"{each.last_synced_at:%Y-%m-%d %H:%M} UTC" if each.last_synced_at else "never"
        line = f"{each.id:<28} {each.type:<14} {each.status:<13} {synced:<21} {each.error_message or ''}"
        console.print(line, style=style, markup=False)
    console.print(f"{len(integrations)} integrations. Nothing was triggered; the README has a gate for one of them.")
    return 0


def main() -> int:
    """Play the demo, or look at a real workspace if its key is in the environment."""
    try:
        return look_at_workspace(key) if (key := os.environ.get("FLOKIT_API_KEY")) else demo()
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
