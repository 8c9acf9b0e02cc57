"""
An Airflow as teams run it that have outgrown one machine, on this machine: PostgreSQL, Redis, Celery, two triggerers.

PostgreSQL and Redis are programs of this machine, started here for themselves alone, on loopback and in one folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError

from tests.system.local_airflow import LocalAirflow, LocalAirflowError, free_port
from tests.system.processes import Component, as_user, stop_all

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICES = ("postgres", "redis")


def program(name: str) -> str | None:
    """Return the path of a program; Debian keeps PostgreSQL's off the path."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, homes), os.environ.get("PATH", os.defpath)]))


class CeleryAirflow(LocalAirflow):
    """
    A running Airflow with Celery: two workers, two triggerers, and a spare scheduler that does not run until asked to.

    Its components are ``scheduler-1``, ``worker-2``, ``triggerer-1`` ..., ``spare-scheduler``, ``postgres``, ``redis``.
    """

    def __init__(
        self, home: Path, dags_folder: Path, env: Mapping[str, str] | None = None, *, parallelism: int = 16
    ) -> None:
        if missing := [name for name in ("postgres", "initdb", "redis-server") if not program(name)]:
            raise LocalAirflowError(f"not here: {', '.join(missing)}; apt-get install postgresql redis-server")
        ports = {name: free_port() for name in SERVICES}
        database = f"postgresql+psycopg2://airflow@127.0.0.1:{ports['postgres']}/postgres"
        settings = {
            "core.executor": "CeleryExecutor",
            "database.sql_alchemy_conn": database,
            "celery.broker_url": f"redis://127.0.0.1:{ports['redis']}/0",
            "celery.result_backend": f"db+{database}",
            "celery.sync_parallelism": "1",
            "celery.worker_concurrency": str(parallelism // 2),
            # What a killed worker had taken from the queue and not begun is queued again after that.
            "scheduler.task_queued_timeout": "180",
            "scheduler.task_queued_timeout_check_interval": "10",
            # Reading the DAG files takes a core from the tasks; but only then are new watchers begun.
            "dag_processor.min_file_process_interval": "15",
            "dag_processor.refresh_interval": "600",
        }
        named = {f"AIRFLOW__{name.replace('.', '__')}".upper(): value for name, value in settings.items()}
        super().__init__(home, dags_folder, named | dict(env or {}), parallelism=parallelism)
        self._data = self.home / "postgres" / "data"
        # PostgreSQL refuses to run as root.
        self._user = None if os.geteuid() else "postgres"
        server = f"-D {self._data} -h 127.0.0.1 -p {ports['postgres']} -N 200 -F -c timezone=UTC"
        postgres = [str(program("postgres")), *server.split(), "-c", "unix_socket_directories="]
        redis = [str(program("redis-server")), *f"--bind 127.0.0.1 --port {ports['redis']}".split(), "--save", ""]
        logs, plain = self.home / "logs", {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        self.components["postgres"] = Component(postgres, plain, logs / "postgres.log", self._user)
        self.components["redis"] = Component(redis, plain, logs / "redis.log")

    def commands(self, webserver: bool) -> dict[str, list[str]]:
        """Return the Airflow commands, by their component's name."""
        commands = super().commands(webserver)
        scheduler, triggerer = commands.pop("scheduler"), commands.pop("triggerer")
        worker = ["celery", "worker", "--skip-serve-logs", "--without-mingle", "--without-gossip", "--celery-hostname"]
        commands |= {"scheduler-1": scheduler, "spare-scheduler": scheduler}
        commands |= {name: [*worker, f"{name}@chaos"] for name in ("worker-1", "worker-2")}
        return commands | dict.fromkeys(("triggerer-1", "triggerer-2"), triggerer)

    def migrate(self) -> None:
        """Start PostgreSQL and Redis, and make the metadata database."""
        folder = self._data.parent
        folder.mkdir(parents=True)
        if self._user:
            shutil.chown(folder, self._user)
            for path in (self.home, self.home.parent):
                path.chmod(path.stat().st_mode | 0o011)
        initdb = [str(program("initdb")), "-D", str(self._data), "-U", "airflow", "--auth=trust", "--no-sync"]
        initdb += ["--encoding=UTF8", "--locale=C"]
        done = subprocess.run(initdb, cwd=folder, capture_output=True, text=True, check=False, **as_user(self._user))
        if done.returncode:
            raise LocalAirflowError(f"initdb failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        self.start(*SERVICES)
        self.wait_for(lambda: self.is_ready("postgres"), "PostgreSQL answers")
        self.cli("db", "migrate")

    def stop(self) -> None:
        """Stop everything, PostgreSQL and Redis last."""
        stop_all(component for name, component in self.components.items() if name not in SERVICES)
        super().stop()

    def is_ready(self, name: str) -> bool:
        """Tell whether a component does its work; what waits for Redis or a worker waits by itself."""
        if name == "postgres":
            with suppress(OperationalError):
                return bool(self.query("SELECT 1"))
            return False
        return name.startswith(("redis", "worker")) or super().is_ready(name)

    def triggers_of(self, name: str, kind: str = "FlokitIntegrationTrigger") -> int:
        """Return how many triggers of a class a triggerer holds."""
        rows = self.query(
            "SELECT 1 FROM trigger JOIN job ON job.id = trigger.triggerer_id"
            " WHERE job.hostname = :name AND job.state = 'running' AND trigger.classpath LIKE :kind",
            name=name,
            kind=f"%.{kind}",
        )
        return len(rows)
