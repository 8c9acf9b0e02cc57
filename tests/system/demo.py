"""
See a load wait for its data: ``make demo`` (``python -m tests.system.demo``).

It starts a FloKit simulator and a real Airflow in a scratch folder and runs the example DAG ``flokit_gate``
twice: with a sync that succeeds, and with one that fails. It ends with exit code 0 only if both went as told,
and stops everything that it started. With ``FLOKIT_API_KEY`` set, it looks at that workspace instead and
triggers nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from airflow_provider_flokit.simulator import Simulator, Sync
from tests.checkout import EXAMPLE_DAGS
from tests.system.local_airflow import LocalAirflow, LocalAirflowError, exit_on_signal
from tests.system.settings import AIRFLOW_VERSION
from tests.system.workspace import look_at_workspace

DAG_ID, SYNC, LOAD = "flokit_gate", "sync_stripe", "load_warehouse"
INTEGRATION = "int_01hx4j7stripe"
REASON = "Webhook signature verification failed — check your signing secret"

console = Console(highlight=False, soft_wrap=True)
_STYLES = {"FloKit": "cyan", "Airflow": "blue", "Warehouse": "magenta"}


class NotAsToldError(Exception):
    """The story went another way than it should."""


class Gate:
    """
    The example DAG between a simulator and a warehouse; it tells what happens as it happens.

    :param simulator: The FloKit that the DAG talks to.
    :param airflow: The Airflow that runs it.
    :param warehouse: The SQLite file that it loads into.
    """

    def __init__(self, simulator: Simulator, airflow: LocalAirflow, warehouse: Path) -> None:
        self.simulator = simulator
        self.airflow = airflow
        self.warehouse = warehouse
        self.started = time.monotonic()

    def tell(self, who: str, what: str, style: str = "") -> None:
        """Print one event."""
        elapsed = f"{time.monotonic() - self.started:6.1f} s  "
        console.print(elapsed, style="dim", end="")
        console.print(f"{who:<11}", style=_STYLES[who], end="")
        console.print(what, style=style, markup=False)

    def run(self, title: str) -> tuple[str, list[str]]:
        """
        Run the DAG once, telling each change at FloKit and in Airflow.

        :return: the run's id, and every state that the sync task was in.
        """
        console.print(f"\n{title}", style="bold")
        self.started = time.monotonic()
        seen_at_flokit = self._at_flokit()
        self.tell("FloKit", seen_at_flokit)
        known_syncs = len(self.simulator.syncs)
        seen_states: dict[tuple[str, int], str | None] = {}
        sync_states = []
        run_id = self.airflow.trigger(DAG_ID)
        self.tell("Airflow", f"a run of {DAG_ID} starts")

        def ended() -> bool:
            nonlocal seen_at_flokit, known_syncs
            # Read before the rest, so that nothing that happened before the end goes untold.
            is_over = self.airflow.run_state(DAG_ID, run_id) in {"success", "failed"}
            for sync in self.simulator.syncs[known_syncs:]:
                known_syncs += 1
                self.tell("FloKit", f"a sync is requested: {sync.sync_id}")
            if (now := self._at_flokit()) != seen_at_flokit:
                seen_at_flokit = now
                self.tell("FloKit", now)
            for (task_id, map_index), state in self.airflow.task_states(DAG_ID, run_id).items():
                if state != seen_states.get((task_id, map_index)):
                    seen_states[task_id, map_index] = state
                    if task_id == SYNC and state:
                        sync_states.append(state)
                    self._tell_state(task_id, state)
            return is_over

        self.airflow.wait_for(
            ended, 120.0, f"the run of {DAG_ID} has ended", lambda: self.airflow.task_states(DAG_ID, run_id)
        )
        return run_id, sync_states

    def rows(self) -> list[tuple[str, str, str, object]]:
        """Return what is in the warehouse."""
        if not self.warehouse.exists():
            return []
        with contextlib.closing(sqlite3.connect(self.warehouse)) as warehouse:
            return warehouse.execute("SELECT * FROM integration_metrics ORDER BY synced_at, metric").fetchall()

    def _at_flokit(self) -> str:
        state = self.simulator.integration(INTEGRATION)
        what = f"in error: {state.error_message}" if state.status == "error" else state.status
        return f"{state.id} is {what} (last synced {_clock(state.last_synced_at)})"

    def _tell_state(self, task_id: str, state: str | None) -> None:
        if state == "deferred":
            running = self.airflow.query("SELECT count(*) FROM task_instance WHERE state = 'running'")[0][0]
            waits = f"it waits in the triggerer and holds no worker ({running} tasks are running)"
            self.tell("Airflow", f"{task_id} is deferred: {waits}", "yellow")
        elif state == "success":
            self.tell("Airflow", f"{task_id} has succeeded", "green")
        elif state == "failed":
            self.tell("Airflow", f"{task_id} has failed", "red")
        elif state == "upstream_failed":
            self.tell("Airflow", f"{task_id} is held back: it does not run", "red")
        elif state == "running":
            self.tell("Airflow", f"{task_id} runs")


def data_arrives(gate: Gate) -> None:
    """Tell of a sync that succeeds: the load waits for it, then runs."""
    _, states = gate.run("1. The load waits until the data has arrived")
    synced_at = gate.simulator.integration(INTEGRATION).last_synced_at
    rows = gate.rows()
    expect("deferred" in states, f"{SYNC} waits deferred (it was {states})")
    expect(states[-1] == "success", f"{SYNC} succeeds (it was {states})")
    expect(bool(rows), "the load writes rows")
    newest = rows[-1][1]
    expect(_clock(newest) == _clock(synced_at), f"the rows are those of the sync at {synced_at} (not {newest})")
    gate.tell("Warehouse", f"{len(rows)} rows loaded, of the sync that ended {_clock(newest)}:", "green")
    for _, _, metric, value in rows:
        console.print(f"{'':22}{metric:<20} {value}", markup=False)


def sync_fails(gate: Gate) -> None:
    """Tell of a sync that fails: the load is held back, and the log says why."""
    before = gate.rows()
    gate.simulator.plan(INTEGRATION, Sync(start_delay=2.0, duration=4.0, error=REASON))
    run_id, states = gate.run("2. The next sync fails, and the load is held back")
    ended_as = gate.airflow.task_states(DAG_ID, run_id)
    expect(states[-1] == "failed", f"{SYNC} fails (it was {states})")
    expect(ended_as.get((LOAD, -1)) == "upstream_failed", f"{LOAD} is held back (not {ended_as})")
    expect(gate.rows() == before, "the warehouse stays as it was")
    gate.tell("Warehouse", f"{len(before)} rows, as before", "green")
    log = gate.airflow.task_log(DAG_ID, run_id, SYNC)
    reasons = [line for line in log.splitlines() if REASON in line]
    expect(bool(reasons), f"the log of {SYNC} says why:\n{log}")
    console.print(f"\nWhy, from the log of {SYNC}:", style="bold")
    console.print(f"  {reasons[-1].strip()}", style="red", markup=False)


def expect(as_told: bool, what: str) -> None:
    """Raise NotAsToldError unless it is as told."""
    if not as_told:
        raise NotAsToldError(f"Not as told: {what}")


def play(scratch: Path) -> None:
    """Start a simulator and an Airflow, and tell both stories."""
    warehouse = scratch / "warehouse.db"
    with contextlib.ExitStack() as stack:
        simulator = stack.enter_context(Simulator(sync=Sync(start_delay=2.0, duration=6.0)))
        simulator.add_integration(INTEGRATION, type="stripe")
        console.print(f"A FloKit simulator listens on {simulator.url}")
        began = time.monotonic()
        console.print("Airflow starts, with a database of its own ... ", end="")
        env = {
            "AIRFLOW_CONN_FLOKIT_DEFAULT": simulator.connection_uri(),
            "FLOKIT_DEMO_WAREHOUSE": str(warehouse),
        }
        airflow = stack.enter_context(LocalAirflow(scratch / "airflow", EXAMPLE_DAGS, env))
        # Called first on the way out: an impatient second Ctrl-C must not leave processes behind.
        stack.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        airflow.wait_until_ready()
        airflow.unpause(DAG_ID)
        console.print(f"ready after {time.monotonic() - began:.0f} s")
        gate = Gate(simulator, airflow, warehouse)
        data_arrives(gate)
        sync_fails(gate)


def demo() -> int:
    """Play the demo in a scratch folder; kept only if it did not go as told."""
    scratch = Path(tempfile.mkdtemp(prefix="flokit-demo-"))
    version = ".".join(map(str, AIRFLOW_VERSION))
    console.print(f"FloKit and Airflow {version} on this machine; everything is under {scratch}", style="bold")
    try:
        play(scratch)
    except (NotAsToldError, LocalAirflowError, TimeoutError) as error:
        console.print(f"\n{error}", style="bold red", markup=False)
        console.print(f"Logs and databases are kept in {scratch}")
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped.")
        shutil.rmtree(scratch, ignore_errors=True)
        return 130
    except SystemExit:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(scratch)
    console.print("\nBoth went as told. Everything that was started is stopped, and its files are gone.", style="green")
    console.print(f"The DAG is {EXAMPLE_DAGS / 'flokit_gate.py'}")
    return 0


def _clock(at: object) -> str:
    """Return a time, or its ISO 8601 text, to the second."""
    return str(at).replace("T", " ")[:19] if at else "never"


def main() -> int:
    """Play the demo, or look at a real workspace if its key is in the environment."""
    signal.signal(signal.SIGTERM, exit_on_signal)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if started with Ctrl-C ignored
    if api_key := os.environ.get("FLOKIT_API_KEY"):
        return look_at_workspace(console, api_key, os.environ.get("FLOKIT_HOST"))
    return demo()


if __name__ == "__main__":
    sys.exit(main())
