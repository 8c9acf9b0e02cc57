"""What production does to asset watchers; each sync of FloKit's own has to start exactly the right DAG exactly once."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.models import timestamp
from airflow_provider_flokit.simulator import Sync
from tests.system.chaos_cases import ERROR, case

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_flokit.simulator import SyncRun
    from tests.system.chaos_stage import HeldSimulator, Row, Stage

A, A_TWICE, B, B_FAILED = "chaos_watch_a", "chaos_watch_a_twice", "chaos_watch_b", "chaos_watch_b_failed"
INTERVAL = 2.0
"""Seconds between polls, as the DAGs say."""

OUTAGE = 25.0
"""Seconds; stands for five minutes: pauses grow to 30 s at most, so nothing changes after that."""

GRACE = 25.0
"""Seconds in which a triggerer that is asked to stop has to."""

QUIET = 5.0
"""Seconds in which a run that must not be would have begun."""


class Watching:
    """
    The watched DAGs, and which runs they must have had.

    :param stage: Everything that runs.
    :param row: Where to count.
    :param conn_id: The connection.
    :param dag_ids: The DAGs, one for each asset.
    """

    def __init__(self, stage: Stage, row: Row, conn_id: str, dag_ids: Iterable[str]) -> None:
        self.stage = stage
        self.row = row
        self.conn_id = conn_id
        self.simulator: HeldSimulator = stage.simulators[conn_id]
        self.wanted: dict[str, list[SyncRun]] = {dag_id: [] for dag_id in dag_ids}

    def begin(self, *integration_ids: str) -> None:
        """Start to watch: every watcher has saved where it begins."""
        for integration_id in integration_ids:
            self.simulator.add_integration(integration_id)
        before = self.saved()
        for dag_id in self.wanted:
            self.stage.unpause(dag_id)
        self.stage.until(lambda: self.saved() == before + len(self.wanted), 90, "all watchers have begun", self.saved)

    def triggers(self) -> int:
        """Return how many triggers Airflow has for the watchers."""
        return len(self.stage.airflow.query("SELECT 1 FROM trigger WHERE classpath LIKE '%FlokitSyncedTrigger'"))

    def saved(self) -> int:
        """Return how many watchers have saved what they have seen."""
        return len(self.stage.airflow.query("SELECT 1 FROM asset_state_store"))

    def runs(self, dag_id: str) -> list[str]:
        """Return the runs of a DAG in order."""
        rows = self.stage.airflow.query("SELECT run_id FROM dag_run WHERE dag_id = ? ORDER BY id", (dag_id,))
        return [row["run_id"] for row in rows]

    def sync(self, integration_id: str, *dag_ids: str, error: str | None = None) -> None:
        """Let FloKit sync an integration, which must start these DAGs."""
        self.simulator.run_scheduled_sync(integration_id, Sync(duration=0.5, error=error))
        self.stage.until(lambda: self.simulator.syncs[-1].finished_at is not None, 10, "FloKit has synced")
        for dag_id in dag_ids:
            self.wanted[dag_id].append(self.simulator.syncs[-1])

    def started(self) -> bool:
        """Whether every run that must be has begun in a worker."""
        states = {
            dag_id: [self.stage.airflow.task_states(dag_id, run).get(("told", -1)) for run in self.runs(dag_id)]
            for dag_id in self.wanted
        }
        return all(
            sum(state in ("running", "success") for state in states[dag_id]) >= len(syncs)
            for dag_id, syncs in self.wanted.items()
        )

    def confirmed(self) -> bool:
        """Whether all watchers of the integration remember its last sync, so that its event is not told again."""
        last = self.simulator.syncs[-1]
        rows = self.stage.airflow.query(
            "SELECT value FROM asset_state_store WHERE key LIKE ?", (f"%/{last.integration_id}",)
        )
        seen = timestamp(last.finished_at)
        return seen is not None and bool(rows) and all(seen in str(row["value"]) for row in rows)

    def settle(self, what: str) -> None:
        """Wait until every run that must be has begun, and see that no other does."""
        self.stage.until(
            self.started, 60, f"{what}: the right DAGs start", lambda: {d: self.runs(d) for d in self.wanted}
        )
        self.stage.idle(QUIET)
        for dag_id, syncs in self.wanted.items():
            count = len(self.runs(dag_id))
            self.row.expect(count == len(syncs), f"{what}: {dag_id} had {count} runs by then, not {len(syncs)}")
        self.stage.tell(f"{self.conn_id}: {what}: done")

    def judge(self) -> None:
        """See that each run was told of its very sync."""
        for dag_id, syncs in self.wanted.items():
            runs = self.runs(dag_id)
            for run_id in runs:
                self.stage.airflow.wait_for_run(dag_id, run_id, 60)
            told = [self.stage.airflow.xcom(dag_id, run_id, "told") for run_id in runs]
            for place, sync in enumerate(syncs):
                wrong = self._wrong(told[place], sync) if place < len(told) else ["it did not run"]
                self.row.waits += 1
                self.row.right += not wrong
                self.row.problems += [f"{dag_id}, run {place + 1}: {what}" for what in wrong]

    def _wrong(self, told: list[dict[str, Any]], sync: SyncRun) -> list[str]:
        if len(told) != 1:
            return [f"it was told of {len(told)} events: {told}"]
        event = told[0]
        if event["integration_id"] != sync.integration_id or event["integration"]["id"] != sync.integration_id:
            return [f"it was told of {event['integration_id']}, not of {sync.integration_id}"]
        if sync.error is not None:
            return [] if event["error_message"] == sync.error else [f"it was told of the error {event}"]
        if datetime.fromisoformat(event["last_synced_at"]) != sync.finished_at:
            return [f"it was told of {event['last_synced_at']}, not of {sync.finished_at}"]
        return []


@case(
    "watchers",
    "asset watchers: each sync starts the right DAG once",
    "triggerer (-9, -15), FloKit",
    act=6,
    since=(3, 3),
    because="before it, what happens while no triggerer runs is not seen",
)
def watchers(stage: Stage, row: Row) -> None:
    """Let syncs happen in quiet times, right before the triggerer's death, without one, in an outage and in a pause."""
    watching = Watching(stage, row, "chaos_watchers", (A, A_TWICE, B, B_FAILED))
    simulator = watching.simulator
    watching.begin("int_a", "int_b")

    asked, began = len(simulator.requests), time.monotonic()
    stage.idle(4 * INTERVAL)
    count, intervals = len(simulator.requests) - asked, (time.monotonic() - began) / INTERVAL
    most = stage.triggerers * (intervals + 1)
    row.expect(intervals - 2 <= count <= most, f"{count} requests in {intervals:.1f} intervals, not one each")
    stage.tell(f"chaos_watchers: {count} requests in {intervals:.1f} intervals, for {len(watching.wanted)} watchers")

    watching.sync("int_a", A, A_TWICE)
    watching.settle("a sync")

    watching.sync("int_b", B)
    stage.until(watching.started, 60, "the DAG has started")
    # Airflow confirms an event after a moment; a kill before repeats it, as docs/assets.md says.
    stage.until(watching.confirmed, 30, "the event is confirmed")
    stage.airflow.kill("triggerer")
    stage.tell("chaos_watchers: the triggerer is dead, right after an event")
    watching.sync("int_a", A, A_TWICE)
    watching.sync("int_b", B_FAILED, error=ERROR)
    stage.idle(3)
    stage.restart("triggerer")
    watching.settle("syncs before and after the triggerer's death")

    before = watching.triggers()
    stage.pause(B)
    simulator.outage()
    stage.tell(f"chaos_watchers: FloKit is down for {OUTAGE:g} s, and a DAG is paused")
    asked, began = len(simulator.requests), time.monotonic()
    stage.until(lambda: watching.triggers() == before - 1, 60, "the paused DAG's watcher is gone", watching.triggers)
    watching.sync("int_b")
    paused_meanwhile = simulator.syncs[-1]
    watching.sync("int_a", A, A_TWICE)
    stage.idle(max(OUTAGE - (time.monotonic() - began), 1.0))
    count = len(simulator.requests) - asked
    row.expect(1 <= count <= 12 * stage.triggerers, f"{count} requests while FloKit was down")
    row.expect(len(watching.runs(A)) == len(watching.wanted[A]) - 1, "a DAG has started while FloKit was down")
    simulator.clear_faults()
    watching.settle("an outage, and a sync while a DAG was paused")

    stage.airflow.kill("triggerer", signal.SIGTERM, timeout=GRACE)
    stage.unpause(B)
    stage.restart("triggerer")
    watching.wanted[B].append(paused_meanwhile)
    watching.settle("the DAG is unpaused, and a triggerer was asked to stop")
    watching.judge()
