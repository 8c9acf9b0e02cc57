"""What production does to asset watchers; each sync of FloKit's own has to start exactly the right DAG exactly once."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.models import timestamp
from airflow_provider_flokit.simulator import Sync
from tests.system.chaos_cases import case
from tests.system.chaos_stage import ERROR

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import SyncRun
    from tests.system.chaos_stage import Case, HeldSimulator

A, A_TWICE, B, B_FAILED = "chaos_watch_a", "chaos_watch_a_twice", "chaos_watch_b", "chaos_watch_b_failed"
INTERVAL = 2.0
"""Seconds between polls, as the DAGs say."""

OUTAGE = 25.0
"""Seconds; stands for five minutes: pauses grow to 30 s at most, so nothing changes after that."""

QUIET = 5.0
"""Seconds in which a run that must not be would have begun."""


class Polls:
    """The requests for the list from now on."""

    def __init__(self, case: Case, simulator: HeldSimulator) -> None:
        self.case, self.simulator = case, simulator
        self.asked, self.began = len(simulator.requests), time.monotonic()

    def count(self) -> int:
        """Return how many there were."""
        requests = self.simulator.requests[self.asked :]
        return sum(each.method == "GET" and each.integration_id is None for each in requests)

    def wait_for(self, count: int) -> None:
        """Wait for some."""
        self.case.airflow.wait_for(lambda: self.count() >= count, f"{count} polls")

    def judge(self, triggerers: int, when: str) -> None:
        """See that each of so many triggerers asked once per interval at most, and that somebody asked."""
        count, intervals = self.count(), (time.monotonic() - self.began) / INTERVAL
        said = f"{when}: {count} requests in {intervals:.1f} intervals by {triggerers} triggerers"
        self.case.expect(0 < count <= triggerers * (intervals + 1), said)
        self.case.tell(said)


class Watching:
    """The watched DAGs, one for each asset, and the syncs that must have started them."""

    def __init__(self, case: Case, *dag_ids: str) -> None:
        self.case, self.airflow, self.simulator = case, case.airflow, case.simulator
        self.wanted: dict[str, list[SyncRun]] = {dag_id: [] for dag_id in dag_ids}

    def begin(self, *integration_ids: str) -> None:
        """Start to watch: every watcher has saved where it begins."""
        for integration_id in integration_ids:
            self.simulator.add_integration(integration_id)

        def saved() -> int:
            return len(self.airflow.query("SELECT 1 FROM asset_state_store"))

        before = saved()
        for dag_id in self.wanted:
            self.airflow.unpause(dag_id)
        self.airflow.wait_for(lambda: saved() == before + len(self.wanted), "all watchers have begun", saved)

    def triggers(self) -> int:
        """Return how many triggers Airflow has for the watchers."""
        return len(self.airflow.query("SELECT 1 FROM trigger WHERE classpath LIKE '%FlokitSyncedTrigger'"))

    def sync(self, integration_id: str, *dag_ids: str, error: str | None = None) -> None:
        """Let FloKit sync an integration, which must start these DAGs."""
        self.simulator.run_scheduled_sync(integration_id, Sync(duration=0.5, error=error))
        self.airflow.wait_for(lambda: self.simulator.syncs[-1].finished_at is not None, "FloKit has synced")
        for dag_id in dag_ids:
            self.wanted[dag_id].append(self.simulator.syncs[-1])

    def settle(self) -> None:
        """Wait until every run that must be has begun, and until its event is confirmed: a kill before repeats it."""

        def runs() -> dict[str, int]:
            return {dag_id: len(self.airflow.runs(dag_id)) for dag_id in self.wanted}

        def started() -> bool:
            return all(count >= len(self.wanted[dag_id]) for dag_id, count in runs().items())

        def confirmed() -> bool:
            last = [sync for sync in self.simulator.syncs if sync.error is None][-1]
            sql, seen = "SELECT value FROM asset_state_store WHERE key LIKE :key", str(timestamp(last.finished_at))
            rows = self.airflow.query(sql, key=f"%/{last.integration_id}")
            return all(seen in str(row["value"]) for row in rows)

        self.airflow.wait_for(started, f"the right DAGs start: {self.wanted}", runs)
        self.airflow.wait_for(confirmed, "the events are confirmed")
        self.case.tell(f"the right DAGs have started: {runs()}")

    def judge(self) -> None:
        """See that each DAG was started by its very syncs, once, and by nothing else."""
        time.sleep(QUIET)
        for dag_id, syncs in self.wanted.items():
            runs = self.airflow.runs(dag_id)
            self.case.expect(len(runs) == len(syncs), f"{dag_id} had {len(runs)} runs, not {len(syncs)}")
            for run, sync in zip(runs, syncs, strict=False):
                run.wait()
                told = run.xcom("told")
                self.case.count(len(told) == 1 and _is_of(told[0], sync), f"{dag_id} was told of {told}, not of {sync}")
            self.airflow.pause(dag_id)
        self.airflow.wait_for(lambda: not self.triggers(), "nobody watches any more", self.triggers)


def _is_of(event: dict[str, Any], sync: SyncRun) -> bool:
    """Tell whether an event tells of a sync."""
    if not event["integration_id"] == event["integration"]["id"] == sync.integration_id:
        return False
    if sync.error is not None:
        return event["error_message"] == sync.error
    return datetime.fromisoformat(event["last_synced_at"]) == sync.finished_at


# Before 3.3, what happens while no triggerer runs is not seen.
@case("asset watchers: each sync starts the right DAG once", "triggerer (-9, -15), FloKit", act=6, since=(3, 3))
def watchers(case: Case) -> None:
    """Let syncs happen in quiet times, right before the triggerer's death, without one, in an outage and in a pause."""
    watching, simulator, airflow = Watching(case, A, A_TWICE, B, B_FAILED), case.simulator, case.airflow
    triggerers = len(airflow.named("triggerer"))
    watching.begin("int_a", "int_b")
    polls = Polls(case, simulator)
    polls.wait_for(4)
    polls.judge(triggerers, "four watchers")

    watching.sync("int_a", A, A_TWICE)
    watching.settle()
    watching.sync("int_b", B)
    watching.settle()
    airflow.kill("triggerer")
    case.tell("the triggerer is dead, right after an event")
    watching.sync("int_a", A, A_TWICE)
    watching.sync("int_b", B_FAILED, error=ERROR)
    airflow.start("triggerer")
    watching.settle()

    before, polls = watching.triggers(), Polls(case, simulator)
    airflow.pause(B)
    simulator.outage()
    case.tell(f"FloKit is down for {OUTAGE:g} s, and a DAG is paused")
    airflow.wait_for(lambda: watching.triggers() == before - 1, "the paused DAG's watcher is gone", watching.triggers)
    watching.sync("int_b")
    paused_meanwhile = simulator.syncs[-1]
    watching.sync("int_a", A, A_TWICE)
    time.sleep(OUTAGE)
    case.expect(1 <= polls.count() <= 15 * triggerers, f"{polls.count()} requests while FloKit was down")
    simulator.clear_faults()
    watching.settle()

    airflow.kill("triggerer", sig=signal.SIGTERM)
    airflow.unpause(B)
    airflow.start("triggerer")
    watching.wanted[B].append(paused_meanwhile)
    watching.settle()
    watching.judge()
