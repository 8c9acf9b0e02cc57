"""What production does to waits, one function per case; each plays on real processes and judges by the simulator."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.simulator import Fault, Sync
from tests.system.chaos_stage import ERROR, NEW_KEY, Case
from tests.system.settings import AIRFLOW_3, AIRFLOW_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.system.chaos_stage import HeldSimulator
    from tests.system.runs import Run

RECEIPT_IS_KEPT = AIRFLOW_VERSION >= (3, 3)
"""Below, a retry attaches to a sync that runs: it knows no id of it, nor of a sync that has ended meanwhile."""

LOST = 26.0
"""Seconds after a worker's death at which its retry starts: the heartbeats that are missed, and what it takes."""

HANG = 25.0
"""Seconds; less than a request's time limit, more than it takes to kill a task."""

OUTLASTS = Sync(start_delay=1, duration=LOST + 30)
"""It still runs when a lost worker's task is retried."""

CASES: list[Case] = []


def case(
    title: str, killed: str, switches: Mapping[str, Mapping[str, Any]] | None = None, **settings: Any
) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Add a function to the cases; its simulator has the name of its DAG unless others are given."""

    def add(play: Callable[[Case], None]) -> Callable[[Case], None]:
        name = play.__name__
        CASES.append(Case(name, title, killed, play, switches or {f"chaos_{name}": {}}, **settings))
        return play

    return add


# Workers


@case("worker lost before the POST", "worker and task")
def before_post(case: Case) -> None:
    """Kill workers that read the baseline, that try to POST in vain, and whose POST arrives when they are dead."""
    simulator = case.simulator
    tasks = {"reading": "GET", "reading_worker": "GET", "posting": "POST", "late": "POST"}
    simulator.add(tasks, Sync(start_delay=1, duration=2) if RECEIPT_IS_KEPT else OUTLASTS)
    for task in ("reading", "reading_worker"):
        simulator.fail(Fault.slow(HANG), method="GET", path=f"/v1/integrations/int_{task}")
    simulator.fail_post("posting", Fault.drop(), times=None)
    simulator.fail_post("late", Fault.slow(HANG / 2, after_effect=False))
    run = case.run()
    _kill_in_request(case, run, tasks)
    simulator.clear_faults()
    case.judge(run, ["reading", "reading_worker", "posting"], retried=True)
    # Mostly the late POST has started a sync by then: the retry goes on with it, and knows no id of it.
    run.wait()
    repeated = "requesting the sync again, with the same key" in run.log("late")
    case.judge(run, ["late"], retried=True, knows_id=repeated)


@case("worker lost between POST and deferral", "worker and task")
def after_post(case: Case) -> None:
    """Kill workers whose POST took effect, but whose answer did not come yet."""
    still, over = ("still_running", "still_running_worker"), ("over", "over_worker")
    case.simulator.add(still, OUTLASTS)
    case.simulator.add(over, Sync(start_delay=1, duration=3) if RECEIPT_IS_KEPT else OUTLASTS)
    for task in (*still, *over):
        case.simulator.fail_post(task, Fault.slow(HANG))
    run = case.run()
    _kill_in_request(case, run, dict.fromkeys((*still, *over), "POST"))
    case.judge(run, (*still, *over), retried=True, knows_id=False)


@case("worker lost while it waits in worker mode", "worker and task")
def in_worker(case: Case) -> None:
    """Kill workers in the middle of their waits; one sync ends before the retry, one after."""
    case.simulator.add(["still_running_worker"], OUTLASTS)
    case.simulator.add(["over_worker"], Sync(start_delay=1, duration=8) if RECEIPT_IS_KEPT else OUTLASTS)
    run = case.run()
    for task in ("still_running_worker", "over_worker"):
        _kill_waiting(case, run, task)
    case.judge(run, ["still_running_worker", "over_worker"], retried=True, knows_id=RECEIPT_IS_KEPT)


# Before 3.3, nothing remembers the sync.
@case("worker lost, its sync fails meanwhile: a new one", "worker and task", since=(3, 3))
def failed_meanwhile(case: Case) -> None:
    """Kill workers whose sync then fails: the retry knows, and starts another."""
    tasks = ("posting", "waiting_worker")
    case.simulator.add(tasks, Sync(start_delay=1, duration=2), Sync(start_delay=1, duration=8, error=ERROR))
    case.simulator.fail_post("posting", Fault.slow(HANG))
    run = case.run()
    _kill_in_request(case, run, {"posting": "POST"})
    _kill_waiting(case, run, "waiting_worker")
    case.judge(run, tasks, syncs=2, retried=True)


def _kill_in_request(case: Case, run: Run, tasks: Mapping[str, str]) -> None:
    """Kill each task, and the worker above it, as soon as it is in the middle of its request, GET or POST."""
    left = dict(tasks)

    def killed() -> bool:
        for task in [task for task, method in left.items() if case.simulator.asked(task, method)]:
            case.airflow.kill_task(run, task)
            case.tell(f"{task} and its worker killed in the {left.pop(task)}")
        return not left

    case.airflow.wait_for(killed, f"requests of {tasks}", run.tasks)


def _kill_waiting(case: Case, run: Run, task: str) -> None:
    """Kill a task, and the worker above it, that waits in a worker: it has its receipt, and says so."""
    case.airflow.wait_for(lambda: "Waiting for" in run.log(task), f"{task} waits", run.tasks)
    case.airflow.kill_task(run, task)
    case.tell(f"{task} and its worker killed while it waited")


# The request that starts a sync


@case(
    "connection dropped after the POST took effect",
    "the connection",
    {
        "chaos_honoured": {},
        "chaos_join": {"honour_idempotency_key": False},
        "chaos_queue": {"honour_idempotency_key": False, "when_running": "queue"},
        "chaos_conflict": {"honour_idempotency_key": False, "when_running": "conflict"},
    },
    act=2,
)
def ambiguous(case: Case) -> None:
    """Drop the connection under POSTs, with keys honoured and not, whatever a POST then does on top of a sync."""
    tasks = ("good", "good_worker", "bad", "quick")
    for simulator in case.simulators.values():
        simulator.add(tasks[:3], Sync(start_delay=1, duration=5))
        simulator.add(["quick"], Sync(duration=0))
        for task in tasks:
            simulator.fail_post(task, Fault.drop_after())
    for run in [case.airflow.trigger(name) for name in case.simulators]:
        run.wait()
        tasks = [task for task, _ in run.tasks()]
        posts = [len(case.simulators[run.dag_id].asked(task, "POST")) for task in tasks]
        case.expect(set(posts) == {2}, f"{run.dag_id}: {posts} POSTs of {tasks}, not two each")
        # In the queue, a repeated POST starts a second sync: that is what an honoured key is for.
        syncs = 2 if run.dag_id == "chaos_queue" else 1
        case.judge(run, tasks, syncs=syncs, knows_id=run.dag_id != "chaos_conflict")


@case("a sync is running already (409): attach", "-", {"chaos_running": {"when_running": "conflict"}}, act=2)
def running(case: Case) -> None:
    """Ask for syncs on top of FloKit's own."""
    simulator, tasks = case.simulator, ("good", "good_worker", "bad")
    simulator.time.hold()
    simulator.add(tasks, Sync(duration=5))
    for task in tasks:
        simulator.run_scheduled_sync(f"int_{task}")
    run = case.run()
    case.airflow.wait_for(lambda: all(simulator.asked(task, "POST") for task in tasks), "all have sent their POST")
    simulator.time.go()
    case.judge(run, tasks, syncs=0, knows_id=False, said=("HTTP 409",))


# FloKit is away, or wants another key

DEFERRED = ("sync_good", "sync_bad", "watch_good", "watch_bad")
IN_WORKER = ("sync_worker", "watch_worker")
RESCHEDULED = "watch_rescheduled"


def start_all_modes(case: Case, first: float, last: float, **durations: float) -> Run:
    """Start waits of all modes, with time held; their syncs take longer and longer, from first to last (seconds)."""
    simulator = case.simulator
    simulator.time.hold()
    tasks = (*DEFERRED, *IN_WORKER, RESCHEDULED)
    for index, task in enumerate(tasks):
        duration = durations.get(task, first + index * (last - first) / (len(tasks) - 1))
        simulator.add([task], Sync(start_delay=2, duration=duration))
    run = case.run(simulator.synced_after())
    run.wait_in("deferred", *DEFERRED)
    # Those in a worker must have had their first answer: before it, a refusal is final.
    looked = (*IN_WORKER, RESCHEDULED)
    case.airflow.wait_for(lambda: all("Waiting for" in run.log(task) for task in looked), "all wait", run.tasks)
    for task in tasks:
        if task.startswith("watch"):
            simulator.run_scheduled_sync(f"int_{task}")
    return run


def still_wait(case: Case, run: Run) -> None:
    """See that all waits go on."""
    states = run.tasks()
    wanted = {(task, -1): "deferred" for task in DEFERRED} | {(task, -1): "running" for task in IN_WORKER}
    case.expect(wanted.items() <= states.items(), f"the waits did not go on: {states}")


def judge_all_modes(case: Case, run: Run, *, workers_lost: bool = False) -> None:
    """Judge the waits that :func:`start_all_modes` started."""
    for task in (*DEFERRED, *IN_WORKER):
        syncs = 1 if task.startswith("sync") else 0
        if task in DEFERRED:
            case.judge(run, [task], syncs=syncs, runs=2)
        else:
            knows_id = RECEIPT_IS_KEPT or not workers_lost
            case.judge(run, [task], syncs=syncs, retried=workers_lost, knows_id=knows_id)
    case.judge(run, [RESCHEDULED], syncs=0, retried=None if workers_lost else False)


OUTAGE = 35.0
"""Seconds; stands for minutes: pauses grow to 30 s at most, so nothing changes after that."""


@case(f"FloKit is down for {OUTAGE:g} s (stands for minutes)", "FloKit", act=2)
def outage(case: Case) -> None:
    """Take FloKit away under waits of all modes; half of the syncs end meanwhile."""
    run = start_all_modes(case, OUTAGE / 2, OUTAGE * 1.5)
    case.simulator.stop()
    case.simulator.time.go()
    case.tell(f"the simulator is down for {OUTAGE:g} s")
    time.sleep(OUTAGE)
    still_wait(case, run)
    case.simulator.start()
    judge_all_modes(case, run)


ROTATED = 40.0
"""Seconds until somebody has put the new key into the connection."""


@case(f"API key rotated, the connection updated {ROTATED:g} s later", "the old key", act=2)
def rotation(case: Case) -> None:
    """Replace the key in FloKit under waits of all modes, and later in Airflow's database; all syncs end meanwhile."""
    simulator, airflow = case.simulator, case.airflow
    add = ("connections", "add", "chaos_rotation", "--conn-uri")
    airflow.cli(*add, simulator.connection_uri())
    run = start_all_modes(case, 5, 12)
    simulator.rotate_key(NEW_KEY)
    simulator.time.go()
    case.tell(f"the old key is dead, {ROTATED:g} s before the connection has the new one")
    time.sleep(ROTATED)
    still_wait(case, run)
    airflow.cli("connections", "delete", "chaos_rotation")
    airflow.cli(*add, simulator.connection_uri())
    run.wait()
    case.expect(any(each.status == 401 for each in simulator.requests), "no wait has noticed that the old key is dead")
    judge_all_modes(case, run)


# What retries and people do


@case("failed sync, retries left: a new sync", "-")
def retries(case: Case) -> None:
    """Let the first sync fail."""
    tasks = ("deferred", "in_worker")
    good = Sync(start_delay=1, duration=2)
    case.simulator.add(tasks, good, replace(good, error=ERROR))
    run = case.run()
    run.wait()
    for task in tasks:
        first = run.log(task, try_number=1)
        case.expect(ERROR in first and "FlokitSyncFailedError" in first, f"{task}: no log says why try 1 failed")
    case.judge(run, tasks, syncs=2, retried=True)


@case("timed-out wait, retries left: the same sync", "-")
def slow(case: Case) -> None:
    """Let the sync take longer than the wait."""
    tasks = ("deferred", "in_worker")
    case.simulator.add(tasks, Sync(start_delay=1, duration=23))
    run = case.run()
    run.wait()
    for task in tasks:
        first = run.log(task, try_number=1)
        case.expect("FlokitWaitTimeoutError" in first, f"{task}: the log does not say that try 1 timed out")
    case.judge(run, tasks, retried=True, knows_id=RECEIPT_IS_KEPT)


def clear(case: Case, run: Run, *tasks: str) -> None:
    """Clear ended tasks, as a person would, so that they run anew."""
    if AIRFLOW_3:
        body = {"dry_run": False, "dag_run_id": run.run_id, "task_ids": tasks, "only_failed": False}
        case.airflow.api("POST", f"/api/v2/dags/{run.dag_id}/clearTaskInstances", {**body, "reset_dag_runs": True})
    else:
        case.airflow.cli("tasks", "clear", run.dag_id, "--task-regex", f"^({'|'.join(tasks)})$", "--yes")


@case("ended task cleared by the user: starts anew", "-")
def cleared(case: Case) -> None:
    """Clear tasks that succeeded and tasks that failed for good."""
    tries = {"good": 1, "good_worker": 1, "failing": 2, "failing_worker": 1}
    good = Sync(start_delay=1, duration=2)
    for task, count in tries.items():
        case.simulator.add([task], good, *[replace(good, error=ERROR)] * (count if "failing" in task else 0))
    run = case.run()
    for task, count in tries.items():
        case.judge(run, [task], syncs=count, retried=count > 1)
    clear(case, run, *tries)
    case.tell("all tasks are cleared")
    case.airflow.wait_for(lambda: run.state() not in ("success", "failed"), "the run goes on")
    for task, count in tries.items():
        case.judge(run, [task], syncs=count + 1, retried=True)


@case("wait past its timeout", "-")
def timeout(case: Case) -> None:
    """Let nothing happen until the waits are over."""
    case.simulator.add(("watch", "watch_worker", "watch_soft", "sync", "sync_worker"), Sync(duration=600))
    run = case.run({"synced_after": (datetime.now(UTC) + timedelta(days=1)).isoformat()})
    said = "not ready within 12 s"
    case.judge(run, ["watch", "watch_worker"], state="failed", syncs=0, said=("AirflowSensorTimeout", said))
    case.judge(run, ["watch_soft"], state="skipped", syncs=0, said=(said,))
    case.judge(run, ["sync", "sync_worker"], state="failed", said=("FlokitWaitTimeoutError", said))


# Airflow itself


@case("scheduler lost in the middle of the wait", "scheduler, all workers", act=3)
def scheduler(case: Case) -> None:
    """Kill the scheduler and all of its workers under waits; start it again when half the syncs are over."""
    run = start_all_modes(case, 3, 20, **({} if RECEIPT_IS_KEPT else {"sync_worker": LOST + 30}))
    case.airflow.kill("scheduler", "worker")
    case.tell("the scheduler and all workers are dead for 10 s")
    case.simulator.time.go()
    time.sleep(10)
    case.airflow.start("scheduler", "worker")
    judge_all_modes(case, run, workers_lost=True)


@case("start_from_trigger: no worker for the wait", "triggerer", act=4)
def started(case: Case) -> None:
    """Kill the triggerer under sensors that no worker started; syncs end before, meanwhile and after."""
    simulator = case.simulator
    before, down, after = ("plain", "interval"), ("conf", "bad"), ("id_of_conf", "unrendered", "bad_after")
    tasks = (*before, *down, *after, "late", "late_soft")
    simulator.add(tasks, Sync(start_delay=0.5, duration=1))
    simulator.set_state("int_plain", last_synced_at="2025-12-31T00:00:00Z")
    now = datetime.fromtimestamp(simulator.server_time(), UTC).isoformat()
    run = case.run({"synced_after": now, "integration_id": "int_id_of_conf"})
    run.wait_in("deferred", *tasks)

    def sync(*tasks: str) -> None:
        for task in tasks:
            simulator.run_scheduled_sync(f"int_{task}")

    sync(*before)
    run.wait_in("success", *before)
    case.airflow.kill("triggerer")
    case.tell("the triggerer is dead")
    sync(*down)
    case.airflow.wait_for(lambda: all(sync.finished_at for sync in simulator.syncs), "syncs end meanwhile")
    case.airflow.start("triggerer")
    run.wait_in("success", "conf")
    run.wait_in("failed", "bad")
    sync(*after)
    # A worker runs only what comes after the wait; other Airflows than 3.3 render nothing in the triggerer.
    once = 1 if RECEIPT_IS_KEPT else None
    case.judge(run, [task for task in (*before, *down, *after) if task != "unrendered"], syncs=0, runs=once)
    case.judge(run, ["unrendered"], syncs=0, runs=2 if RECEIPT_IS_KEPT else None)
    said = "not ready within 30 s"
    case.judge(run, ["late"], state="failed", syncs=0, said=("AirflowSensorTimeout", said), runs=once)
    case.judge(run, ["late_soft"], state="skipped", syncs=0, said=(said,), runs=once)


def shape_of(index: int) -> tuple[Sync, str | None]:
    """Return how a sync goes, and the error that its integration shows before."""
    spread = (index * 7 % 16) / 2  # so that the waits do not end all at once
    before = Sync(start_delay=1, duration=1 + spread)
    down = Sync(start_delay=11, duration=2)
    after = Sync(start_delay=5, duration=28 + spread)
    # Two of nine end before the kill, four while nobody looks, three when a triggerer has the waits again.
    return (
        (before, None),
        (replace(before, error=ERROR), None),
        (down, None),
        (replace(down, error=ERROR), None),
        (after, None),
        (replace(after, error=ERROR), None),
        (down, "The card reader is on fire"),
        (after, "The card reader is on fire"),
        (replace(down, error=ERROR), ERROR),  # the same error again, behind the triggerer's back
    )[index % 9]


class Many:
    """Dozens or hundreds of deferred waits in one run of a DAG; time is held."""

    def __init__(self, case: Case, dag_id: str) -> None:
        self.case = case
        self.simulator: HeldSimulator = case.simulators[dag_id]
        self.simulator.time.hold()
        self.counts = case.many[dag_id]
        self.total = sum(self.counts.values())
        for kind, count in self.counts.items():
            for index in range(count):
                shape, error = shape_of(index)
                fields: Any = {"status": "error", "error_message": error} if error and kind != "watch" else {}
                self.simulator.add_integration(f"int_{kind}_{index}", sync=shape, **fields)
        self.run = case.airflow.trigger(dag_id, self.simulator.synced_after())
        self._wait_deferred(lambda number: number == self.total, f"{self.total} waits are deferred")
        for index in range(self.counts["watch"]):
            self.simulator.run_scheduled_sync(f"int_watch_{index}")

    def _wait_deferred(self, holds: Callable[[int], bool], what: str) -> None:
        def deferred() -> int:
            return self.run.count("deferred")

        self.case.airflow.wait_for(lambda: holds(deferred()), what, deferred)
        self.case.tell(what)

    def go(self) -> None:
        """Let time go on until some waits have ended, while most still wait."""
        self.simulator.time.go()
        self._wait_deferred(lambda number: number < self.total, "some waits have ended")
        ended = self.total - self.run.count("deferred")
        self.case.expect(ended < self.total / 2, f"{ended} waits had ended by then")

    def wait_fired(self) -> None:
        """Wait until no wait is deferred any more."""
        self._wait_deferred(lambda number: not number, "no wait is deferred any more")

    def judge(self) -> None:
        """Judge all of them: each was run by a worker twice, before its deferral and after."""
        for kind, count in self.counts.items():
            tasks = [("follow" if kind == "start" else kind, index) for index in range(count)]
            # Airflow 2 counts a try that it did not run for mapped tasks that had to wait for others.
            retried = None if kind == "start" and not AIRFLOW_3 else False
            self.case.judge(self.run, tasks, syncs=0 if kind == "watch" else 1, retried=retried, runs=2)
        states = {state for (task, _), state in self.run.tasks().items() if task == "start"}
        self.case.expect(states <= {"success"}, f"the syncs were not all started: {states}")


@case("triggerer lost in the middle of the wait", "triggerer", act=5)
def triggerer(case: Case) -> None:
    """Kill the triggerer under hundreds of waits, while some fire; syncs end before, meanwhile and after."""
    many = Many(case, "chaos_triggerer")
    many.go()
    case.airflow.kill("triggerer")
    case.tell("the triggerer is dead")
    case.airflow.wait_for(
        lambda: sum(sync.finished_at is not None for sync in many.simulator.syncs) >= many.total * 0.6,
        "syncs end meanwhile",
    )
    case.airflow.start("triggerer")
    many.wait_fired()
    many.judge()
    left = case.airflow.query("SELECT classpath FROM trigger")
    case.expect(not left, f"triggers are left over: {left}")
