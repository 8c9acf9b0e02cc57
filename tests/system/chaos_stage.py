"""What the chaos cases play on: simulators whose time can be stopped, one Airflow, and the rows of the table."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_flokit.simulator import Simulator
from tests.system.local_airflow import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from airflow_provider_flokit.simulator import RecordedRequest, SyncRun
    from tests.system.local_airflow import LocalAirflow

OLD_KEY = "fk_rw_chaos_first"
NEW_KEY = "fk_rw_chaos_second"
ENDINGS = frozenset({"success", "failed", "skipped"})
_STATES = {"succeeded": "success", "failed": "failed"}


class StoppedError(Exception):
    """Everything is being stopped, so the case cannot go on."""


class Run(NamedTuple):
    """A run of a DAG."""

    dag_id: str
    run_id: str


class HeldClock:
    """
    The wall clock, but it can be stopped: a simulator's syncs stand still until all that should wait for them does.

    What is promised holds by the server's time, whatever it is.
    """

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
    """
    A simulator whose time can be stopped.

    :param switches: As the simulator takes them.
    """

    def __init__(self, **switches: Any) -> None:
        self.time = HeldClock()
        super().__init__(api_key=OLD_KEY, clock=self.time, **switches)

    def manual(self, integration_id: str) -> list[SyncRun]:
        """Return the syncs of an integration that a POST started, in that order."""
        return [sync for sync in self.syncs if sync.integration_id == integration_id and sync.trigger == "manual"]

    def posts(self, integration_id: str) -> list[RecordedRequest]:
        """Return the POSTs for an integration, also those that have no answer yet."""
        return [r for r in self.requests if r.method == "POST" and r.integration_id == integration_id]


@dataclass
class Row:
    """
    One line of the table.

    :param title: The case.
    :param killed: What was killed or broken.
    """

    title: str
    killed: str
    waits: int = 0
    right: int = 0
    seconds: float = 0.0
    not_here: str = ""
    ended: bool = False
    problems: list[str] = field(default_factory=list)
    started: dict[tuple[int, str], int] = field(default_factory=dict)

    @property
    def syncs(self) -> int:
        """Syncs that the tasks started."""
        return sum(self.started.values())

    @property
    def ok(self) -> bool:
        """Whether everything was right."""
        return bool(self.not_here) or (self.ended and not self.problems and 0 < self.waits == self.right)

    def expect(self, holds: object, what: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(what)


@dataclass(frozen=True)
class Case:
    """
    One thing that production does to a wait.

    :param name: For ``--only``.
    :param title: For the table.
    :param killed: What is killed or broken.
    :param play: Plays it.
    :param simulators: The simulators it needs, by connection id, with their switches.
    :param act: Cases of the same act are played at the same time; those that kill a component have one of their own.
    :param since: The oldest Airflow on which it makes sense, and
    :param because: why.
    """

    name: str
    title: str
    killed: str
    play: Callable[[Stage, Row], None]
    simulators: Mapping[str, Mapping[str, Any]]
    act: int = 1
    since: tuple[int, int] = (2, 11)
    because: str = ""


class Stage:
    """
    Everything that runs.

    :param airflow: The Airflow.
    :param simulators: By connection id.
    :param tell: Prints a line of progress.
    """

    def __init__(
        self, airflow: LocalAirflow, simulators: Mapping[str, HeldSimulator], tell: Callable[[str], None]
    ) -> None:
        self.airflow = airflow
        self.simulators = simulators
        self.tell = tell
        # One command to Airflow at a time: many at once are more than SQLite takes.
        self._command = threading.Lock()
        self._closing = threading.Event()

    def close(self) -> None:
        """Let nothing be started any more, and the command that is being given come to its end."""
        with self._command:
            self._closing.set()

    # Doing things

    def restart(self, name: str) -> None:
        """Start a component that was killed."""
        with self._command:
            if self._closing.is_set():
                raise StoppedError
            self.airflow.start(name)
        self.tell(f"the {name} starts again")

    def pause(self, seconds: float) -> None:
        """Do nothing for some seconds."""
        if self._closing.wait(seconds):
            raise StoppedError

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG that something else than a person starts."""
        with self._command:
            self.airflow.unpause(dag_id)

    def pause_dag(self, dag_id: str) -> None:
        """Pause a DAG."""
        with self._command:
            if AIRFLOW_3:
                self.airflow._api("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True})
            else:
                self.airflow._cli("dags", "pause", dag_id)

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> Run:
        """Start a run of a DAG."""
        with self._command:
            self.airflow.unpause(dag_id)
            return Run(dag_id, self.airflow.trigger(dag_id, conf))

    def clear(self, run: Run, *task_ids: str) -> None:
        """Clear ended tasks, as a person would, so that they run anew."""
        body = {
            "dry_run": False,
            "dag_run_id": run.run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "reset_dag_runs": True,
        }
        with self._command:
            if AIRFLOW_3:
                self.airflow._api("POST", f"/api/v2/dags/{run.dag_id}/clearTaskInstances", body)
            else:
                tasks = "|".join(task_ids)
                self.airflow.cli("tasks", "clear", run.dag_id, "--task-regex", f"^({tasks})$", "--yes")

    def set_connection(self, conn_id: str, simulator: Simulator, api_key: str, *, new: bool) -> None:
        """Make or change a connection in Airflow's database."""
        path = "/api/v2/connections"
        body = {"connection_id": conn_id, "conn_type": "flokit", "host": simulator.url, "password": api_key}
        with self._command:
            if AIRFLOW_3:
                self.airflow._api("POST" if new else "PATCH", path if new else f"{path}/{conn_id}", body)
                return
            if not new:
                self.airflow.cli("connections", "delete", conn_id)
            self.airflow.cli("connections", "add", conn_id, "--conn-json", simulator.connection_json(api_key))

    def add_pool(self, name: str, slots: int) -> None:
        """Make a pool."""
        with self._command:
            if AIRFLOW_3:
                self.airflow._api("POST", "/api/v2/pools", {"name": name, "slots": slots})
            else:
                self.airflow.cli("pools", "set", name, str(slots), "chaos")

    # Waiting

    def until(self, condition: Callable[[], object], timeout: float, what: str, detail: object = None) -> None:
        """Wait until a condition holds."""
        self.airflow.wait_for(
            lambda: bool(condition()), timeout, what, detail if callable(detail) else lambda: detail or ""
        )

    def until_in(self, run: Run, states: Mapping[str, str], timeout: float = 120.0) -> None:
        """Wait until tasks (by id) are in the given states."""

        def reached() -> bool:
            now = self.airflow.task_states(*run)
            return all(now.get((task_id, -1)) == state for task_id, state in states.items())

        self.until(reached, timeout, f"{run.dag_id}: {states}", lambda: self.airflow.task_states(*run))

    def end(self, run: Run, timeout: float = 150.0) -> None:
        """Wait until a run has ended."""
        self.airflow.wait_for_run(*run, timeout)

    # Judging

    def events(self, run: Run, task_id: str) -> Counter[str]:
        """Return what Airflow's audit log says of a task: how often it was running, deferred, success ..."""
        rows = self.airflow.query(
            "SELECT event FROM log WHERE dag_id = ? AND run_id = ? AND task_id = ?", (*run, task_id)
        )
        return Counter(row["event"] for row in rows)

    def ended_at(self, run: Run, task_id: str) -> datetime:
        """Return when a task ended."""
        rows = self.airflow.query(
            "SELECT end_date FROM task_instance WHERE dag_id = ? AND run_id = ? AND task_id = ?", (*run, task_id)
        )
        return datetime.fromisoformat(rows[0]["end_date"]).replace(tzinfo=UTC)

    def judge(
        self,
        row: Row,
        run: Run,
        tasks: Iterable[str | tuple[str, int]],
        *,
        conn_id: str,
        state: str | None = None,
        syncs: int = 1,
        tries: int | range = 1,
        decided_by: int = -1,
        runs: int | None = None,
        said: tuple[str, ...] = (),
        names: int | None = -1,
    ) -> None:
        """
        Judge waits by what the simulator knows.

        A wait of a task waits for the integration ``int_TASK``, of a mapped one for ``int_TASK_INDEX``. It has to end
        as the deciding sync did, with that very sync's time and id in the XComs, or its error in the log.

        :param row: Where to count.
        :param run: The run.
        :param tasks: Task ids, or pairs of task id and map index.
        :param conn_id: Whose simulator knows.
        :param state: The state they must be in, if not the one that the sync's outcome says: for timeouts.
        :param syncs: How many syncs were to be started by POST; with 0, FloKit's own decide.
        :param tries: How many tries were to be made.
        :param decided_by: Which of the integration's syncs decides; the last one by default.
        :param runs: How often a worker was to run the last try, 2 for one that was deferred; None: whatever.
        :param said: Texts that the log of the last try must hold.
        :param names: Which of the syncs that were started the operator's XComs name; None: it attached to one.
        """
        simulator = self.simulators[conn_id]
        every_sync: dict[str, list[SyncRun]] = {}
        for sync in simulator.syncs:
            every_sync.setdefault(sync.integration_id, []).append(sync)
        facts = self._facts(run)
        for task in tasks:
            task_id, index = task if isinstance(task, tuple) else (task, -1)
            where = f"{run.dag_id}.{task_id}" + (f"[{index}]" if index >= 0 else "")
            integration_id = f"int_{'start' if task_id == 'follow' else task_id}" + (f"_{index}" if index >= 0 else "")
            all_syncs = every_sync.get(integration_id, [])
            manual = [sync for sync in all_syncs if sync.trigger == "manual"]
            row.started[id(simulator), integration_id] = len(manual)
            fact = facts[task_id, index]
            wrong = [] if len(manual) == syncs else [f"{len(manual)} syncs were started, not {syncs}"]
            if fact["try_number"] not in (tries if isinstance(tries, range) else (tries,)):
                wrong.append(f"{fact['try_number']} tries were made, not {tries}")
            wrong += self._wrong_events(fact["events"], runs)
            texts = said
            right = state
            if state is None:
                decider = all_syncs[decided_by] if all_syncs else None
                right = _STATES.get(decider.outcome if decider else "", f"(the simulator has no outcome: {decider})")
                if right == "success":
                    named = manual[names].sync_id if manual and names is not None else None
                    wrong += self._wrong_xcoms(fact["xcoms"], decider, named)
                elif decider:
                    texts = (*said, str(decider.error))
            if fact["state"] != right:
                wrong.append(f"it is {fact['state']}, not {right}")
            wrong += self._unsaid(run, task_id, index, texts)
            row.waits += 1
            row.right += not wrong
            row.problems += [f"{where}: {what}" for what in wrong]

    def _facts(self, run: Run) -> dict[tuple[str, int], dict[str, Any]]:
        """Return what Airflow's database knows of each task instance: the state, its last try's events, XComs."""
        facts: dict[tuple[str, int], dict[str, Any]] = {}
        for row in self.airflow.query(
            "SELECT task_id, map_index, state, try_number FROM task_instance WHERE dag_id = ? AND run_id = ?", run
        ):
            facts[row["task_id"], row["map_index"]] = {**row, "events": Counter(), "xcoms": {}}
        for row in self.airflow.query(
            "SELECT task_id, map_index, try_number, event FROM log WHERE dag_id = ? AND run_id = ?"
            " AND task_id IS NOT NULL",
            run,
        ):
            fact = facts.get((row["task_id"], -1 if row["map_index"] is None else row["map_index"]))
            if fact is not None and row["try_number"] == fact["try_number"]:
                fact["events"][row["event"]] += 1
        for row in self.airflow.query(
            "SELECT task_id, map_index, key, value FROM xcom WHERE dag_id = ? AND run_id = ?", run
        ):
            value = row["value"]
            facts[row["task_id"], row["map_index"]]["xcoms"][row["key"]] = (
                json.loads(value) if isinstance(value, str | bytes) else value
            )
        return facts

    @staticmethod
    def _wrong_events(events: Counter[str], runs: int | None) -> list[str]:
        """Say how the last try did not end exactly once, or did not run as often as it had to."""
        wrong = []
        if sum(count for event, count in events.items() if event in ENDINGS) != 1:
            wrong.append(f"it did not end exactly once: {dict(events)}")
        if runs is not None and events["running"] != runs:
            wrong.append(f"a worker did not run it {runs} times: {dict(events)}")
        return wrong

    @staticmethod
    def _wrong_xcoms(xcoms: Mapping[str, Any], sync: SyncRun, sync_id: str | None) -> list[str]:
        """Say which XComs are not those of a sync, and of an operator that knows it by this id."""
        wrong = []
        is_operator = "receipt" in xcoms
        state = xcoms.get("integration" if is_operator else "return_value") or {}
        synced_at = state.get("last_synced_at")
        if synced_at is None or datetime.fromisoformat(synced_at) != sync.finished_at:
            wrong.append(f"the sync ended at {sync.finished_at}, the XCom says {synced_at}")
        if is_operator:
            for where, what in (
                ("receipt", xcoms["receipt"].get("sync_id")),
                ("return value", xcoms.get("return_value")),
            ):
                if what != sync_id:
                    wrong.append(f"the {where} names the sync {what}, not {sync_id}")
        return wrong

    def _unsaid(self, run: Run, task_id: str, index: int, texts: tuple[str, ...]) -> list[str]:
        """Say what a task's log does not hold."""
        log = self.airflow.task_log(*run, task_id, index)
        folder = self.airflow.home / "logs" / "tasks" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}"
        # The reason of a skip is in a field of its own.
        files = (folder / f"task_id={task_id}").rglob("attempt=*") if texts else ()
        log += "".join(file.read_text(errors="replace") for file in files if "Skipping task." in log)
        return [f"its log does not say {text!r}" for text in texts if text not in log]


def keys_in(folder: Path) -> list[str]:
    """Return the log files in which an API key is to be read."""
    found = []
    for path in folder.rglob("*.log"):
        text = path.read_text(errors="replace")
        if OLD_KEY in text or NEW_KEY in text:
            found.append(str(path))
    return found
