"""What production does to waits, one function per case; each plays on real processes and judges by the simulator."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.simulator import Fault, Sync
from tests.system.chaos_judge import ENDINGS, judge
from tests.system.chaos_stage import NEW_KEY, Case
from tests.system.settings import AIRFLOW_3, AIRFLOW_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.system.chaos_stage import HeldSimulator, Row, Run, Stage

RECEIPT_IS_KEPT = AIRFLOW_VERSION >= (3, 3)
ERROR = "Webhook signature verification failed — check your signing secret"
SAME = -1 if RECEIPT_IS_KEPT else None
"""Which sync a retry names that goes on with that of the try before it: below 3.3 it attaches, and names none."""

RETRIED = 2 if AIRFLOW_3 else range(2, 4)
"""Tries after a lost worker: Airflow 2 may count one that it did not run."""

LOST = 26.0
"""Seconds after a worker's death at which its retry starts: the heartbeats that are missed, and what it takes."""

CASES: list[Case] = []


def case(
    name: str, title: str, killed: str, simulators: Mapping[str, Mapping[str, Any]] | None = None, **settings: Any
) -> Callable[[Callable[[Stage, Row], None]], Callable[[Stage, Row], None]]:
    """Add a function to the cases; its simulator has the name of its DAG unless others are given."""

    def add(play: Callable[[Stage, Row], None]) -> Callable[[Stage, Row], None]:
        simulators_of = {f"chaos_{name}": {}} if simulators is None else simulators
        CASES.append(Case(name, title, killed, play, simulators_of, **settings))
        return play

    return add


# Workers

_HANG = 25.0  # seconds; less than a request's time limit, more than it takes to kill a task


@case("before_post", "worker lost before the POST", "worker and task")
def before_post(stage: Stage, row: Row) -> None:
    """Kill workers that read the baseline, that try to POST in vain, and whose POST arrives when they are dead."""
    simulator = stage.simulators["chaos_before_post"]
    tasks = ("lost_reading", "lost_reading_worker", "lost_posting", "lost_late")
    for task in tasks:
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=2 if RECEIPT_IS_KEPT else LOST + 30))
    for task in tasks[:2]:
        simulator.fail(Fault.slow(_HANG), method="GET", path=f"/v1/integrations/int_{task}")
    simulator.fail(Fault.drop(), method="POST", path="/v1/integrations/int_lost_posting/sync", times=None)
    simulator.fail(Fault.slow(_HANG / 2, after_effect=False), method="POST", path="/v1/integrations/int_lost_late/sync")
    run = stage.run("chaos_before_post")
    for task in tasks[:2]:
        _kill_in_request(stage, run, task, simulator, "GET")
    for task in tasks[2:]:
        _kill_in_request(stage, run, task, simulator, "POST")
    row.expect(not simulator.syncs, "a sync had begun before the workers were dead")
    simulator.clear_faults()
    stage.end(run)
    judge(stage, row, run, tasks[:3], conn_id="chaos_before_post", syncs=1, tries=RETRIED)
    # The late POST has started a sync by then: the retry goes on with it, and knows no id of it.
    judge(stage, row, run, tasks[3:], conn_id="chaos_before_post", syncs=1, tries=RETRIED, names=None)


@case("after_post", "worker lost between POST and deferral", "worker and task")
def after_post(stage: Stage, row: Row) -> None:
    """Kill workers whose POST took effect, but whose answer did not come yet."""
    simulator = stage.simulators["chaos_after_post"]
    tasks = {
        "still_running": LOST + 30,
        "still_running_worker": LOST + 30,
        "over_by_then": 3,
        "over_by_then_worker": 3,
    }
    if not RECEIPT_IS_KEPT:  # a sync that ended meanwhile is not known to have been this task's
        tasks = dict.fromkeys(tasks, LOST + 30)
    for task, duration in tasks.items():
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=duration))
        simulator.fail(Fault.slow(_HANG), method="POST", path=f"/v1/integrations/int_{task}/sync")
    run = stage.run("chaos_after_post")
    for task in tasks:
        _kill_in_request(stage, run, task, simulator, "POST")
    stage.end(run)
    judge(stage, row, run, tasks, conn_id="chaos_after_post", syncs=1, tries=RETRIED, names=None)


@case("in_worker", "worker lost while it waits in worker mode", "worker and task")
def in_worker(stage: Stage, row: Row) -> None:
    """Kill workers in the middle of their waits; one sync ends before the retry, one after."""
    simulator = stage.simulators["chaos_in_worker"]
    tasks = {"still_running": LOST + 30, "over_by_then": 8 if RECEIPT_IS_KEPT else LOST + 30}
    for task, duration in tasks.items():
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=duration))
    run = stage.run("chaos_in_worker")
    _kill_waiting(stage, run, tasks)
    stage.end(run)
    judge(stage, row, run, tasks, conn_id="chaos_in_worker", syncs=1, tries=RETRIED, names=SAME)


@case(
    "failed_meanwhile",
    "worker lost, its sync fails meanwhile: a new one",
    "worker and task",
    since=(3, 3),
    because="nothing remembers the sync",
)
def failed_meanwhile(stage: Stage, row: Row) -> None:
    """Kill workers whose sync then fails: the retry knows, and starts another."""
    simulator = stage.simulators["chaos_failed_meanwhile"]
    tasks = ("failed_posting", "failed_waiting")
    for task in tasks:
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=2))
        simulator.plan(f"int_{task}", Sync(start_delay=1, duration=8, error=ERROR))
    simulator.fail(Fault.slow(_HANG), method="POST", path="/v1/integrations/int_failed_posting/sync")
    run = stage.run("chaos_failed_meanwhile")
    _kill_in_request(stage, run, tasks[0], simulator, "POST")
    _kill_waiting(stage, run, tasks[1:])
    stage.end(run)
    judge(stage, row, run, tasks, conn_id="chaos_failed_meanwhile", syncs=2, tries=range(2, 4))


def _kill_in_request(stage: Stage, run: Run, task: str, simulator: HeldSimulator, method: str) -> None:
    """Kill a task, and the worker above it, that is in the middle of a request."""

    def asked() -> bool:
        return any(r.integration_id == f"int_{task}" and r.method == method for r in simulator.requests)

    stage.until(asked, 90, f"{task} sends its {method}", lambda: stage.airflow.task_states(*run))
    stage.airflow.kill_task(*run, task)
    stage.tell(f"{run.dag_id}.{task} and its worker killed in the {method}")


def _kill_waiting(stage: Stage, run: Run, tasks: Iterable[str]) -> None:
    """Kill tasks, and the workers above them, that wait in a worker: they have their receipt, and say so."""

    def waits(task: str) -> bool:
        return "Waiting for" in stage.airflow.task_log(*run, task)

    for task in tasks:
        stage.until(lambda task=task: waits(task), 90, f"{task} waits", lambda: stage.airflow.task_states(*run))
        stage.airflow.kill_task(*run, task)
        stage.tell(f"{run.dag_id}.{task} and its worker killed while it waited")


# The request that starts a sync


@case(
    "ambiguous",
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
def ambiguous(stage: Stage, row: Row) -> None:
    """Drop the connection under POSTs, with keys honoured and not, whatever a POST then does on top of a sync."""
    shapes = {
        "good": Sync(start_delay=1, duration=5),
        "good_worker": Sync(start_delay=1, duration=5),
        "bad": Sync(start_delay=1, duration=5, error=ERROR),
        "quick": Sync(duration=0),
    }
    runs = {}
    for name in ("chaos_honoured", "chaos_join", "chaos_queue", "chaos_conflict"):
        simulator = stage.simulators[name]
        for task, shape in shapes.items():
            simulator.add_integration(f"int_{task}", sync=shape)
            simulator.fail(Fault.drop_after(), method="POST", path=f"/v1/integrations/int_{task}/sync")
        runs[name] = stage.run(name)
    for name, run in runs.items():
        stage.end(run)
        queue = name == "chaos_queue"
        tasks = [task for task, _ in stage.airflow.task_states(*run)]
        posts = [len(stage.simulators[name].posts(f"int_{task}")) for task in tasks]
        row.expect(all(count == 2 for count in posts), f"{name}: {posts} POSTs of {tasks}, not two each")
        # In the queue, a repeated POST starts a second sync: that is what an honoured key is for.
        judge(
            stage,
            row,
            run,
            tasks,
            conn_id=name,
            syncs=2 if queue else 1,
            names=None if name == "chaos_conflict" else -1,
        )


@case(
    "running",
    "a sync is running already (409): attach",
    "-",
    {"chaos_running": {"when_running": "conflict"}},
    act=2,
)
def running(stage: Stage, row: Row) -> None:
    """Ask for syncs on top of FloKit's own."""
    simulator = stage.simulators["chaos_running"]
    simulator.time.hold()
    tasks = ("good", "good_worker", "bad")
    for task in tasks:
        simulator.add_integration(f"int_{task}")
        simulator.run_scheduled_sync(f"int_{task}", Sync(duration=5, error=ERROR if task == "bad" else None))
    run = stage.run("chaos_running")
    stage.until(lambda: all(simulator.posts(f"int_{task}") for task in tasks), 90, "all have sent their POST")
    simulator.time.go()
    stage.end(run)
    for task in tasks:
        log = stage.airflow.task_log(*run, task)
        row.expect("HTTP 409" in log, f"{task}: the log does not say that it attached")
    judge(stage, row, run, tasks, conn_id="chaos_running", syncs=0, names=None)


# FloKit is away, or wants another key

_MODES = {
    "sync_deferred_good": "deferred",
    "sync_deferred_bad": "deferred",
    "watch_deferred_good": "deferred",
    "watch_deferred_bad": "deferred",
    "sync_worker_good": "running",
    "watch_worker_good": "running",
}
_RESCHEDULED = "watch_rescheduled_good"


def start_all_modes(stage: Stage, name: str, durations: Mapping[str, float]) -> Run:
    """Start waits of all modes, with time held; return when all of them wait and FloKit's own syncs are under way."""
    simulator = stage.simulators[name]
    simulator.time.hold()
    for task in (*_MODES, _RESCHEDULED):
        error = ERROR if task.endswith("bad") else None
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=2, duration=durations[task], error=error))
    after = datetime.fromtimestamp(simulator.server_time(), UTC) - timedelta(minutes=1)
    run = stage.run(name, {"synced_after": after.isoformat()})

    def all_wait() -> bool:
        now = stage.airflow.task_states(*run)
        return (
            all(now[task, -1] == state for task, state in _MODES.items())
            and bool(simulator.manual("int_sync_worker_good"))
            and now[_RESCHEDULED, -1] in ("up_for_reschedule", "running")
        )

    stage.until(all_wait, 120, f"{name}: all wait", lambda: stage.airflow.task_states(*run))
    for task in (*_MODES, _RESCHEDULED):
        if task.startswith("watch"):
            error = ERROR if task.endswith("bad") else None
            simulator.run_scheduled_sync(f"int_{task}", Sync(start_delay=2, duration=durations[task], error=error))
    # Each has asked once more by then: none is still at its start.
    asked = len(simulator.requests)
    stage.until(lambda: len(simulator.requests) >= asked + 12, 60, f"{name}: all ask")
    return run


def judge_all_modes(stage: Stage, row: Row, run: Run, *, worker_tries: int | range = 1) -> None:
    """Judge the waits that :func:`start_all_modes` started."""
    deferred = [task for task, state in _MODES.items() if state == "deferred"]
    worker = [task for task, state in _MODES.items() if state == "running"]
    names = -1 if worker_tries == 1 else SAME
    for kind, syncs in (("sync", 1), ("watch", 0)):
        one = [task for task in deferred if task.startswith(kind)]
        judge(stage, row, run, one, conn_id=run.dag_id, syncs=syncs, runs=2)
        one = [task for task in worker if task.startswith(kind)]
        judge(stage, row, run, one, conn_id=run.dag_id, syncs=syncs, tries=worker_tries, names=names)
    tries = worker_tries if worker_tries == 1 else range(1, 3)
    judge(stage, row, run, [_RESCHEDULED], conn_id=run.dag_id, syncs=0, tries=tries)


def staggered(first: float, last: float) -> dict[str, float]:
    """Return durations of the syncs of all modes, from the first to the last."""
    tasks = [*_MODES, _RESCHEDULED]
    step = (last - first) / (len(tasks) - 1)
    return {task: first + index * step for index, task in enumerate(tasks)}


OUTAGE = 35.0
"""Seconds; stands for minutes: pauses grow to 30 s at most, so nothing changes after that."""


@case("outage", f"FloKit is down for {OUTAGE:g} s (stands for minutes)", "FloKit", act=2)
def outage(stage: Stage, row: Row) -> None:
    """Take FloKit away under waits of all modes; half of the syncs end meanwhile."""
    simulator = stage.simulators["chaos_outage"]
    run = start_all_modes(stage, "chaos_outage", staggered(OUTAGE / 2, OUTAGE * 1.5))
    simulator.stop()
    simulator.time.go()
    stage.tell(f"chaos_outage: the simulator is down for {OUTAGE:g} s")
    stage.idle(OUTAGE)
    row.expect(
        all(stage.airflow.task_states(*run)[task, -1] == state for task, state in _MODES.items()),
        f"the waits did not go on: {stage.airflow.task_states(*run)}",
    )
    simulator.start()
    stage.tell("chaos_outage: the simulator is up again")
    stage.end(run)
    judge_all_modes(stage, row, run)


ROTATED = 40.0
"""Seconds until somebody has put the new key into the connection."""


@case("rotation", f"API key rotated, the connection updated {ROTATED:g} s later", "the old key", act=2)
def rotation(stage: Stage, row: Row) -> None:
    """Replace the key in FloKit under waits of all modes, and later in Airflow's database; all syncs end meanwhile."""
    simulator = stage.simulators["chaos_rotation"]
    stage.set_connection("chaos_rotation", simulator, simulator.api_key, new=True)
    run = start_all_modes(stage, "chaos_rotation", staggered(5, 12))
    simulator.rotate_key(NEW_KEY)
    simulator.time.go()
    stage.tell("chaos_rotation: the old key is dead")
    stage.idle(ROTATED)
    row.expect(
        all(stage.airflow.task_states(*run)[task, -1] == state for task, state in _MODES.items()),
        f"the waits did not go on: {stage.airflow.task_states(*run)}",
    )
    stage.set_connection("chaos_rotation", simulator, NEW_KEY, new=False)
    stage.tell("chaos_rotation: the connection has the new key")
    stage.end(run)
    refused = [request for request in simulator.requests if request.status == 401]
    row.expect(refused, "no wait has noticed that the old key is dead")
    judge_all_modes(stage, row, run)


# What retries and people do


@case("retries", "failed sync, retries left: a new sync", "-")
def retries(stage: Stage, row: Row) -> None:
    """Let the first sync fail."""
    simulator = stage.simulators["chaos_retries"]
    tasks = ("failing", "failing_worker")
    for task in tasks:
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=2))
        simulator.plan(f"int_{task}", Sync(start_delay=1, duration=2, error=ERROR))
    run = stage.run("chaos_retries")
    stage.end(run)
    for task in tasks:
        first = stage.airflow.task_log(*run, task, try_number=1)
        row.expect(
            ERROR in first and "FlokitSyncFailedError" in first, f"{task}: the log does not say why try 1 failed"
        )
    judge(stage, row, run, tasks, conn_id="chaos_retries", syncs=2, tries=2)


@case("slow", "timed-out wait, retries left: the same sync", "-")
def slow(stage: Stage, row: Row) -> None:
    """Let the sync take longer than the wait."""
    simulator = stage.simulators["chaos_slow"]
    tasks = ("slow", "slow_worker")
    for task in tasks:
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=23))
    run = stage.run("chaos_slow")
    stage.end(run)
    for task in tasks:
        first = stage.airflow.task_log(*run, task, try_number=1)
        row.expect("FlokitWaitTimeoutError" in first, f"{task}: the log does not say that try 1 timed out")
    judge(stage, row, run, tasks, conn_id="chaos_slow", syncs=1, tries=range(2, 20), names=SAME)


@case("cleared", "ended task cleared by the user: starts anew", "-")
def cleared(stage: Stage, row: Row) -> None:
    """Clear tasks that succeeded and tasks that failed for good."""
    simulator = stage.simulators["chaos_cleared"]
    tries = {"good": 1, "good_worker": 1, "bad": 2, "bad_worker": 1}
    for task, count in tries.items():
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=2))
        if task.startswith("bad"):
            simulator.plan(f"int_{task}", *[Sync(start_delay=1, duration=2, error=ERROR)] * count)
    run = stage.run("chaos_cleared")
    stage.end(run)
    for task, count in tries.items():
        judge(stage, row, run, [task], conn_id="chaos_cleared", syncs=count, tries=count)
    stage.tell("chaos_cleared: all tasks are cleared")
    stage.clear(run, *tries)
    stage.until(lambda: stage.airflow.run_state(*run) not in ("success", "failed"), 30, "the run goes on")
    stage.end(run)
    for task, count in tries.items():
        judge(stage, row, run, [task], conn_id="chaos_cleared", syncs=count + 1, tries=count + 1)


@case("timeout", "wait past its timeout", "-")
def timeout(stage: Stage, row: Row) -> None:
    """Let nothing happen until the waits are over."""
    simulator = stage.simulators["chaos_timeout"]
    watches, syncs = ("late_watch", "late_watch_worker"), ("late_sync", "late_sync_worker")
    for task in (*watches, "late_watch_soft"):
        simulator.add_integration(f"int_{task}")
    for task in syncs:
        simulator.add_integration(f"int_{task}", sync=Sync(start_delay=1, duration=600))
    run = stage.run("chaos_timeout", {"synced_after": (datetime.now(UTC) + timedelta(days=1)).isoformat()})
    stage.end(run)
    told = ("AirflowSensorTimeout", "not ready within 12 s")
    judge(stage, row, run, watches, conn_id="chaos_timeout", state="failed", syncs=0, said=told)
    judge(stage, row, run, ["late_watch_soft"], conn_id="chaos_timeout", state="skipped", syncs=0, said=told[1:])
    told = ("FlokitWaitTimeoutError", "not ready within 12 s")
    judge(stage, row, run, syncs, conn_id="chaos_timeout", state="failed", syncs=1, said=told)


# Airflow itself


@case("scheduler", "scheduler lost in the middle of the wait", "scheduler, all workers", act=3)
def scheduler(stage: Stage, row: Row) -> None:
    """Kill the scheduler and all of its workers under waits; start it again when half the syncs are over."""
    simulator = stage.simulators["chaos_scheduler"]
    durations = staggered(3, 20)
    if not RECEIPT_IS_KEPT:  # a sync that ended meanwhile is not known to have been this task's
        durations["sync_worker_good"] = LOST + 30
    run = start_all_modes(stage, "chaos_scheduler", durations)
    stage.airflow.kill("scheduler")
    simulator.time.go()
    stage.tell("the scheduler and all workers are dead for 10 s")
    stage.idle(10)
    stage.restart("scheduler")
    stage.end(run)
    judge_all_modes(stage, row, run, worker_tries=RETRIED)


@case("started", "start_from_trigger: no worker for the wait", "triggerer", act=4)
def started(stage: Stage, row: Row) -> None:
    """Kill the triggerer under sensors that no worker started; syncs end before, meanwhile and after."""
    simulator = stage.simulators["chaos_started"]
    renders = AIRFLOW_VERSION >= (3, 3)
    before, down, after = ("plain", "interval"), ("conf", "failing"), ("id_of_conf", "unrendered", "failing_after")
    for task in (*before, *down, *after, "late", "late_soft"):
        simulator.add_integration(f"int_{task}")
    now = datetime.fromtimestamp(simulator.server_time(), UTC)
    run = stage.run("chaos_started", {"synced_after": now.isoformat(), "integration_id": "int_id_of_conf"})
    stage.until_in(run, dict.fromkeys((*before, *down, *after, "late", "late_soft"), "deferred"))
    waiting_since = datetime.now(UTC)
    stage.idle(2)
    for task in (*before, *down, *after):
        ran = stage.events(run, task)["running"]
        wanted = 1 if task == "unrendered" else 0
        row.expect(not renders or ran == wanted, f"{task}: a worker ran it {ran} times before the trigger fired")

    def sync(*tasks: str) -> None:
        for task in tasks:
            error = ERROR if task.startswith("failing") else None
            simulator.run_scheduled_sync(f"int_{task}", Sync(start_delay=0.5, duration=1, error=error))

    sync(*before)
    stage.until_in(run, dict.fromkeys(before, "success"))
    stage.airflow.kill("triggerer")
    stage.tell("the triggerer is dead for 5 s")
    sync(*down)
    stage.idle(5)
    stage.restart("triggerer")
    stage.until_in(run, {"conf": "success", "failing": "failed"})
    sync(*after)
    stage.end(run)
    for task in (*before, *down, *after):
        runs = (2 if task == "unrendered" else 1) if renders else None
        judge(stage, row, run, [task], conn_id="chaos_started", syncs=0, runs=runs)
    runs = 1 if renders else None
    told = ("AirflowSensorTimeout", "not ready within 30 s")
    judge(stage, row, run, ["late"], conn_id="chaos_started", state="failed", syncs=0, said=told, runs=runs)
    judge(stage, row, run, ["late_soft"], conn_id="chaos_started", state="skipped", syncs=0, said=told[1:], runs=runs)
    took = (stage.ended_at(run, "late") - waiting_since).total_seconds()
    row.expect(20 < took < 45, f"late: a wait of 30 s took {took:.0f} s, with 5 s without a triggerer")


# A worker of Airflow 2 takes four times as long.
COUNTS = {"sync": 160, "watch": 120, "start": 20} if AIRFLOW_3 else {"sync": 45, "watch": 35, "start": 10}
"""Waits in the triggerer: of operators, of sensors for FloKit's own syncs, of sensors with a receipt."""

START_TIMEOUT = 45.0
_DOWN, _UP = 10.0, 22.0  # the triggerer is killed, and is started again, so many seconds after time goes on


def shape_of(index: int) -> tuple[Sync, str | None]:
    """Return how a sync goes, and the error that its integration shows before."""
    spread = (index * 7 % 16) / 2  # so that the waits do not end all at once
    before, down, after = Sync(start_delay=1, duration=1 + spread), _DOWN + 1, _UP + 6 + spread
    return (
        (before, None),
        (Sync(start_delay=1, duration=1 + spread, error=ERROR), None),
        (Sync(start_delay=down, duration=2), None),
        (Sync(start_delay=down, duration=2, error=ERROR), None),
        (Sync(start_delay=5, duration=after), None),
        (Sync(start_delay=5, duration=after, error=ERROR), None),
        (Sync(start_delay=down, duration=2), "The card reader is on fire"),
        (Sync(start_delay=5, duration=after), "The card reader is on fire"),
        (Sync(start_delay=down, duration=2, error=ERROR), ERROR),  # the same error again, behind the triggerer's back
    )[index % 9]


@case("triggerer", "triggerer lost in the middle of the wait", "triggerer", act=5)
def triggerer(stage: Stage, row: Row) -> None:
    """Kill the triggerer under hundreds of waits, while some fire; syncs end before, meanwhile and after."""
    simulator = stage.simulators["chaos_triggerer"]
    simulator.time.hold()
    counts = stage.counts
    mapped = [(kind, index) for kind in counts for index in range(counts[kind])]
    for kind, index in mapped:
        shape, error = shape_of(index)
        fields: dict[str, Any] = {"status": "error", "error_message": error} if error and kind != "watch" else {}
        simulator.add_integration(f"int_{kind}_{index}", sync=shape, **fields)
    after = datetime.fromtimestamp(simulator.server_time(), UTC) - timedelta(minutes=1)
    stage.add_pool("chaos_triggerer", 6)
    began = time.monotonic()
    run = stage.run("chaos_triggerer", {"synced_after": after.isoformat()})
    total = sum(counts.values())

    def deferred() -> int:
        return list(stage.airflow.task_states(*run).values()).count("deferred")

    stage.until(lambda: deferred() == total, 420, f"{total} waits are deferred", deferred)
    stage.tell(f"{total} waits are deferred, after {time.monotonic() - began:.0f} s")
    for index in range(counts["watch"]):
        simulator.run_scheduled_sync(f"int_watch_{index}", shape_of(index)[0])
    simulator.time.go()
    stage.idle(_DOWN)
    stage.airflow.kill("triggerer")
    fired = total - deferred()
    stage.tell(f"the triggerer is dead for {_UP - _DOWN:g} s; {fired} waits had ended")
    row.expect(0 < fired < total / 2, f"{fired} waits had ended when the triggerer was killed")
    stage.idle(_UP - _DOWN)
    stage.restart("triggerer")
    stage.until(lambda: deferred() == 0, 120, "no wait is deferred any more", deferred)
    stage.tell("all triggers have fired")
    stage.end(run, 240)
    for kind, task in (("sync", "sync"), ("watch", "watch"), ("start", "follow")):
        tasks = [(task, index) for index in range(counts[kind])]
        syncs = 0 if kind == "watch" else 1
        # Airflow 2 counts a try that it did not run for mapped tasks that had to wait for others.
        tries = range(1, 3) if task == "follow" and not AIRFLOW_3 else 1
        judge(stage, row, run, tasks, conn_id="chaos_triggerer", syncs=syncs, tries=tries, runs=2)
    left = stage.airflow.query("SELECT count(*) FROM trigger")[0][0]
    row.expect(left == 0, f"{left} triggers are left over")
    states = stage.airflow.task_states(*run)
    row.expect(
        all(states["start", index] == "success" for index in range(counts["start"])), "not all syncs were started"
    )
    row.expect(set(states.values()) <= ENDINGS, f"{set(states.values())}")
