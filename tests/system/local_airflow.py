"""
A real Airflow of whichever version is installed, on this machine, for as long as a ``with`` block lasts.

Scheduler, triggerer and (from Airflow 3 on) API server and DAG processor are the processes that production runs, each
in a session of its own, so that a test can kill one of them the hard way and start it again. Everything they write is
under one folder: an SQLite database, logs, configuration. They listen on loopback.
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
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.system.processes import Component, send, stop_all
from tests.system.runs import Run
from tests.system.settings import AIRFLOW_3, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

T = TypeVar("T")

JOB_TYPES = {"scheduler": "SchedulerJob", "triggerer": "TriggererJob", "dag-processor": "DagProcessorJob"}
PATIENCE = 600.0
"""Seconds after which what has not happened never will, however busy the machine is."""

# Loopback only: a proxy that the environment names has no business here.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class LocalAirflowError(Exception):
    """A part of this Airflow did not start, died unasked, or did not get done in time."""


class LocalAirflow:
    """
    A running Airflow; enter it to start everything, leave it to stop everything.

    ``users`` are roles by name, which is the password too; without any, everybody is an administrator (Airflow 3).
    ``webserver`` starts the one of Airflow 2 as well; the API server of Airflow 3 always runs.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        parallelism: int = 8,
        webserver: bool = False,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home.resolve()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.users = users or {}
        self.env = environment(self.home, dags_folder.resolve(), self.port, parallelism=parallelism)
        self.env |= {
            # Airflow tells its jobs apart by their host's name, so each has one of its own.
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tests.system.processes.component_name",
            "COMPONENT_NAME": "cli",
        }
        if self.users:
            names = ",".join(f"{name}:{role}" for name, role in self.users.items())
            self.env |= {
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": names,
            }
        self.env |= env or {}
        database = self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        self._engine = create_engine(database, poolclass=NullPool, json_deserializer=str)
        self.components = {name: self.component(name, *words) for name, words in self.commands(webserver).items()}
        self.restarts_what_ends = False
        """Whether a component that ends by itself is started again, as systemd does; else it is an error."""
        self._token = ""
        # One command to Airflow at a time: many at once are more than SQLite takes.
        self._command = threading.Lock()
        self._stopped = False

    # Starting and stopping

    def __enter__(self) -> Self:
        """Make the database and start every component; `wait_until_ready` waits for them."""
        signal.signal(signal.SIGTERM, _exit)
        try:
            self.migrate()
            for name, component in self.components.items():
                if not component.wanted and not name.startswith("spare"):
                    self.start(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop whatever still runs; an impatient second Ctrl-C must not leave processes behind."""
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.stop()
        finally:
            signal.signal(signal.SIGINT, previous)

    def commands(self, webserver: bool) -> dict[str, list[str]]:
        """Return the Airflow commands, by their component's name, in the order to start them in."""
        server = ["--port", str(self.port), "--workers", "1"]
        commands = {}
        if AIRFLOW_3:
            commands["api-server"] = ["api-server", "--host", "127.0.0.1", *server]
            commands["dag-processor"] = ["dag-processor"]
        elif webserver:
            commands["webserver"] = ["webserver", "--hostname", "127.0.0.1", *server]
        commands["scheduler"] = ["scheduler", "--skip-serve-logs"]
        commands["triggerer"] = ["triggerer", "--skip-serve-logs"]
        return commands

    def component(self, name: str, *arguments: str) -> Component:
        """Return a component that runs an Airflow command; its output goes to ``logs/NAME.log``."""
        command = [sys.executable, "-m", "airflow", *arguments]
        return Component(command, {**self.env, "COMPONENT_NAME": name}, self.home / "logs" / f"{name}.log")

    def named(self, *names: str) -> list[str]:
        """Return the components of these names: ``worker`` is ``worker-1`` and ``worker-2``, or none."""
        return [each for each in self.components if each in names or each.rpartition("-")[0] in names]

    def migrate(self) -> None:
        """Make the metadata database, in WAL mode: readers and the one writer do not wait for each other."""
        self.home.mkdir(parents=True, exist_ok=True)
        if self.users:
            (self.home / "passwords.json").write_text(json.dumps({name: name for name in self.users}))
        self.cli("db", "migrate")
        with contextlib.closing(sqlite3.connect(self.home / "airflow.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")

    def start(self, *names: str) -> None:
        """Start components (again)."""
        for name in self.named(*names):
            if self._stopped:
                raise LocalAirflowError("Airflow is stopped already")
            self.components[name].start()

    def kill(self, *names: str, sig: int = signal.SIGKILL) -> None:
        """Send a signal to components and all that they started, as when a machine dies; wait until they are gone."""
        for name in self.named(*names):
            self.components[name].kill(sig)

    def kill_task(self, run: Run, task_id: str) -> None:
        """Kill the process that runs a task, and the worker processes above it: nobody is left to report the end."""
        pids = [row["pid"] for row in run.query("task_id, pid", "task_instance") if row["task_id"] == task_id]
        components = [self.components[name] for name in self.named("worker") or self.named("scheduler")]
        mains = {component.process.pid for component in components if component.process}
        workers = {each.pid: each for component in components for each in component.members() if each.pid not in mains}
        if pids[0] not in workers:
            raise LocalAirflowError(f"{run.dag_id}.{task_id} runs in no process of this Airflow")
        task = workers[pids[0]]
        above = [parent.pid for parent in task.parents() if parent.pid in workers]
        for pid in [*reversed(above), task.pid]:
            send(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop everything that was started here."""
        self._stopped = True
        stop_all(self.components.values())

    def wait_until_ready(self) -> None:
        """Wait until every component that should run does its work: it writes heartbeats, the API answers."""

        def not_ready() -> list[str]:
            return [name for name, each in self.components.items() if each.wanted and not self.is_ready(name)]

        self.wait_for(lambda: not not_ready(), "Airflow is ready", not_ready)

    def is_ready(self, name: str) -> bool:
        """Tell whether a component does its work."""
        if job_type := next((job_type for kind, job_type in JOB_TYPES.items() if kind in name), None):
            beating = (
                "SELECT 1 FROM job WHERE job_type = :job_type AND hostname = :name AND state = 'running'"
                " AND start_date > :since AND latest_heartbeat > start_date"
            )
            since = datetime.fromtimestamp(self.components[name].started_at, UTC)
            return bool(self.query(beating, job_type=job_type, name=name, since=f"{since:%Y-%m-%d %H:%M:%S.%f}"))
        with contextlib.suppress(OSError):
            _DIRECT.open(self.url + ("/api/v2/monitor/health" if AIRFLOW_3 else "/health"), timeout=5).close()
            return True
        return False

    # Using it

    def cli(self, *arguments: str) -> None:
        """Run an Airflow command to its end."""
        command = [sys.executable, "-m", "airflow", *arguments]
        with self._command:
            done = subprocess.run(
                command, cwd=self.home, env=self.env, capture_output=True, text=True, timeout=PATIENCE, check=False
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
        for pause in (1, 2, 4, 8, 0):
            try:
                with self._command, _DIRECT.open(request, timeout=60) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                said = error.read().decode(errors="replace")[:2000]
                # SQLite refuses a write when another one comes between: Airflow has rolled it back.
                if not pause or "Database error" not in said:
                    raise LocalAirflowError(f"{method} {path}: {error.code} {said}") from error
            time.sleep(pause)
        raise AssertionError

    def pause(self, dag_id: str, *, is_paused: bool = True) -> None:
        """Pause a DAG."""
        if AIRFLOW_3:
            self.api("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": is_paused})
        else:
            self.cli("dags", "pause" if is_paused else "unpause", dag_id)

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG, once Airflow has read it from its file."""
        self.wait_for(
            lambda: self.query("SELECT 1 FROM serialized_dag WHERE dag_id = :dag_id", dag_id=dag_id),
            f"Airflow has read the DAG {dag_id}",
            lambda: self.query("SELECT filename, stacktrace FROM import_error"),
        )
        self.pause(dag_id, is_paused=False)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> Run:
        """Unpause a DAG and start a run of it, as a person would."""
        self.unpause(dag_id)
        now = datetime.now(UTC)
        run_id = f"manual__{now:%Y%m%dT%H%M%S}_{uuid.uuid4().hex[:6]}"
        if AIRFLOW_3:
            body = {"dag_run_id": run_id, "logical_date": now.isoformat(), "conf": dict(conf or {})}
            self.api("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        else:
            self.cli("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(conf or {}))
        return Run(self, dag_id, run_id)

    def runs(self, dag_id: str) -> list[Run]:
        """Return the runs of a DAG in order."""
        rows = self.query("SELECT run_id FROM dag_run WHERE dag_id = :dag_id ORDER BY id", dag_id=dag_id)
        return [Run(self, dag_id, row["run_id"]) for row in rows]

    def wait_for(self, condition: Callable[[], T | None], what: str, detail: Callable[[], object] = str) -> T:
        """Wait until a condition holds and return its (true) value; the error says what, and how things stand."""
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            for name, component in self.components.items():
                if component.wanted and not component.running:
                    if not self.restarts_what_ends:
                        printed = component.log.read_text(errors="replace")[-3000:]
                        raise LocalAirflowError(f"{name} ended by itself:\n{printed}")
                    component.start()
            if time.monotonic() > deadline:
                raise LocalAirflowError(f"not within {PATIENCE:g} s: {what} ({detail()}); logs are in {self.home}/logs")
            time.sleep(0.25)
        return value

    def query(self, sql: str, **parameters: object) -> list[Any]:
        """Read from the metadata database: rows by their columns' names; JSON comes as text."""
        with self._engine.connect() as connection:
            return list(connection.execute(text(sql), parameters).mappings())


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _exit(number: int, _: object) -> None:
    """Turn SIGTERM into an exception, so that ``with`` blocks are left the ordinary way."""
    raise SystemExit(128 + number)
