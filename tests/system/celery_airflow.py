"""
An Airflow as teams run it that have outgrown one machine, on this machine: PostgreSQL, Redis, Celery, two triggerers.

It is a :class:`~tests.system.local_airflow.LocalAirflow` whose metadata database is PostgreSQL, whose tasks run in two
Celery workers behind Redis, and whose waits are spread over two triggerers. All of it listens on loopback and writes
under one folder; PostgreSQL and Redis are programs of this machine, started here for themselves alone.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.system.local_airflow import JOB_TYPES, LocalAirflow, LocalAirflowError, free_port
from tests.system.processes import Component, as_user, stop_all

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKERS = ("worker-1", "worker-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
SPARE_SCHEDULER = "scheduler-2"
"""Started only when somebody asks for it."""

TOGETHER = {"scheduler": ("scheduler-1", *WORKERS), "triggerer": TRIGGERERS}
"""What the names of the small Airflow's components stand for here: its scheduler runs the tasks too."""

SERVICES = ("postgres", "redis")
_DATABASE = "postgres"
_USER = "airflow"
_STOPPED_BY = {"postgres": signal.SIGINT, "redis": signal.SIGTERM}  # SIGINT: without waiting for its clients


def postgres_program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs, which Debian keeps off the path."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, homes), os.environ.get("PATH", os.defpath)]))


def missing_programs() -> list[str]:
    """Say for each program that is not on this machine which Debian package brings it."""
    missing = []
    if not (postgres_program("postgres") and postgres_program("initdb")):
        missing.append("PostgreSQL is not on this machine: apt-get install postgresql")
    if not shutil.which("redis-server"):
        missing.append("Redis is not on this machine: apt-get install redis-server")
    return missing


class CeleryAirflow(LocalAirflow):
    """
    A running Airflow with Celery; used like the small one.

    ``scheduler`` is the scheduler with both workers, ``triggerer`` both triggerers; each can be had by its own name
    too: ``scheduler-1``, ``worker-2``, ``triggerer-1`` ..., and ``postgres`` and ``redis``. ``scheduler-2``
    does not run until it is started.

    :param home: Folder for everything that is written; made if missing.
    :param dags_folder: Folder that Airflow reads DAG files from.
    :param env: More environment for every component.
    :param parallelism: Most tasks that run in the workers at once, half of them in each.
    """

    def __init__(
        self, home: Path, dags_folder: Path, env: Mapping[str, str] | None = None, *, parallelism: int = 16
    ) -> None:
        self._ports = {name: free_port() for name in SERVICES}
        self._password = secrets.token_hex(16)
        self._concurrency = str(parallelism // 2)
        env = {**self._settings(), "COMPONENT_NAME": "cli", **(env or {})}
        super().__init__(home, dags_folder, env, parallelism=parallelism)
        # PostgreSQL refuses to run as root.
        users = {user.pw_name for user in pwd.getpwall()}
        self._postgres_user = None if os.geteuid() else "postgres" if "postgres" in users else "nobody"
        self.components = {**self._services(), **self.components}

    # Starting and stopping

    def start_all(self) -> None:
        """Start PostgreSQL and Redis, make the database, then start the rest."""
        missing = missing_programs()
        if missing:
            raise LocalAirflowError("\n".join(missing))
        self._make_folders()
        for name in SERVICES:
            self.start(name)
        self.wait_for(
            lambda: all(self._ready(name) for name in SERVICES), 60, "PostgreSQL and Redis answer", lambda: SERVICES
        )
        self.cli("db", "migrate")
        for name in self.components:
            if name not in (*SERVICES, SPARE_SCHEDULER):
                self.start(name)

    def start(self, name: str) -> None:
        """Start a component, or those that a name stands for."""
        for each in TOGETHER.get(name, (name,)):
            super().start(each)

    def kill(self, name: str, sig: int = signal.SIGKILL, *, timeout: float = 60.0) -> None:
        """Send a signal to a component, or to those that a name stands for, and wait until they are gone."""
        for each in TOGETHER.get(name, (name,)):
            super().kill(each, sig, timeout=timeout)

    def stop(self, grace: float = 5.0) -> None:
        """Stop everything, PostgreSQL and Redis last."""
        stop_all([component for name, component in self.components.items() if name not in SERVICES], grace)
        for name in SERVICES:
            with suppress(TimeoutError):
                if self.components[name].running:
                    self.components[name].kill(_STOPPED_BY[name], timeout=grace * 2)
        stop_all([self.components[name] for name in SERVICES], grace)

    # Using it

    def query(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """Read from the metadata database, by the SQL that SQLite takes; JSON comes as text, times are in UTC."""
        import psycopg2
        from psycopg2.extras import DictCursor, register_default_json, register_default_jsonb

        with closing(psycopg2.connect(self._database_url("postgresql"), connect_timeout=10)) as connection:
            connection.set_session(readonly=True, autocommit=True)
            for register in (register_default_json, register_default_jsonb):
                register(connection, loads=str)
            with connection.cursor(cursor_factory=DictCursor) as cursor:
                cursor.execute(sql.replace("%", "%%").replace("?", "%s"), parameters)
                return list(cursor.fetchall())

    def postgres_answers(self) -> bool:
        """Tell whether the metadata database can be asked."""
        import psycopg2

        with suppress(psycopg2.OperationalError):
            return bool(self.query("SELECT 1"))
        return False

    def triggers_of(self, name: str, kind: str = "FlokitIntegrationTrigger") -> int:
        """Return how many triggers of a class a triggerer holds."""
        rows = self.query(
            "SELECT count(*) FROM trigger JOIN job ON job.id = trigger.triggerer_id"
            " WHERE job.hostname = ? AND job.state = 'running' AND trigger.classpath LIKE ?",
            (name, f"%.{kind}"),
        )
        return int(rows[0][0])

    # Inside

    def component(self, name: str, *arguments: str) -> Component:
        """Return a component that has a host name of its own: Airflow tells its jobs apart by that."""
        component = super().component(name, *arguments)
        component.env = {**self.env, "COMPONENT_NAME": name}
        return component

    def _commands(self, port: int, *, webserver: bool) -> list[tuple[str, list[str]]]:
        """Return each component's name and arguments, in the order to start them in."""
        commands = []
        for name, arguments in super()._commands(port, webserver=webserver):
            if name == "scheduler":
                commands += [(f"scheduler-{number}", arguments) for number in (1, 2)]
                worker = ["celery", "worker", "--concurrency", self._concurrency, "--skip-serve-logs"]
                worker += ["--without-mingle", "--without-gossip", "--celery-hostname"]
                commands += [(each, [*worker, _celery_name(each)]) for each in WORKERS]
            elif name == "triggerer":
                commands += [(each, arguments) for each in TRIGGERERS]
            else:
                commands.append((name, arguments))
        return commands

    def _run_tasks(self) -> list[Component]:
        return [self.components[name] for name in WORKERS]

    def _ready(self, name: str) -> bool:
        kind = name.removesuffix("-1").removesuffix("-2")
        if name == "postgres":
            return self.postgres_answers()
        if name == "redis":
            return self._redis_answers()
        if kind == "worker":
            return self._worker_answers(name)
        if kind not in JOB_TYPES:
            return super()._ready(name)
        started_at = datetime.fromtimestamp(self.components[name].started_at, UTC)
        beating = (
            "SELECT 1 FROM job WHERE job_type = ? AND hostname = ? AND state = 'running'"
            " AND start_date > ? AND latest_heartbeat > start_date"
        )
        return bool(self.query(beating, (JOB_TYPES[kind], name, started_at)))

    def _redis_answers(self) -> bool:
        import redis

        with suppress(redis.ConnectionError), redis.Redis.from_url(self._broker) as client:
            return bool(client.ping())
        return False

    def _worker_answers(self, name: str) -> bool:
        from celery import Celery

        with Celery(broker=self._broker) as app:
            return bool(app.control.ping([_celery_name(name)], timeout=1))

    @property
    def _broker(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._ports['redis']}/0"

    def _database_url(self, scheme: str) -> str:
        return f"{scheme}://{_USER}:{self._password}@127.0.0.1:{self._ports['postgres']}/{_DATABASE}"

    def _settings(self) -> dict[str, str]:
        settings = {
            "core.executor": "CeleryExecutor",
            "core.hostname_callable": "tests.system.processes.component_name",
            "database.sql_alchemy_conn": self._database_url("postgresql+psycopg2"),
            "celery.broker_url": self._broker,
            "celery.result_backend": self._database_url("db+postgresql+psycopg2"),
            "celery.sync_parallelism": "1",
            # What a killed worker had taken from the queue and not begun is queued again after that.
            "scheduler.task_queued_timeout": "180",
            "scheduler.task_queued_timeout_check_interval": "10",
            # Reading the DAG files takes a core from the tasks; but only then are new watchers begun.
            "dag_processor.min_file_process_interval": "15",
            "dag_processor.refresh_interval": "600",
        }
        return {f"AIRFLOW__{setting.replace('.', '__')}".upper(): value for setting, value in settings.items()}

    def _services(self) -> dict[str, Component]:
        logs, env = self.home / "logs", {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self._ports["postgres"],
            "unix_socket_directories": "",
            "max_connections": 200,
            "timezone": "UTC",
            "fsync": "off",  # it need not outlive this machine
        }
        postgres = [postgres_program("postgres") or "postgres", "-D", str(self.home / "postgres" / "data")]
        for setting, value in settings.items():
            postgres += ["-c", f"{setting}={value}"]
        redis = [shutil.which("redis-server") or "redis-server", str(self.home / "redis" / "redis.conf")]
        return {
            "postgres": Component(postgres, env, logs / "postgres.log", self._postgres_user),
            "redis": Component(redis, env, logs / "redis.log"),
        }

    def _make_folders(self) -> None:
        """Make the folders of PostgreSQL and Redis; where this is root, PostgreSQL's user gets a way to its own."""
        (self.home / "redis").mkdir(parents=True)
        config = self.home / "redis" / "redis.conf"
        config.touch(0o600)
        config.write_text(
            f"bind 127.0.0.1\nport {self._ports['redis']}\nrequirepass {self._password}\n"
            f'dir {self.home / "redis"}\nsave ""\nappendonly no\n'
        )
        folder = self.home / "postgres"
        folder.mkdir()
        password = folder / "password"
        password.touch(0o600)
        password.write_text(self._password)
        if self._postgres_user:
            for path in (folder, password):
                shutil.chown(path, self._postgres_user)
            for path in (self.home, self.home.parent):
                path.chmod(path.stat().st_mode | 0o011)
        initdb = [postgres_program("initdb") or "initdb", "-D", str(folder / "data"), "-U", _USER, "--no-sync"]
        initdb += ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C"]
        done = subprocess.run(
            initdb, cwd=folder, capture_output=True, text=True, check=False, **as_user(self._postgres_user)
        )
        if done.returncode:
            raise LocalAirflowError(f"initdb failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def _celery_name(name: str) -> str:
    return f"{name}@chaos"
