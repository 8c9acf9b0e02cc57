"""What only an Airflow with PostgreSQL, Celery and two triggerers can show."""

from __future__ import annotations

import functools
import signal
import time
from typing import TYPE_CHECKING

from airflow_provider_flokit.simulator import Fault, Sync
from tests.system.chaos_cases import HANG, OUTLASTS, Many, case, clear, judge_all_modes, start_all_modes
from tests.system.chaos_watchers import INTERVAL, Polls, Watching

if TYPE_CHECKING:
    from tests.system.chaos_stage import Case, HeldSimulator

TRIGGERERS = ("triggerer-1", "triggerer-2")

on_celery = functools.partial(case, stage="celery")


@on_celery("waits spread over two triggerers, one lost", "one triggerer", act=7)
def spread(case: Case) -> None:
    """Kill the triggerer that holds more of the waits; the other one takes them over."""
    airflow, many = case.airflow, Many(case, "chaos_spread")
    airflow.wait_for(lambda: sum(map(airflow.triggers_of, TRIGGERERS)) == many.total, "all triggers have a triggerer")
    held = {name: airflow.triggers_of(name) for name in TRIGGERERS}
    case.expect(all(held.values()), f"the waits are not spread: {held}")
    polls = Polls(case, many.simulator)
    polls.wait_for(10)
    polls.judge(2, f"before the kill, for {held}")
    many.go()
    lost = max(held, key=lambda name: held[name])
    airflow.kill(lost)
    polls = Polls(case, many.simulator)
    case.tell(f"{lost} is dead, with {airflow.triggers_of(lost)} waits in it")
    many.wait_fired()
    polls.judge(1, "after the kill")
    many.judge()
    left = sum(map(airflow.triggers_of, TRIGGERERS))
    case.expect(left == 0, f"{left} triggers are left over")
    airflow.start(lost)


@on_celery("a whole Celery worker lost before, in and after the POST", "both workers", act=8)
def worker_killed(case: Case) -> None:
    """Kill both workers while one task reads the baseline, one's POST is under way, and one's has taken effect."""
    simulator, airflow = case.simulator, case.airflow
    simulator.add(["reading", "posting"], Sync(start_delay=1, duration=3))
    simulator.add(["posted"], OUTLASTS)
    simulator.fail(Fault.slow(HANG), method="GET", path="/v1/integrations/int_reading", times=None)
    simulator.fail_post("posting", Fault.slow(HANG, after_effect=False))
    simulator.fail_post("posted", Fault.slow(HANG), times=None)
    run = case.run()
    hang = {"reading": "GET", "posting": "POST", "posted": "POST"}
    airflow.wait_for(lambda: all(simulator.asked(*each) for each in hang.items()), "three tasks hang", run.tasks)
    airflow.kill("worker")
    case.tell("both workers are dead")
    case.expect(not simulator.asked("reading", "POST"), "reading: it had sent its POST already")
    begun = [sync.integration_id for sync in simulator.syncs]
    case.expect(begun == ["int_posted"], f"other syncs had begun by then than that of posted: {begun}")
    simulator.clear_faults()
    airflow.start("worker")
    case.judge(run, ["reading"], retried=True)
    case.judge(run, ["posting", "posted"], retried=True, knows_id=False)


@on_celery("no worker for a while, waits go on", "both workers", act=9)
def workers_gone(case: Case) -> None:
    """Kill both workers under deferred waits; they are back only when all waits have ended and ask for a worker."""
    many = Many(case, "chaos_workers_gone")
    case.airflow.kill("worker")
    case.tell("both workers are dead")
    many.simulator.time.go()
    many.wait_fired()
    states = set(many.run.tasks().values())
    case.expect(states <= {"scheduled", "queued"}, f"without workers, tasks are {states}")
    case.airflow.start("worker")
    many.judge()


@on_celery(
    "PostgreSQL restarted in the middle of the wait",
    "PostgreSQL",
    {"chaos_database": {}, "chaos_database_many": {}},
    act=10,
)
def database(case: Case) -> None:
    """Take the metadata database away under waits of all modes; what ends by that is started again, as is usual."""
    airflow, many = case.airflow, Many(case, "chaos_database_many")
    run = start_all_modes(case, 3, 30)
    case.simulator.time.go()
    many.go()
    airflow.restarts_what_ends = True
    # SIGINT: without waiting for its clients.
    airflow.kill("postgres", sig=signal.SIGINT)
    case.tell("PostgreSQL is stopped for 8 s")
    time.sleep(8)
    airflow.start("postgres")
    airflow.wait_for(lambda: airflow.is_ready("postgres"), "PostgreSQL answers")
    judge_all_modes(case, run)
    many.judge()
    airflow.wait_until_ready()
    airflow.restarts_what_ends = False


C, D = "chaos_watch_c", "chaos_watch_d"


@on_celery("asset watchers: the triggerer that watches lost", "one triggerer", act=11)
def watcher_lost(case: Case) -> None:
    """Kill the triggerer that watches; the syncs right after its death are told by the other one."""
    airflow, watching = case.airflow, Watching(case, C, D)
    watching.begin("int_c", "int_d")

    def sync_each(*names: str) -> None:
        for name in names:
            watching.sync(f"int_{name}", f"chaos_watch_{name}")
        watching.settle()

    sync_each("c", "d")
    held = {name: airflow.triggers_of(name, "FlokitSyncedTrigger") for name in TRIGGERERS}
    lost = max(held, key=lambda name: held[name])
    airflow.kill(lost)
    case.tell(f"{lost} is dead, of {held}")
    sync_each("c", "d")
    sync_each("c")
    airflow.start(lost)
    airflow.wait_until_ready()
    case.tell("both triggerers run again")
    sync_each("d")
    watching.judge()


@on_celery(
    "marked failed while deferred, then cleared: attach",
    "-",
    {"chaos_marked": {"when_running": "conflict"}, "chaos_alone": {"when_running": "conflict"}},
    act=2,
)
def marked(case: Case) -> None:
    """Mark two waits as failed: one of several on its connection, and the only one on another; then clear them."""
    simulator, alone, airflow = case.simulator, case.simulators["chaos_alone"], case.airflow
    for each in (simulator, alone):
        each.time.hold()
        each.add(["marked", "good", "bad"], Sync(duration=5))
    runs = [airflow.trigger(name) for name in case.simulators]
    runs[0].wait_in("deferred", "marked", "good", "bad")
    runs[1].wait_in("deferred", "marked")
    asked = len(alone.requests)
    airflow.wait_for(lambda: len(alone.requests) > asked, "the only wait on its connection asks")
    for run in runs:
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/marked"
        airflow.api("PATCH", path, {"new_state": "failed"})
    case.tell("two waits are marked failed")
    _wait_quiet(case, alone)
    asked = len(simulator.requests)
    airflow.wait_for(lambda: len(simulator.requests) > asked + 3, "the others' poll goes on")
    states = runs[0].tasks()
    case.expect(states["good", -1] == states["bad", -1] == "deferred", f"the others are not deferred: {states}")
    for run in runs:
        clear(case, run, "marked")
        run.wait_in("deferred", "marked")
    for each in (simulator, alone):
        each.time.go()
    case.judge(runs[0], ["good", "bad"], runs=2)
    for run in runs:
        case.judge(run, ["marked"], retried=True, runs=2, said=("HTTP 409",), knows_id=False)


def _wait_quiet(case: Case, simulator: HeldSimulator) -> None:
    """Wait until nobody has asked for three of the watchers' intervals, six of the DAG's."""
    polls = Polls(case, simulator)

    def quiet() -> bool:
        nonlocal polls
        if polls.count():
            polls = Polls(case, simulator)
        return time.monotonic() - polls.began >= 3 * INTERVAL

    case.airflow.wait_for(quiet, "the poll of the wait that was marked failed ends")


@on_celery(
    "scheduler lost, another one goes on at once",
    "scheduler",
    {"chaos_replaced": {}, "chaos_replaced_many": {}},
    act=12,
)
def replaced(case: Case) -> None:
    """Kill the scheduler, and no worker, under waits of all modes; a second scheduler takes over."""
    many = Many(case, "chaos_replaced_many")
    run = start_all_modes(case, 3, 30)
    case.airflow.kill("scheduler")
    for simulator in case.simulators.values():
        simulator.time.go()
    case.airflow.start("spare-scheduler")
    judge_all_modes(case, run)
    many.judge()
