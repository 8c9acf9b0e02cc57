"""What the chaos cases play on: simulators whose time can be stopped, one Airflow, and the judgement of waits."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.simulator import Simulator, Sync
from tests.system.runs import plain_xcom
from tests.system.settings import AIRFLOW_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_provider_flokit.simulator import Fault, RecordedRequest, SyncRun
    from tests.system.celery_airflow import CeleryAirflow
    from tests.system.runs import Run

OLD_KEY, NEW_KEY = "fk_rw_chaos_first", "fk_rw_chaos_second"
ERROR = "Webhook signature verification failed — check your signing secret"
ENDINGS = frozenset({"success", "failed", "skipped"})
BEGAN = time.monotonic()


class HeldClock:
    """The wall clock, but it can be stopped: syncs stand still until all that should wait for them does."""

    def __init__(self) -> None:
        self._lost = 0.0
        self._held: float | None = None

    def __call__(self) -> float:
        """Return the present moment in seconds since the epoch."""
        return time.time() - self._lost if self._held is None else self._held

    def hold(self) -> None:
        """Stop."""
        self._held = self()

    def go(self) -> None:
        """Go on from where it stopped."""
        held, self._held = self(), None
        self._lost = time.time() - held


class HeldSimulator(Simulator):
    """A simulator whose time can be stopped; each task has the integration ``int_TASK``."""

    def __init__(self, **switches: Any) -> None:
        self.time = HeldClock()
        super().__init__(api_key=OLD_KEY, clock=self.time, **switches)

    def add(self, tasks: Iterable[str], sync: Sync, *planned: Sync) -> None:
        """Add the integrations of tasks; the syncs of a task that has "bad" in its name fail."""
        for task in tasks:
            how = replace(sync, error=ERROR) if "bad" in task else sync
            self.add_integration(f"int_{task}", sync=how)
            self.plan(f"int_{task}", *planned)

    def fail_post(self, task: str, fault: Fault, times: int | None = 1) -> None:
        """Make a task's POST fail."""
        self.fail(fault, method="POST", path=f"/v1/integrations/int_{task}/sync", times=times)

    def asked(self, task: str, method: str) -> list[RecordedRequest]:
        """Return the requests for a task's integration, also those that have no answer yet."""
        return [each for each in self.requests if (each.integration_id, each.method) == (f"int_{task}", method)]

    def synced_after(self) -> dict[str, str]:
        """Return the conf of a run that waits for syncs from now on, or from a minute before."""
        after = datetime.fromtimestamp(self.server_time(), UTC) - timedelta(minutes=1)
        return {"synced_after": after.isoformat()}


@dataclass
class Case:
    """One thing that production does to a wait, and what came of it."""

    name: str
    title: str
    killed: str
    play: Callable[[Case], None]
    switches: Mapping[str, Mapping[str, Any]]  # of its simulators, by connection: its DAG's name
    act: int = 1  # cases of one act are played at the same time; those that kill a component have one of their own
    since: tuple[int, int] = (2, 11)  # the oldest Airflow on which it makes sense
    stage: str = ""  # the only one that has what it needs, if not all have

    simulators: dict[str, HeldSimulator] = field(default_factory=dict)
    many: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    waits: int = 0
    right: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    airflow: CeleryAirflow = field(init=False)  # or a LocalAirflow, for what both have

    @property
    def simulator(self) -> HeldSimulator:
        """The simulator of the case's own DAG."""
        return self.simulators[f"chaos_{self.name}"]

    @property
    def syncs(self) -> int:
        """How many syncs were started by POST."""
        return sum(sync.trigger == "manual" for simulator in self.simulators.values() for sync in simulator.syncs)

    @property
    def here(self) -> bool:
        """Whether this Airflow can play it."""
        return self.since <= AIRFLOW_VERSION

    @property
    def ok(self) -> bool:
        """Whether everything was right."""
        return not self.here or (not self.problems and 0 < self.waits == self.right)

    def tell(self, what: str) -> None:
        """Print a line of progress."""
        print(f"{time.monotonic() - BEGAN:6.1f} s  {self.name}: {what}\n", end="", flush=True)

    def run(self, conf: Mapping[str, Any] | None = None) -> Run:
        """Start a run of the case's own DAG."""
        return self.airflow.trigger(f"chaos_{self.name}", conf)

    def expect(self, holds: object, what: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(what)

    def count(self, right: object, what: str) -> None:
        """Count one wait, and note a problem if it was not right."""
        self.waits += 1
        self.right += bool(right)
        self.expect(right, what)

    def judge(
        self,
        run: Run,
        tasks: Iterable[str | tuple[str, int]],
        *,
        state: str | None = None,
        syncs: int = 1,
        retried: bool | None = False,
        runs: int | None = None,
        said: tuple[str, ...] = (),
        knows_id: bool = True,
    ) -> None:
        """
        Judge waits (task ids, or pairs of task id and map index) by what the simulator knows, once their run has ended.

        Each has to end as the last sync of its integration did, with that very sync's time and id in the XComs, or its
        error in the log; at a timeout, in ``state``. ``syncs`` were to be started by POST. It was to be ``retried`` (in
        more than one try; None: perhaps), its last try to run in a worker so often (``runs``, 2 if it was deferred) and
        to log the texts ``said``. Unless it ``knows_id``, an operator's receipt names no sync.
        """
        run.wait()
        every_sync: dict[str, list[SyncRun]] = {}
        for each in self.simulators[run.dag_id].syncs:
            every_sync.setdefault(each.integration_id, []).append(each)
        facts = _facts(run)
        for task in tasks:
            task_id, index = task if isinstance(task, tuple) else (task, -1)
            name = f"int_{'start' if task_id == 'follow' else task_id}"
            of_it = every_sync.get(name if index < 0 else f"{name}_{index}", [])
            manual = [sync for sync in of_it if sync.trigger == "manual"]
            fact, wrong = facts[task_id, index], []
            if len(manual) != syncs:
                wrong.append(f"{len(manual)} syncs were started, not {syncs}")
            if retried not in (None, fact["tries"] > 1):
                wrong.append(f"it made {fact['tries']} tries")
            if sum(number for event, number in fact["events"].items() if event in ENDINGS) != 1:
                wrong.append(f"it did not end exactly once: {fact['events']}")
            if runs not in (None, fact["events"]["running"]):
                wrong.append(f"not run {runs} times: {fact['events']}")
            error = None if state else of_it[-1].error
            wanted = state or ("failed" if error else "success")
            if fact["state"] != wanted:
                wrong.append(f"it is {fact['state']}, not {wanted}")
            if wanted == "success":
                named = manual[-1].sync_id if manual and knows_id else None
                wrong += _wrong_xcoms(fact["xcoms"], of_it[-1], named)
            texts = (*said, error) if error else said
            log = run.log(task_id, index) if texts else ""
            wrong += [f"its log does not say {text!r}" for text in texts if text not in log]
            self.count(not wrong, f"{run.dag_id}.{task_id}[{index}]: {'; '.join(wrong)}")


def _facts(run: Run) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what Airflow's database knows of each task instance: state, tries, the last try's events, XComs."""
    facts: dict[tuple[str, int], dict[str, Any]] = {}
    for row in run.query("task_id, map_index, state, try_number", "task_instance"):
        fact = {"state": row["state"], "tries": row["try_number"], "events": Counter(), "xcoms": {}}
        facts[row["task_id"], row["map_index"]] = fact
    for row in run.query("task_id, map_index, try_number, event", "log"):
        place = row["task_id"], -1 if row["map_index"] is None else row["map_index"]
        if place in facts and row["try_number"] == facts[place]["tries"]:
            facts[place]["events"][row["event"]] += 1
    for row in run.query("task_id, map_index, key, value", "xcom"):
        facts[row["task_id"], row["map_index"]]["xcoms"][row["key"]] = plain_xcom(row["value"])
    return facts


def _wrong_xcoms(xcoms: Mapping[str, Any], sync: SyncRun, sync_id: str | None) -> list[str]:
    """Say which XComs are not those of a sync, and of an operator that knows it by this id."""
    wrong = []
    returned = xcoms.get("return_value") or {}
    is_operator = "baseline" in returned
    state = (xcoms.get("integration") or {}) if is_operator else returned
    synced_at = state.get("last_synced_at")
    if synced_at is None or datetime.fromisoformat(synced_at) != sync.finished_at:
        wrong.append(f"the sync ended at {sync.finished_at}, the XCom says {synced_at}")
    if is_operator and returned.get("sync_id") != sync_id:
        wrong.append(f"the receipt names the sync {returned.get('sync_id')}, not {sync_id}")
    return wrong
