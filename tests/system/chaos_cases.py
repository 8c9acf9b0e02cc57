"""What production does to waits, one function per case; each plays on real processes and judges by the simulator."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.simulator import Fault, Sync
from tests.system.chaos_stage import NEW_KEY, Case
from tests.system.settings import AIRFLOW_3, AIRFLOW_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.system.chaos_stage import HeldSimulator
    from tests.system.runs import Run

RECEIPT_IS_KEPT = AIRFLOW_VERSION >= (3, 3)
ERROR = "Webhook signature verification failed — check your signing secret"
SAME = -1 if RECEIPT_IS_KEPT else None
"""Which sync a retry names that goes on with that of the try before it: below 3.3 it attaches, and names none."""

RETRIED = 2 if AIRFLOW_3 else range(2, 4)
"""Tries after a lost worker: Airflow 2 may count one that it did not run."""

LOST = 26.0
"""Seconds after a worker's death at which its retry starts: the heartbeats that are missed, and what it takes."""

HANG = 25.0
"""Seconds; less than a request's time limit, more than it takes to kill a task."""

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
    tasks = ("lost_reading", "lost_reading_worker", "lost_posting", "lost_late")
    for task in tasks:
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=2 if RECEIPT_IS_KEPT else LOST + 30))
    for task in tasks[:2]:
        simulator.fail(Fault.slow(HANG), method="GET", path=f"/v1/integrations/int_{task}")
    simulator.fail(Fault.drop(), method="POST", path="/v1/integrations/int_lost_posting/sync", times=None)
    simulator.fail(Fault.slow(HANG / 2, after_effect=False), method="POST", path="/v1/integrations/int_lost_late/sync")
    run = case.run()
    for task in tasks[:2]:
        _kill_in_request(case, run, task, "GET")
    for task in tasks[2:]:
        _kill_in_request(case, run, task, "POST")
    case.expect(not simulator.syncs, "a sync had begun before the workers were dead")
    simulator.clear_faults()
    case.judge(run, tasks[:3], tries=RETRIED)
    # The late POST has started a sync by then: the retry goes on with it, and knows no id of it.
    case.judge(run, tasks[3:], tries=RETRIED, names=None)


@case("worker lost between POST and deferral", "worker and task")
def after_post(case: Case) -> None:
    """Kill workers whose POST took effect, but whose answer did not come yet."""
    tasks = ("still_running", "still_running_worker", "over_by_then", "over_by_then_worker")
    for task in tasks:
        # Below 3.3, a sync that ended meanwhile is not known to have been this task's.
        duration = 3 if RECEIPT_IS_KEPT and task.startswith("over") else LOST + 30
        case.simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=duration))
        case.simulator.fail(Fault.slow(HANG), method="POST", path=f"/v1/integrations/int_{task}/sync")
    run = case.run()
    for task in tasks:
        _kill_in_request(case, run, task, "POST")
    case.judge(run, tasks, tries=RETRIED, names=None)


@case("worker lost while it waits in worker mode", "worker and task")
def in_worker(case: Case) -> None:
    """Kill workers in the middle of their waits; one sync ends before the retry, one after."""
    tasks = {"still_running": LOST + 30, "over_by_then": 8 if RECEIPT_IS_KEPT else LOST + 30}
    for task, duration in tasks.items():
        case.simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=duration))
    run = case.run()
    _kill_waiting(case, run, tasks)
    case.judge(run, tasks, tries=RETRIED, names=SAME)


@case(
    "worker lost, its sync fails meanwhile: a new one",
    "worker and task",
    since=(3, 3),
    because="nothing remembers the sync",
)
def failed_meanwhile(case: Case) -> None:
    """Kill workers whose sync then fails: the retry knows, and starts another."""
    tasks = ("failed_posting", "failed_waiting")
    for task in tasks:
        case.simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=2))
        case.simulator.plan(f"int_{task}", Sync(start_delay=1, duration=8, error=ERROR))
    case.simulator.fail(Fault.slow(HANG), method="POST", path="/v1/integrations/int_failed_posting/sync")
    run = case.run()
    _kill_in_request(case, run, tasks[0], "POST")
    _kill_waiting(case, run, tasks[1:])
    case.judge(run, tasks, syncs=2, tries=range(2, 4))


def _kill_in_request(case: Case, run: Run, task: str, method: str) -> None:
    """Kill a task, and the worker above it, that is in the middle of a request."""
    case.airflow.wait_for(lambda: case.simulator.asked(task, method), f"{task} sends its {method}", run.tasks)
    case.airflow.kill_task(run, task)
    case.tell(f"{task} and its worker killed in the {method}")


def _kill_waiting(case: Case, run: Run, tasks: Iterable[str]) -> None:
    """Kill tasks, and the workers above them, that wait in a worker: they have their receipt, and say so."""
    for task in tasks:
        case.airflow.wait_for(lambda task=task: "Waiting for" in run.log(task), f"{task} waits", run.tasks)
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
    good, bad = Sync(start_delay=1, duration=5), Sync(start_delay=1, duration=5, error=ERROR)
    shapes = {"good": good, "good_worker": good, "bad": bad, "quick": Sync(duration=0)}
    runs = []
    for name, simulator in case.simulators.items():
        for task, shape in shapes.items():
            simulator.add_integration(f"int_{task}", sync=shape)
            simulator.fail(Fault.drop_after(), method="POST", path=f"/v1/integrations/int_{task}/sync")
        runs.append(case.airflow.trigger(name))
    for run in runs:
        run.wait()
        tasks = [task for task, _ in run.tasks()]
        posts = [len(case.simulators[run.dag_id].asked(task, "POST")) for task in tasks]
        case.expect(set(posts) == {2}, f"{run.dag_id}: {posts} POSTs of {tasks}, not two each")
        # In the queue, a repeated POST starts a second sync: that is what an honoured key is for.
        syncs = 2 if run.dag_id == "chaos_queue" else 1
        case.judge(run, tasks, syncs=syncs, names=None if run.dag_id == "chaos_conflict" else -1)


@case(
    "a sync is running already (409): attach",
    "-",
    {"chaos_running": {"when_running": "conflict"}},
    act=2,
)
def running(case: Case) -> None:
    """Ask for syncs on top of FloKit's own."""
    simulator, tasks = case.simulator, ("good", "good_worker", "bad")
    simulator.time.hold()
    for task in tasks:
        simulator.add_integration(f"int_{task}")
        simulator.run_scheduled_sync(f"int_{task}", Sync(duration=5, error=ERROR if task == "bad" else None))
    run = case.run()
    case.airflow.wait_for(lambda: all(simulator.asked(task, "POST") for task in tasks), "all have sent their POST")
    simulator.time.go()
    case.judge(run, tasks, syncs=0, names=None, said=("HTTP 409",))


# FloKit is away, or wants another key

MODES = {
    "sync_deferred_good": "deferred",
    "sync_deferred_bad": "deferred",
    "watch_deferred_good": "deferred",
    "watch_deferred_bad": "deferred",
    "sync_worker_good": "running",
    "watch_worker_good": "running",
}
RESCHEDULED = "watch_rescheduled_good"


def synced_after(simulator: HeldSimulator) -> dict[str, str]:
    """Return the conf of a run that waits for syncs from now on, by the simulator's time, or a minute before."""
    after = datetime.fromtimestamp(simulator.server_time(), UTC) - timedelta(minutes=1)
    return {"synced_after": after.isoformat()}


def start_all_modes(case: Case, first: float, last: float, **durations: float) -> Run:
    """Start waits of all modes, with time held; their syncs take longer and longer, from first to last (seconds)."""
    simulator = case.simulator
    simulator.time.hold()
    shapes = {}
    for index, task in enumerate((*MODES, RESCHEDULED)):
        duration = durations.get(task, first + index * (last - first) / len(MODES))
        shapes[task] = Sync(start_delay=2, duration=duration, error=ERROR if task.endswith("bad") else None)
        simulator.add_integration(f"int_{task}", sync=shapes[task])
    run = case.run(synced_after(simulator))
    run.wait_in({task: state for task, state in MODES.items() if state == "deferred"})
    # Those in a worker must have had their first answer: before it, a refusal is final.
    looked = [task for task in shapes if MODES.get(task) != "deferred"]
    case.airflow.wait_for(lambda: all("Waiting for" in run.log(task) for task in looked), "all wait", run.tasks)
    for task, shape in shapes.items():
        if task.startswith("watch"):
            simulator.run_scheduled_sync(f"int_{task}", shape)
    return run


def still_wait(case: Case, run: Run) -> None:
    """See that all waits go on."""
    states = run.tasks()
    case.expect(all(states[task, -1] == state for task, state in MODES.items()), f"the waits did not go on: {states}")


def judge_all_modes(case: Case, run: Run, *, worker_tries: int | range = 1) -> None:
    """Judge the waits that :func:`start_all_modes` started."""
    for task, state in MODES.items():
        syncs = 1 if task.startswith("sync") else 0
        if state == "deferred":
            case.judge(run, [task], syncs=syncs, runs=2)
        else:
            case.judge(run, [task], syncs=syncs, tries=worker_tries, names=-1 if worker_tries == 1 else SAME)
    case.judge(run, [RESCHEDULED], syncs=0, tries=1 if worker_tries == 1 else range(1, 3))


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
    airflow.cli("connections", "add", "chaos_rotation", "--conn-uri", simulator.connection_uri())
    run = start_all_modes(case, 5, 12)
    simulator.rotate_key(NEW_KEY)
    simulator.time.go()
    case.tell(f"the old key is dead, {ROTATED:g} s before the connection has the new one")
    time.sleep(ROTATED)
    still_wait(case, run)
    if AIRFLOW_3:
        body = {"connection_id": "chaos_rotation", "conn_type": "flokit", "password": NEW_KEY}
        airflow.api("PATCH", "/api/v2/connections/chaos_rotation?update_mask=password", body)
    else:
        airflow.cli("connections", "delete", "chaos_rotation")
        airflow.cli("connections", "add", "chaos_rotation", "--conn-uri", simulator.connection_uri(NEW_KEY))
    run.wait()
    case.expect(any(each.status == 401 for each in simulator.requests), "no wait has noticed that the old key is dead")
    judge_all_modes(case, run)


# What retries and people do


@case("failed sync, retries left: a new sync", "-")
def retries(case: Case) -> None:
    """Let the first sync fail."""
    tasks = ("failing", "failing_worker")
    for task in tasks:
        case.simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=2))
        case.simulator.plan(f"int_{task}", Sync(start_delay=1, duration=2, error=ERROR))
    run = case.run()
    run.wait()
    for task in tasks:
        first = run.log(task, try_number=1)
        case.expect(ERROR in first and "FlokitSyncFailedError" in first, f"{task}: no log says why try 1 failed")
    case.judge(run, tasks, syncs=2, tries=2)


@case("timed-out wait, retries left: the same sync", "-")
def slow(case: Case) -> None:
    """Let the sync take longer than the wait."""
    tasks = ("slow", "slow_worker")
    for task in tasks:
        case.simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=23))
    run = case.run()
    run.wait()
    for task in tasks:
        first = run.log(task, try_number=1)
        case.expect("FlokitWaitTimeoutError" in first, f"{task}: the log does not say that try 1 timed out")
    case.judge(run, tasks, tries=range(2, 20), names=SAME)


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
    tries = {"good": 1, "good_worker": 1, "bad": 2, "bad_worker": 1}
    for task, count in tries.items():
        case.simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=2))
        if task.startswith("bad"):
            case.simulator.plan(f"int_{task}", *[Sync(start_delay=1, duration=2, error=ERROR)] * count)
    run = case.run()
    for task, count in tries.items():
        case.judge(run, [task], syncs=count, tries=count)
    clear(case, run, *tries)
    case.tell("all tasks are cleared")
    case.airflow.wait_for(lambda: run.state() not in ("success", "failed"), "the run goes on")
    for task, count in tries.items():
        case.judge(run, [task], syncs=count + 1, tries=count + 1)


@case("wait past its timeout", "-")
def timeout(case: Case) -> None:
    """Let nothing happen until the waits are over."""
    watches, syncs = ("late_watch", "late_watch_worker"), ("late_sync", "late_sync_worker")
    for task in (*watches, *syncs, "late_watch_soft"):
        case.simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=600))
    run = case.run({"synced_after": (datetime.now(UTC) + timedelta(days=1)).isoformat()})
    run.wait()
    said = "not ready within 12 s"
    case.judge(run, watches, state="failed", syncs=0, said=("AirflowSensorTimeout", said))
    case.judge(run, ["late_watch_soft"], state="skipped", syncs=0, said=(said,))
    case.judge(run, syncs, state="failed", said=("FlokitWaitTimeoutError", said))


# Airflow itself


@case("scheduler lost in the middle of the wait", "scheduler, all workers", act=3)
def scheduler(case: Case) -> None:
    """Kill the scheduler and all of its workers under waits; start it again when half the syncs are over."""
    # Below 3.3, a sync that ended meanwhile is not known to have been this task's.
    run = start_all_modes(case, 3, 20, **({} if RECEIPT_IS_KEPT else {"sync_worker_good": LOST + 30}))
    case.airflow.kill("scheduler", "worker")
    case.tell("the scheduler and all workers are dead for 10 s")
    case.simulator.time.go()
    time.sleep(10)
    case.airflow.start("scheduler", "worker")
    judge_all_modes(case, run, worker_tries=RETRIED)


@case("start_from_trigger: no worker for the wait", "triggerer", act=4)
def started(case: Case) -> None:
    """Kill the triggerer under sensors that no worker started; syncs end before, meanwhile and after."""
    simulator = case.simulator
    before, down, after = ("plain", "interval"), ("conf", "failing"), ("id_of_conf", "unrendered", "failing_after")
    late = ("late", "late_soft")
    for task in (*before, *down, *after, *late):
        long_ago = {"last_synced_at": "2025-12-31T00:00:00Z"} if task == "plain" else {}
        simulator.add_integration(f"int_{task}", **long_ago)
    now = datetime.fromtimestamp(simulator.server_time(), UTC).isoformat()
    run = case.run({"synced_after": now, "integration_id": "int_id_of_conf"})
    run.wait_in(dict.fromkeys((*before, *down, *after, *late), "deferred"))

    def sync(*tasks: str) -> None:
        for task in tasks:
            error = ERROR if task.startswith("failing") else None
            simulator.run_scheduled_sync(f"int_{task}", Sync(start_delay=0.5, duration=1, error=error))

    sync(*before)
    run.wait_in(dict.fromkeys(before, "success"))
    case.airflow.kill("triggerer")
    case.tell("the triggerer is dead")
    sync(*down)
    case.airflow.wait_for(lambda: all(sync.finished_at for sync in simulator.syncs), "syncs end meanwhile")
    case.airflow.start("triggerer")
    run.wait_in({"conf": "success", "failing": "failed"})
    sync(*after)
    run.wait()
    # A worker runs only what comes after the wait; other Airflows than 3.3 render nothing in the triggerer.
    for task in (*before, *down, *after):
        runs = 2 if task == "unrendered" else 1
        case.judge(run, [task], syncs=0, runs=runs if RECEIPT_IS_KEPT else None)
    said, runs = "not ready within 30 s", 1 if RECEIPT_IS_KEPT else None
    case.judge(run, ["late"], state="failed", syncs=0, said=("AirflowSensorTimeout", said), runs=runs)
    case.judge(run, ["late_soft"], state="skipped", syncs=0, said=(said,), runs=runs)


# Waits in the triggerer: of operators, of sensors for FloKit's own syncs, of sensors with a receipt. A worker of
# Airflow 2 takes four times as long.
LOCAL_MANY = {
    "chaos_triggerer": {"sync": 160, "watch": 120, "start": 20} if AIRFLOW_3 else {"sync": 45, "watch": 35, "start": 10}
}


def shape_of(index: int) -> tuple[Sync, str | None]:
    """Return how a sync goes, and the error that its integration shows before."""
    # Two of nine end before the kill, four while nobody looks, three when a triggerer has the waits again.
    spread = (index * 7 % 16) / 2  # so that the waits do not end all at once
    before = {"start_delay": 1, "duration": 1 + spread}
    down = {"start_delay": 11, "duration": 2}
    after = {"start_delay": 5, "duration": 28 + spread}
    return (
        (Sync(**before), None),
        (Sync(**before, error=ERROR), None),
        (Sync(**down), None),
        (Sync(**down, error=ERROR), None),
        (Sync(**after), None),
        (Sync(**after, error=ERROR), None),
        (Sync(**down), "The card reader is on fire"),
        (Sync(**after), "The card reader is on fire"),
        (Sync(**down, error=ERROR), ERROR),  # the same error again, behind the triggerer's back
    )[index % 9]


class Many:
    """Dozens or hundreds of deferred waits in one run of a DAG, named as its connection; time is held."""

    def __init__(self, case: Case, name: str) -> None:
        self.case = case
        self.simulator: HeldSimulator = case.simulators[name]
        self.simulator.time.hold()
        self.counts = case.many[name]
        self.total = sum(self.counts.values())
        for kind, count in self.counts.items():
            for index in range(count):
                shape, error = shape_of(index)
                fields: Any = {"status": "error", "error_message": error} if error and kind != "watch" else {}
                self.simulator.add_integration(f"int_{kind}_{index}", sync=shape, **fields)
        self.run = case.airflow.trigger(name, synced_after(self.simulator))
        self._wait_deferred(lambda number: number == self.total, f"{self.total} waits are deferred")
        for index in range(self.counts["watch"]):
            self.simulator.run_scheduled_sync(f"int_watch_{index}", shape_of(index)[0])
        case.tell(f"{self.total} waits are deferred")

    def _wait_deferred(self, holds: Callable[[int], bool], what: str) -> None:
        def deferred() -> int:
            return self.run.count("deferred")

        self.case.airflow.wait_for(lambda: holds(deferred()), what, deferred)

    def go(self) -> None:
        """Let time go on until some waits have ended, while most still wait."""
        self.simulator.time.go()
        self._wait_deferred(lambda number: number < self.total, "some waits have ended")
        ended = self.total - self.run.count("deferred")
        self.case.expect(ended < self.total / 2, f"{ended} waits had ended by then")

    def wait_fired(self) -> None:
        """Wait until no wait is deferred any more."""
        self._wait_deferred(lambda number: not number, "no wait is deferred any more")
        self.case.tell("all triggers have fired")

    def judge(self) -> None:
        """Judge all of them: each was run by a worker twice, before its deferral and after."""
        for kind, count in self.counts.items():
            tasks = [("follow" if kind == "start" else kind, index) for index in range(count)]
            # Airflow 2 counts a try that it did not run for mapped tasks that had to wait for others.
            tries = range(1, 3) if kind == "start" and not AIRFLOW_3 else 1
            self.case.judge(self.run, tasks, syncs=0 if kind == "watch" else 1, tries=tries, runs=2)
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
    left = case.airflow.query("SELECT count(*) FROM trigger")[0][0]
    case.expect(left == 0, f"{left} triggers are left over")
