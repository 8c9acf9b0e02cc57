"""What only an Airflow with PostgreSQL, Celery and two triggerers can show."""

from __future__ import annotations

import functools
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from airflow_provider_flokit.simulator import Fault, Sync
from tests.system.celery_airflow import SPARE_SCHEDULER, TRIGGERERS, WORKERS, CeleryAirflow
from tests.system.chaos_cases import ERROR, LOST, case, judge_all_modes, staggered, start_all_modes
from tests.system.chaos_judge import judge
from tests.system.chaos_watchers import Watching

if TYPE_CHECKING:
    from tests.system.chaos_stage import HeldSimulator, Row, Run, Stage

COUNTS = {"sync": 27, "watch": 18, "start": 9}
"""Waits that both triggerers are killed under."""

MANY = {
    "chaos_spread": {"sync": 36, "watch": 24},
    "chaos_workers_gone": {"sync": 14, "watch": 10},
    "chaos_database_many": {"sync": 11, "watch": 7},
    "chaos_replaced_many": {"sync": 11, "watch": 7},
}
"""Waits in one DAG run, by the name of their DAG."""

INTERVAL = 2.0
"""Seconds between their polls, as the DAG says."""

_HANG = 28.0  # seconds; less than a request's time limit
_KILLED, _SOON = 8.0, 12.0  # seconds after time goes on: the kill, and syncs that end soon after it
_TAKEN_OVER = 40.0  # seconds after time goes on: the other triggerer has the waits of a killed one

on_celery = functools.partial(case, only_on="celery")


def airflow_of(stage: Stage) -> CeleryAirflow:
    """Return the Airflow, which is one with Celery."""
    return cast("CeleryAirflow", stage.airflow)


class Many:
    """
    Dozens of deferred waits; a third of the syncs ends before the kill, a third soon after it, a third long after.

    :param stage: Everything that runs.
    :param name: Name of the DAG and of its connection.
    :param later: Seconds that the last third takes.
    """

    def __init__(self, stage: Stage, name: str, later: float = 25.0) -> None:
        self.stage = stage
        self.name = name
        self.later = later
        self.simulator: HeldSimulator = stage.simulators[name]
        self.counts = MANY[name]
        self.total = sum(self.counts.values())
        self.run: Run = self._start()

    def _shape(self, index: int) -> Sync:
        duration = (1.0, _SOON, self.later)[index % 3] + index % 5 / 2
        return Sync(start_delay=1, duration=duration, error=ERROR if index % 4 == 3 else None)

    def _start(self) -> Run:
        """Return when all waits are deferred and FloKit's own syncs are under way; time is held."""
        self.simulator.time.hold()
        for kind, count in self.counts.items():
            for index in range(count):
                self.simulator.add_integration(f"int_{kind}_{index}", sync=self._shape(index))
        after = datetime.fromtimestamp(self.simulator.server_time(), UTC) - timedelta(minutes=1)
        self.run = self.stage.run(self.name, {"synced_after": after.isoformat()})
        self.stage.until(lambda: self.deferred() == self.total, 240, f"{self.total} waits are deferred", self.deferred)
        for index in range(self.counts["watch"]):
            self.simulator.run_scheduled_sync(f"int_watch_{index}", self._shape(index))
        self.stage.tell(f"{self.name}: {self.total} waits are deferred")
        return self.run

    def deferred(self) -> int:
        """Return how many waits are deferred."""
        return list(self.stage.airflow.task_states(*self.run).values()).count("deferred")

    def fired(self) -> None:
        """Wait until no wait is deferred any more."""
        self.stage.until(lambda: self.deferred() == 0, 180, "no wait is deferred any more", self.deferred)

    def judge(self, row: Row) -> None:
        """Judge all of them: each was run by a worker twice, before its deferral and after."""
        self.stage.end(self.run, 240)
        for kind, syncs in (("sync", 1), ("watch", 0)):
            tasks = [(kind, index) for index in range(self.counts[kind])]
            judge(self.stage, row, self.run, tasks, conn_id=self.name, syncs=syncs, runs=2)


class Polls:
    """
    The requests for the list from now on.

    :param simulator: Who is asked.
    """

    def __init__(self, simulator: HeldSimulator) -> None:
        self.simulator = simulator
        self.asked, self.began = len(simulator.requests), time.monotonic()

    def expect(self, row: Row, triggerers: int, when: str) -> str:
        """See that each of so many triggerers asked once per interval at most, and that somebody asked; say so."""
        intervals = (time.monotonic() - self.began) / INTERVAL
        requests = self.simulator.requests[self.asked :]
        count = sum(request.method == "GET" and request.integration_id is None for request in requests)
        said = f"{when}: {count} requests in {intervals:.1f} intervals by {triggerers} triggerers"
        row.expect(0 < count <= triggerers * (intervals + 1), said)
        return said


@on_celery("spread", "waits spread over two triggerers, one lost", "one triggerer", {"chaos_spread": {}}, act=7)
def spread(stage: Stage, row: Row) -> None:
    """Kill the triggerer that holds more of the waits; the other one takes them over."""
    airflow, many = airflow_of(stage), Many(stage, "chaos_spread", later=_TAKEN_OVER)
    stage.until(lambda: sum(map(airflow.triggers_of, TRIGGERERS)) == many.total, 30, "all triggers have a triggerer")
    held = {name: airflow.triggers_of(name) for name in TRIGGERERS}
    row.expect(all(held.values()), f"the waits are not spread: {held}")
    polls = Polls(many.simulator)
    stage.idle(5 * INTERVAL)
    stage.tell(f"chaos_spread: {held}; {polls.expect(row, len(held), 'before the kill')}")
    many.simulator.time.go()
    stage.idle(_KILLED)
    lost = max(held, key=lambda name: held[name])
    airflow.kill(lost)
    polls = Polls(many.simulator)
    stage.tell(f"chaos_spread: {lost} is dead, with {airflow.triggers_of(lost)} waits in it")
    many.fired()
    stage.tell(f"chaos_spread: {polls.expect(row, 1, 'after the kill')}")
    many.judge(row)
    left = sum(map(airflow.triggers_of, TRIGGERERS))
    row.expect(left == 0, f"{left} triggers are left over")
    stage.restart(lost)


@on_celery("worker_killed", "a whole Celery worker lost before, in and after the POST", "both workers", act=8)
def worker_killed(stage: Stage, row: Row) -> None:
    """Kill both workers while one task reads the baseline, one's POST is under way, and one's has taken effect."""
    simulator = stage.simulators["chaos_worker_killed"]
    # That of "after" is still running at the retry.
    for task, duration in {"before": 3, "during": 3, "after": LOST + 20}.items():
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=duration))
    simulator.fail(Fault.slow(2 * _HANG), method="GET", path="/v1/integrations/int_before", times=None)
    simulator.fail(Fault.slow(2 * _HANG), method="POST", path="/v1/integrations/int_after/sync", times=None)
    simulator.fail(Fault.slow(_HANG / 2, after_effect=False), method="POST", path="/v1/integrations/int_during/sync")

    def asked(task: str, method: str) -> bool:
        return any(r.integration_id == f"int_{task}" and r.method == method for r in simulator.requests)

    run = stage.run("chaos_worker_killed")
    stage.until(lambda: asked("before", "GET") and asked("after", "POST"), 90, "two tasks hang in their requests")
    late = stage.run("chaos_worker_killed_during")
    stage.until(lambda: asked("during", "POST"), 60, "the third one does")
    for name in WORKERS:
        stage.airflow.kill(name)
    stage.tell("chaos_worker_killed: both workers are dead")
    row.expect(not simulator.posts("int_before"), "before: it had sent its POST already")
    row.expect(not simulator.manual("int_during"), "during: its POST had taken effect already")
    row.expect(simulator.manual("int_after"), "after: its POST had not taken effect yet")
    simulator.clear_faults()
    for name in WORKERS:
        stage.restart(name)
    for each in (run, late):
        stage.end(each)
    judge(stage, row, run, ["before"], conn_id="chaos_worker_killed", tries=2)
    judge(stage, row, run, ["after"], conn_id="chaos_worker_killed", tries=2, names=None)
    judge(stage, row, late, ["during"], conn_id="chaos_worker_killed", tries=2, names=None)


@on_celery("workers_gone", "no worker for a while, waits go on", "both workers", {"chaos_workers_gone": {}}, act=9)
def workers_gone(stage: Stage, row: Row) -> None:
    """Kill both workers under deferred waits; they are back only when all waits have ended and ask for a worker."""
    many = Many(stage, "chaos_workers_gone")
    for name in WORKERS:
        stage.airflow.kill(name)
    stage.tell("chaos_workers_gone: both workers are dead")
    many.simulator.time.go()
    many.fired()
    states = set(stage.airflow.task_states(*many.run).values())
    row.expect(states <= {"scheduled", "queued"}, f"without workers, tasks are {states}")
    for name in WORKERS:
        stage.restart(name)
    many.judge(row)


@on_celery(
    "database",
    "PostgreSQL restarted in the middle of the wait",
    "PostgreSQL",
    {"chaos_database": {}, "chaos_database_many": {}},
    act=10,
)
def database(stage: Stage, row: Row) -> None:
    """Take the metadata database away under waits of all modes; what ends by that is started again, as is usual."""
    airflow, many = airflow_of(stage), Many(stage, "chaos_database_many")
    run = start_all_modes(stage, "chaos_database", staggered(3, 30))
    for name in ("chaos_database", "chaos_database_many"):
        stage.simulators[name].time.go()
    stage.idle(_KILLED)
    airflow.restarts_what_ends = True
    airflow.kill("postgres", signal.SIGINT)
    stage.tell("chaos_database: PostgreSQL is stopped for 8 s")
    stage.idle(8)
    stage.restart("postgres")
    stage.until(airflow.postgres_answers, 60, "PostgreSQL answers")
    stage.end(run, 240)
    judge_all_modes(stage, row, run)
    many.judge(row)
    airflow.wait_until_ready()
    airflow.restarts_what_ends = False
    stage.tell(f"chaos_database: ended by that, and started again: {', '.join(airflow.restarted) or 'nothing'}")


C, D = "chaos_watch_c", "chaos_watch_d"


@on_celery(
    "watcher_lost",
    "asset watchers: the triggerer that watches lost",
    "one triggerer",
    {"chaos_watcher_lost": {}},
    act=11,
)
def watcher_lost(stage: Stage, row: Row) -> None:
    """Kill the triggerer that watches; the syncs right after its death are told by the other one."""
    airflow, watching = airflow_of(stage), Watching(stage, row, "chaos_watcher_lost", (C, D))
    watching.begin("int_c", "int_d")

    def told(what: str, *names: str) -> None:
        for name in names:
            watching.sync(f"int_{name}", f"chaos_watch_{name}")
        watching.settle(what)
        stage.until(watching.confirmed, 30, "the events are confirmed")

    told("syncs before", "c", "d")
    held = {name: airflow.triggers_of(name, "FlokitSyncedTrigger") for name in TRIGGERERS}
    lost = max(held, key=lambda name: held[name])
    airflow.kill(lost)
    stage.tell(f"chaos_watcher_lost: {lost} is dead, of {held}")
    told("syncs right after the death", "c", "d")
    told("a sync while one triggerer watches", "c")
    stage.restart(lost)
    airflow.wait_until_ready()
    told("a sync with both again", "d")
    watching.judge()


@on_celery(
    "marked",
    "marked failed while deferred, then cleared: attach",
    "-",
    {"chaos_marked": {"when_running": "conflict"}, "chaos_alone": {"when_running": "conflict"}},
    act=2,
)
def marked(stage: Stage, row: Row) -> None:
    """Mark two waits as failed: one of several on its connection, and the only one on another; then clear them."""
    conn_ids = {"marked": "chaos_marked", "good": "chaos_marked", "bad": "chaos_marked", "alone": "chaos_alone"}
    simulator, alone = stage.simulators["chaos_marked"], stage.simulators["chaos_alone"]
    for task, conn_id in conn_ids.items():
        stage.simulators[conn_id].time.hold()
        shape = Sync(start_delay=0, duration=5, error=ERROR if task == "bad" else None)
        stage.simulators[conn_id].add_integration(f"int_{task}", sync=shape)
    run = stage.run("chaos_marked")
    stage.until_in(run, dict.fromkeys(conn_ids, "deferred"))
    asked = len(alone.requests)
    stage.until(lambda: len(alone.requests) > asked, 30, "the only wait on its connection asks")
    for task in ("marked", "alone"):
        stage.mark(run, task, "failed")
    stage.tell("chaos_marked: two waits are marked failed")
    _until_quiet(stage, alone)
    asked = len(simulator.requests)
    stage.until(lambda: len(simulator.requests) > asked + 3, 30, "the others' poll goes on")
    states = stage.airflow.task_states(*run)
    row.expect(states["good", -1] == states["bad", -1] == "deferred", f"the others are not deferred: {states}")
    stage.clear(run, "marked", "alone")
    stage.until_in(run, {"marked": "deferred", "alone": "deferred"})
    for each in (simulator, alone):
        each.time.go()
    stage.end(run)
    for task, conn_id in conn_ids.items():
        again = task in ("marked", "alone")
        said = ("HTTP 409",) if again else ()
        judge(
            stage,
            row,
            run,
            [task],
            conn_id=conn_id,
            tries=2 if again else 1,
            runs=2,
            said=said,
            names=None if again else -1,
        )


def _until_quiet(stage: Stage, simulator: HeldSimulator, seconds: float = 5.0) -> None:
    """Wait until nobody has asked for some seconds, which are several of the DAG's intervals."""
    last = [len(simulator.requests), time.monotonic()]

    def quiet() -> bool:
        count = len(simulator.requests)
        if count != last[0]:
            last[:] = [count, time.monotonic()]
        return time.monotonic() - last[1] >= seconds

    stage.until(quiet, 60, "the poll of the wait that was marked failed ends", lambda: len(simulator.requests))


@on_celery(
    "replaced",
    "scheduler lost, another one goes on at once",
    "scheduler",
    {"chaos_replaced": {}, "chaos_replaced_many": {}},
    act=12,
)
def replaced(stage: Stage, row: Row) -> None:
    """Kill the scheduler, and no worker, under waits of all modes; a second scheduler takes over."""
    many = Many(stage, "chaos_replaced_many")
    run = start_all_modes(stage, "chaos_replaced", staggered(3, 30))
    stage.airflow.kill("scheduler-1")
    for name in ("chaos_replaced", "chaos_replaced_many"):
        stage.simulators[name].time.go()
    stage.restart(SPARE_SCHEDULER)
    stage.end(run, 240)
    judge_all_modes(stage, row, run)
    many.judge(row)
