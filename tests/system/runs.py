"""What came of a DAG's run: states, XComs and logs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.system.local_airflow import LocalAirflow


@dataclass(frozen=True)
class Run:
    """A run of a DAG."""

    airflow: LocalAirflow
    dag_id: str
    run_id: str

    def query(self, columns: str, table: str) -> list[Any]:
        """Read what a table has of this run."""
        sql = f"SELECT {columns} FROM {table} WHERE dag_id = :dag_id AND run_id = :run_id"  # noqa: S608
        return self.airflow.query(sql, dag_id=self.dag_id, run_id=self.run_id)

    def state(self) -> str:
        """Return the run's state, "" until Airflow has stored the run."""
        return str(next((row["state"] for row in self.query("state", "dag_run")), ""))

    def tasks(self) -> dict[tuple[str, int], str | None]:
        """Return the state of every task instance, by task id and map index (-1: not mapped)."""
        rows = self.query("task_id, map_index, state", "task_instance")
        return {(row["task_id"], row["map_index"]): row["state"] for row in rows}

    def count(self, state: str) -> int:
        """Return how many task instances are in a state."""
        return list(self.tasks().values()).count(state)

    def wait(self) -> str:
        """Wait until the run has ended and return its state."""
        self.airflow.wait_for(lambda: self.state() in ("success", "failed"), f"{self.dag_id} has ended", self.tasks)
        return self.state()

    def wait_in(self, state: str, *tasks: str) -> None:
        """Wait until tasks, by id, are in a state."""

        def reached() -> bool:
            now = self.tasks()
            return all(now.get((task_id, -1)) == state for task_id in tasks)

        self.airflow.wait_for(reached, f"{self.dag_id}: {tasks} are {state}", self.tasks)

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        """Return an XCom of a task as plain JSON values."""
        rows = self.query("task_id, key, value", "xcom")
        return next(plain_xcom(row["value"]) for row in rows if (row["task_id"], row["key"]) == (task_id, key))

    def log(self, task_id: str, map_index: int = -1, try_number: int | None = None) -> str:
        """Return the log files of one try of a task, by default the newest; from Airflow 3 on, their lines are JSON."""
        parts = [f"dag_id={self.dag_id}", f"run_id={self.run_id}", f"task_id={task_id}"]
        folder = self.airflow.home.joinpath("logs", "tasks", *parts)
        if map_index >= 0:
            folder /= f"map_index={map_index}"
        numbers = [int(file.name.removeprefix("attempt=").split(".")[0]) for file in folder.glob("attempt=*")]
        # One file by the workers, and one by each triggerer.
        files = folder.glob(f"attempt={try_number or max(numbers, default=0)}.log*")
        return "\n".join(file.read_text(errors="replace") for file in sorted(files))


def plain_xcom(stored: Any) -> Any:
    """Return an XCom, as the database has it, as plain JSON values."""
    # SQLite by itself turns a bare JSON number into a number; Airflow 2 stores bytes.
    return json.loads(stored) if isinstance(stored, str | bytes) else stored
