"""What the chaos cases play on: simulators whose time can be stopped, one Airflow, and the rows of the table."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_flokit.simulator import Simulator
from tests.system.settings import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from airflow_provider_flokit.simulator import RecordedRequest, SyncRun
    from tests.system.local_airflow import LocalAirflow

OLD_KEY = "fk_rw_chaos_first"
NEW_KEY = "fk_rw_chaos_second"


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
    :param only_on: The only stage that has what it needs, if not all have.
    """

    name: str
    title: str
    killed: str
    play: Callable[[Stage, Row], None]
    simulators: Mapping[str, Mapping[str, Any]]
    act: int = 1
    since: tuple[int, int] = (2, 11)
    because: str = ""
    only_on: str = ""


class Stage:
    """
    Everything that runs.

    :param airflow: The Airflow.
    :param simulators: By connection id.
    :param tell: Prints a line of progress.
    :param counts: How many waits of each kind the triggerer is killed under.
    """

    def __init__(
        self,
        airflow: LocalAirflow,
        simulators: Mapping[str, HeldSimulator],
        tell: Callable[[str], None],
        counts: Mapping[str, int],
    ) -> None:
        self.airflow = airflow
        self.counts = counts
        self.triggerers = sum(name.startswith("triggerer") for name in airflow.components)
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

    def idle(self, seconds: float) -> None:
        """Do nothing for some seconds."""
        if self._closing.wait(seconds):
            raise StoppedError

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG that something else than a person starts."""
        with self._command:
            self.airflow.unpause(dag_id)

    def pause(self, dag_id: str) -> None:
        """Pause a DAG."""
        with self._command:
            self.airflow.pause(dag_id)

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
                self.airflow.api("POST", f"/api/v2/dags/{run.dag_id}/clearTaskInstances", body)
            else:
                tasks = "|".join(task_ids)
                self.airflow.cli("tasks", "clear", run.dag_id, "--task-regex", f"^({tasks})$", "--yes")

    def mark(self, run: Run, task_id: str, state: str) -> None:
        """Mark a task, as a person would."""
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}"
        with self._command:
            self.airflow.api("PATCH", path, {"new_state": state})

    def set_connection(self, conn_id: str, simulator: Simulator, api_key: str, *, new: bool) -> None:
        """Make or change a connection in Airflow's database."""
        method, path = ("POST", "/api/v2/connections") if new else ("PATCH", f"/api/v2/connections/{conn_id}")
        body = {"connection_id": conn_id, "conn_type": "flokit", "host": simulator.url, "password": api_key}
        with self._command:
            if AIRFLOW_3:
                self.airflow.api(method, path, body)
                return
            if not new:
                self.airflow.cli("connections", "delete", conn_id)
            self.airflow.cli("connections", "add", conn_id, "--conn-uri", simulator.connection_uri(api_key))

    def add_pool(self, name: str, slots: int) -> None:
        """Make a pool."""
        with self._command:
            if AIRFLOW_3:
                self.airflow.api("POST", "/api/v2/pools", {"name": name, "slots": slots})
            else:
                self.airflow.cli("pools", "set", name, str(slots), "chaos")

    # Waiting

    def until(
        self, condition: Callable[[], object], timeout: float, what: str, detail: Callable[[], object] = str
    ) -> None:
        """Wait until a condition holds; ``detail`` says how things stand if it does not, nothing by default."""
        self.airflow.wait_for(condition, timeout, what, detail)

    def until_in(self, run: Run, states: Mapping[str, str], timeout: float = 120.0) -> None:
        """Wait until tasks (by id) are in the given states."""

        def reached() -> bool:
            now = self.airflow.task_states(*run)
            return all(now.get((task_id, -1)) == state for task_id, state in states.items())

        self.until(reached, timeout, f"{run.dag_id}: {states}", lambda: self.airflow.task_states(*run))

    def end(self, run: Run, timeout: float = 150.0) -> None:
        """Wait until a run has ended."""
        self.airflow.wait_for_run(*run, timeout)

    # Looking back

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
        return datetime.fromisoformat(str(rows[0]["end_date"])).replace(tzinfo=UTC)


def keys_in(folder: Path) -> list[str]:
    """Return the log files in which an API key is to be read."""
    found = []
    for path in folder.rglob("*.log"):
        text = path.read_text(errors="replace")
        if OLD_KEY in text or NEW_KEY in text:
            found.append(str(path))
    return found
