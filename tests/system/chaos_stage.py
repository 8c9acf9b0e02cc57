"""What the chaos cases play on: simulators whose time can be stopped, one Airflow, and the judgement of waits."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.simulator import Simulator
from tests.system.runs import plain_xcom
from tests.system.settings import AIRFLOW_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_provider_flokit.simulator import RecordedRequest, SyncRun
    from tests.system.celery_airflow import CeleryAirflow
    from tests.system.runs import Run

OLD_KEY, NEW_KEY = "fk_rw_chaos_first", "fk_rw_chaos_second"
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
    """A simulator whose time can be stopped."""

    def __init__(self, **switches: Any) -> None:
        self.time = HeldClock()
        super().__init__(api_key=OLD_KEY, clock=self.time, **switches)

    def syncs_of(self, task: str, trigger: str = "manual") -> list[SyncRun]:
        """Return the syncs of a task's integration that a POST started, or FloKit itself (``scheduled``)."""
        return [sync for sync in self.syncs if sync.integration_id == f"int_{task}" and sync.trigger == trigger]

    def asked(self, task: str, method: str) -> list[RecordedRequest]:
        """Return the requests for a task's integration, also those that have no answer yet."""
        return [each for each in self.requests if (each.integration_id, each.method) == (f"int_{task}", method)]


@dataclass
class Case:
    """One thing that production does to a wait, and what came of it."""

    name: str
    title: str
    killed: str
    play: Callable[[Case], None]
    switches: Mapping[str, Mapping[str, Any]]  # of its simulators, by connection id
    act: int = 1  # cases of one act are played at the same time; those that kill a component have one of their own
    since: tuple[int, int] = (2, 11)  # the oldest Airflow on which it makes sense
    because: str = ""
    stage: str = ""  # the only one that has what it needs, if not all have

    simulators: dict[str, HeldSimulator] = field(default_factory=dict)
    many: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    waits: int = 0
    right: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    syncs: dict[tuple[str, str], int] = field(default_factory=dict)
    airflow: CeleryAirflow = field(init=False)  # or a LocalAirflow, for what both have

    @property
    def simulator(self) -> HeldSimulator:
        """The simulator, where it is the only one."""
        return self.simulators[f"chaos_{self.name}"]

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
        conn_id: str | None = None,
        state: str | None = None,
        syncs: int = 1,
        tries: int | range = 1,
        runs: int | None = None,
        said: tuple[str, ...] = (),
        names: int | None = -1,
    ) -> None:
        """
        Judge waits (task ids, or pairs of task id and map index) by what the simulator knows, once their run has ended.

        Each has to end as the last sync of its integration did, with that very sync's time and id in the XComs, or its
        error in the log; at a timeout, in ``state``. ``syncs`` were to be started by POST, ``tries`` to be made, the
        last of them was to run in a worker so often (``runs``, 2 if it was deferred) and to log the texts ``said``.
        ``names`` is the index of the sync that the operator's receipt names; None: one whose id it does not know.
        """
        run.wait()
        conn_id = conn_id or run.dag_id
        every_sync: dict[str, list[SyncRun]] = {}
        for each in self.simulators[conn_id].syncs:
            every_sync.setdefault(each.integration_id, []).append(each)
        facts = _facts(run)
        for task in tasks:
            task_id, index = task if isinstance(task, tuple) else (task, -1)
            integration_id = f"int_{'start' if task_id == 'follow' else task_id}" + (f"_{index}" if index >= 0 else "")
            of_it = every_sync.get(integration_id, [])
            manual = [sync for sync in of_it if sync.trigger == "manual"]
            self.syncs[conn_id, integration_id] = len(manual)
            fact = facts[task_id, index]
            ended = sum(number for event, number in fact["events"].items() if event in ENDINGS)
            wrong = [
                *([f"{len(manual)} syncs were started, not {syncs}"] if len(manual) != syncs else []),
                *([f"it made {fact['tries']} tries"] if fact["tries"] not in _range(tries) else []),
                *([f"it did not end exactly once: {fact['events']}"] if ended != 1 else []),
                *([f"not run {runs} times: {fact['events']}"] if runs not in (None, fact["events"]["running"]) else []),
            ]
            wanted, texts = state, said
            if wanted is None and of_it[-1].error:
                wanted, texts = "failed", (*said, str(of_it[-1].error))
            elif wanted is None:
                wanted = "success"
                named = manual[names].sync_id if manual and names is not None else None
                wrong += _wrong_xcoms(fact["xcoms"], of_it[-1], named)
            if fact["state"] != wanted:
                wrong.append(f"it is {fact['state']}, not {wanted}")
            log = run.log(task_id, index) if texts else ""
            wrong += [f"its log does not say {text!r}" for text in texts if text not in log]
            self.count(not wrong, f"{run.dag_id}.{task_id}[{index}]: {'; '.join(wrong)}")


def _range(tries: int | range) -> range:
    return tries if isinstance(tries, range) else range(tries, tries + 1)


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
