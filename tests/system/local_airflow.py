"""
A real Airflow of whichever version is installed, on this machine, for as long as a ``with`` block lasts.

Scheduler, triggerer and (from Airflow 3 on) API server and DAG processor are the processes that production
runs, each in a session of its own, so that a test can kill one of them the hard way and start it again.
Everything they write is under one folder: an SQLite database, logs, configuration. They listen on loopback.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tests.system.processes import Component, send, stop_all
from tests.system.settings import AIRFLOW_3, environment
from tests.system.task_logs import read_task_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import FrameType

T = TypeVar("T")

JOB_TYPES = {"scheduler": "SchedulerJob", "triggerer": "TriggererJob", "dag-processor": "DagProcessorJob"}
# Loopback only: a proxy that the environment names has no business here.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class LocalAirflowError(Exception):
    """A part of this Airflow did not start, died unasked, or did not get done in time."""


class LocalAirflow:
    """
    A running Airflow; enter it to start everything, leave it to stop everything.

    :param home: Folder for the database, logs and configuration; made if missing, never deleted here.
    :param dags_folder: Folder that Airflow reads DAG files from.
    :param env: More environment for every component (connections, settings); wins over what is set here.
    :param parallelism: Most tasks that run in workers at once.
    :param pool_slots: Size of the default pool, for tests of how many slots a wait occupies.
    :param webserver: Whether to start the web server on Airflow 2 too; from 3 on the API server always runs.
    :param users: Who may log in, by name, and the role; each one's password is the name. The first one is used here.
        None: everybody is an administrator, without a login (Airflow 3).
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        parallelism: int = 8,
        pool_slots: int = 128,
        webserver: bool = False,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home.resolve()
        self.database = self.home / "airflow.db"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.env = environment(
            self.home,
            dags_folder.resolve(),
            self.database,
            port,
            parallelism=parallelism,
            pool_slots=pool_slots,
        )
        self.users = users or {}
        if self.users:
            names = ",".join(f"{name}:{role}" for name, role in self.users.items())
            self.env |= {
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": names,
            }
        self.env |= env or {}
        self.components = {
            name: self.component(name, *arguments) for name, arguments in self._commands(port, webserver=webserver)
        }
        self.restarts_what_ends = False
        """Whether a component that ends by itself is started again, as systemd does; else it is an error."""
        self.restarted: list[str] = []
        self._token = ""
        self._previous_handler: Any = None

    # Starting and stopping

    def __enter__(self) -> Self:
        """Make the database and start every component; `wait_until_ready` waits for them."""
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, exit_on_signal)
        try:
            self.start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop whatever still runs of what was started here."""
        try:
            self.stop()
        finally:
            if self._previous_handler is not None:
                signal.signal(signal.SIGTERM, self._previous_handler)
                self._previous_handler = None

    def start_all(self) -> None:
        """Make the database and start every component."""
        self.migrate()
        for name in self.components:
            self.start(name)

    def component(self, name: str, *arguments: str) -> Component:
        """Return a component that runs an Airflow command."""
        return Component([sys.executable, "-m", "airflow", *arguments], self.env, self.home / "logs" / f"{name}.log")

    def migrate(self) -> None:
        """Make the metadata database, in WAL mode: readers and the one writer do not wait for each other."""
        self.home.mkdir(parents=True, exist_ok=True)
        if self.users:
            passwords = {name: name for name in self.users}
            Path(self.env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]).write_text(json.dumps(passwords))
        self.cli("db", "migrate")
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            database.execute("PRAGMA journal_mode=WAL")

    def start(self, name: str) -> None:
        """Start a component (again); its output goes to ``logs/NAME.log``."""
        self.components[name].start()

    def kill(self, name: str, sig: int = signal.SIGKILL, *, timeout: float = 60.0) -> None:
        """
        Send a signal to a component and wait until it is gone.

        Everything that it started (the scheduler's workers and their tasks) gets it too, as when a machine or
        container dies.

        :param timeout: Seconds to wait for its end; TimeoutError after that.
        """
        self.components[name].kill(sig, timeout=timeout)

    def kill_task(self, dag_id: str, run_id: str, task_id: str) -> None:
        """
        Kill the process that runs a task right now, and the worker processes above it.

        Nobody is left to report the end: the scheduler must notice by itself.
        """
        rows = self.query(
            "SELECT pid FROM task_instance WHERE dag_id = ? AND run_id = ? AND task_id = ? AND state = 'running'",
            (dag_id, run_id, task_id),
        )
        workers = {
            process.pid: process
            for component in self._run_tasks()
            for process in component.members()
            if process.pid != component.pid
        }
        if not rows or rows[0]["pid"] not in workers:
            raise LocalAirflowError(f"{dag_id}.{task_id} runs in no process of this Airflow")
        task = workers[rows[0]["pid"]]
        above = [parent for parent in task.parents() if parent.pid in workers]
        for process in [*reversed(above), task]:
            send(process.pid, signal.SIGKILL)

    def stop(self, grace: float = 5.0) -> None:
        """Stop everything that was started here: asked first, killed after the grace period (seconds)."""
        stop_all(list(self.components.values()), grace)

    def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Wait until every component that should run does its work: it writes heartbeats, the API answers."""
        self.wait_for(lambda: not self._not_ready(), timeout, "Airflow is ready", self._not_ready)

    # Using it

    def cli(self, *arguments: str) -> None:
        """Run an Airflow command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            cwd=self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode:
            printed = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            raise LocalAirflowError(f"airflow {' '.join(arguments)} failed:\n{printed}")

    def api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call Airflow's REST API, logging in first if need be."""
        headers = {"Content-Type": "application/json"}
        if path != "/auth/token":
            if not self._token:
                user = next(iter(self.users), "")
                login = ("POST", {"username": user, "password": user}) if user else ("GET", None)
                self._token = self.api(login[0], "/auth/token", login[1])["access_token"]
            headers["Authorization"] = f"Bearer {self._token}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - loopback
        try:
            with _DIRECT.open(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:2000]
            raise LocalAirflowError(f"{method} {path}: {error.code} {said}") from error

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG, once Airflow has read it from its file."""
        self._wait_for_dag(dag_id)
        self._set_paused(dag_id, paused=False)

    def pause(self, dag_id: str) -> None:
        """Pause a DAG."""
        self._set_paused(dag_id, paused=True)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a DAG, as a person would, and return its run id."""
        self._wait_for_dag(dag_id)
        now = datetime.now(UTC)
        run_id = f"manual__{now:%Y%m%dT%H%M%S}_{uuid.uuid4().hex[:6]}"
        if AIRFLOW_3:
            run = {"dag_run_id": run_id, "logical_date": now.isoformat(), "conf": dict(conf or {})}
            self.api("POST", f"/api/v2/dags/{dag_id}/dagRuns", run)
        else:
            self.cli("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(conf or {}))
        return run_id

    def task_states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str | None]:
        """Return the state of every task instance of a run, by task id and map index (-1: not mapped)."""
        rows = self.query(
            "SELECT task_id, map_index, state FROM task_instance WHERE dag_id = ? AND run_id = ?",
            (dag_id, run_id),
        )
        return {(row["task_id"], row["map_index"]): row["state"] for row in rows}

    def run_state(self, dag_id: str, run_id: str) -> str | None:
        """Return the state of a run, None if there is no such run."""
        rows = self.query("SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?", (dag_id, run_id))
        return rows[0]["state"] if rows else None

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120.0) -> str:
        """Wait until a run has ended and return its state."""

        def ended() -> str | None:
            state = self.run_state(dag_id, run_id)
            return state if state in {"success", "failed"} else None

        return self.wait_for(ended, timeout, f"{dag_id} {run_id} has ended", lambda: self.task_states(dag_id, run_id))

    def wait_for(self, condition: Callable[[], T | None], timeout: float, what: str, detail: Callable[[], object]) -> T:
        """
        Wait until a condition holds and return its (true) value; an error if a component dies meanwhile.

        :param timeout: Seconds to wait.
        :param what: What is waited for, and ``detail`` how things stand instead, for the error.
        """
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            for name, component in self.components.items():
                if component.wanted and not component.running:
                    if self.restarts_what_ends:
                        self.restarted.append(name)
                        component.start()
                        continue
                    raise LocalAirflowError(
                        f"{name} ended by itself with {component.returncode}:\n{component.output[-3000:]}"
                    )
            if time.monotonic() > deadline:
                logs = self.home / "logs"
                raise LocalAirflowError(f"not within {timeout:g} s: {what} ({detail()}); logs are in {logs}")
            time.sleep(0.25)
        return value

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int | None = None
    ) -> str:
        """
        Return what a try of a task logged, in workers and triggerer, as text in order of time.

        :param try_number: Which try; the newest that has logged if None. Empty text: nothing logged yet.
        """
        return read_task_log(self.task_log_folder(dag_id, run_id, task_id, map_index), try_number)

    def task_log_folder(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Path:
        """Return the folder in which the tries of a task have their logs."""
        folder = self.home / "logs" / "tasks" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return folder / f"map_index={map_index}" if map_index >= 0 else folder

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return an XCom of a task as plain JSON values; None where there is none."""
        rows = self.query(
            "SELECT value FROM xcom WHERE dag_id = ? AND run_id = ? AND task_id = ? AND key = ? AND map_index = ?",
            (dag_id, run_id, task_id, key, map_index),
        )
        return plain_xcom(rows[0]["value"]) if rows else None

    def query(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """Read from the metadata database; it cannot be written to this way."""
        source = f"file:{self.database}?mode=ro"
        with contextlib.closing(sqlite3.connect(source, uri=True, timeout=30)) as database:
            database.row_factory = sqlite3.Row
            return database.execute(sql, parameters).fetchall()

    # Inside

    def _commands(self, port: int, *, webserver: bool) -> Iterable[tuple[str, list[str]]]:
        """Return each component's name and arguments, in the order to start them in."""
        server = ["--port", str(port), "--workers", "1"]
        if AIRFLOW_3:
            yield "api-server", ["api-server", "--host", "127.0.0.1", *server]
            yield "dag-processor", ["dag-processor"]
        elif webserver:
            yield "webserver", ["webserver", "--hostname", "127.0.0.1", *server]
        yield "scheduler", ["scheduler", "--skip-serve-logs"]
        yield "triggerer", ["triggerer", "--skip-serve-logs"]

    def _run_tasks(self) -> list[Component]:
        """Return the components whose processes run tasks."""
        return [self.components["scheduler"]]

    def _set_paused(self, dag_id: str, *, paused: bool) -> None:
        if AIRFLOW_3:
            self.api("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": paused})
        else:
            self.cli("dags", "pause" if paused else "unpause", dag_id)

    def _wait_for_dag(self, dag_id: str) -> None:
        def read() -> bool:
            return bool(self.query("SELECT 1 FROM serialized_dag WHERE dag_id = ?", (dag_id,)))

        def import_errors() -> str:
            rows = self.query("SELECT filename, stacktrace FROM import_error")
            return "; ".join(f"{row['filename']}: {row['stacktrace']}" for row in rows) or "no import errors"

        self.wait_for(read, 90.0, f"Airflow has read the DAG {dag_id}", import_errors)

    def _not_ready(self) -> list[str]:
        wanted = [name for name, component in self.components.items() if component.wanted]
        return [name for name in wanted if not self._ready(name)]

    def _ready(self, name: str) -> bool:
        if job_type := JOB_TYPES.get(name):
            started_at = datetime.fromtimestamp(self.components[name].started_at, UTC)
            beating = (
                "SELECT 1 FROM job WHERE job_type = ? AND state = 'running'"
                " AND start_date > ? AND latest_heartbeat > start_date"
            )
            return bool(self.query(beating, (job_type, f"{started_at:%Y-%m-%d %H:%M:%S.%f}")))
        try:
            with _DIRECT.open(self.url + ("/api/v2/monitor/health" if AIRFLOW_3 else "/health"), timeout=5):
                return True
        except OSError:
            return False


def plain_xcom(stored: Any) -> Any:
    """Return an XCom, as the database has it, as plain JSON values."""
    # SQLite by itself turns a bare JSON number into a number; Airflow 2 stores bytes.
    return json.loads(stored) if isinstance(stored, str | bytes) else stored


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def exit_on_signal(number: int, _: FrameType | None) -> None:
    """Turn SIGTERM into an exception, so that ``with`` blocks are left the ordinary way."""
    raise SystemExit(128 + number)
