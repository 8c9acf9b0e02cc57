"""What only an Airflow with PostgreSQL, Celery and two triggerers can show."""

from __future__ import annotations

import functools
import signal
import time
from typing import TYPE_CHECKING

from airflow_provider_flokit.simulator import Fault, Sync
from tests.system.chaos_cases import ERROR, HANG, LOST, Many, case, clear, judge_all_modes, start_all_modes
from tests.system.chaos_watchers import INTERVAL, Polls, Watching

if TYPE_CHECKING:
    from tests.system.chaos_stage import Case, HeldSimulator

# Waits in one DAG run, by the name of their DAG.
MANY = {
    "chaos_triggerer": {"sync": 27, "watch": 18, "start": 9},
    "chaos_spread": {"sync": 36, "watch": 24},
    "chaos_workers_gone": {"sync": 14, "watch": 10},
    "chaos_database_many": {"sync": 11, "watch": 7},
    "chaos_replaced_many": {"sync": 11, "watch": 7},
}
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
    # That of "after" is still running at the retry.
    for task, duration in {"before": 3, "during": 3, "after": LOST + 20}.items():
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=duration))
    simulator.fail(Fault.slow(2 * HANG), method="GET", path="/v1/integrations/int_before", times=None)
    simulator.fail(Fault.slow(2 * HANG), method="POST", path="/v1/integrations/int_after/sync", times=None)
    simulator.fail(Fault.slow(HANG / 2, after_effect=False), method="POST", path="/v1/integrations/int_during/sync")
    run = case.run()
    airflow.wait_for(
        lambda: simulator.asked("before", "GET") and simulator.asked("after", "POST"),
        "two tasks hang in them",
    )
    late = airflow.trigger("chaos_worker_killed_during")
    airflow.wait_for(lambda: simulator.asked("during", "POST"), "the third one does")
    airflow.kill("worker")
    case.tell("both workers are dead")
    case.expect(not simulator.asked("before", "POST"), "before: it had sent its POST already")
    case.expect(not simulator.syncs_of("during"), "during: its POST had taken effect already")
    case.expect(simulator.syncs_of("after"), "after: its POST had not taken effect yet")
    simulator.clear_faults()
    airflow.start("worker")
    case.judge(run, ["before"], tries=2)
    case.judge(run, ["after"], tries=2, names=None)
    case.judge(late, ["during"], conn_id="chaos_worker_killed", tries=2, names=None)


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
    conn_ids = {"marked": "chaos_marked", "good": "chaos_marked", "bad": "chaos_marked", "alone": "chaos_alone"}
    simulator, alone, airflow = case.simulator, case.simulators["chaos_alone"], case.airflow
    for task, conn_id in conn_ids.items():
        case.simulators[conn_id].time.hold()
        shape = Sync(start_delay=0, duration=5, error=ERROR if task == "bad" else None)
        case.simulators[conn_id].add_integration(f"int_{task}", sync=shape)
    run = case.run()
    run.wait_in(dict.fromkeys(conn_ids, "deferred"))
    asked = len(alone.requests)
    airflow.wait_for(lambda: len(alone.requests) > asked, "the only wait on its connection asks")
    for task in ("marked", "alone"):
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task}"
        airflow.api("PATCH", path, {"new_state": "failed"})
    case.tell("two waits are marked failed")
    _wait_quiet(case, alone)
    asked = len(simulator.requests)
    airflow.wait_for(lambda: len(simulator.requests) > asked + 3, "the others' poll goes on")
    states = run.tasks()
    case.expect(states["good", -1] == states["bad", -1] == "deferred", f"the others are not deferred: {states}")
    clear(case, run, "marked", "alone")
    run.wait_in({"marked": "deferred", "alone": "deferred"})
    for each in (simulator, alone):
        each.time.go()
    case.judge(run, ["good", "bad"], runs=2)
    for task in ("marked", "alone"):
        case.judge(run, [task], conn_id=conn_ids[task], tries=2, runs=2, said=("HTTP 409",), names=None)


def _wait_quiet(case: Case, simulator: HeldSimulator) -> None:
    """Wait until nobody has asked for three of the watchers' intervals, six of the DAG's."""
    last = [len(simulator.requests), time.monotonic()]

    def quiet() -> bool:
        if len(simulator.requests) != last[0]:
            last[:] = [len(simulator.requests), time.monotonic()]
        return time.monotonic() - last[1] >= 3 * INTERVAL

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
