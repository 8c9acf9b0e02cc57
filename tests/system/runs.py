"""What came of a DAG's run: states, XComs, and logs as a person reads them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.local_airflow import LocalAirflow

_STAMP = re.compile(r"^\[?(\d{4}-\d\d-\d\d[T ][0-9:.,+-]+)")


@dataclass(frozen=True)
class Run:
    """A run of a DAG."""

    airflow: LocalAirflow
    dag_id: str
    run_id: str

    def query(self, columns: str, table: str) -> list[Any]:
        """Read what a table has of this run."""
        sql = f"SELECT {columns} FROM {table} WHERE dag_id = ? AND run_id = ?"  # noqa: S608
        return self.airflow.query(sql, (self.dag_id, self.run_id))

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

    def wait_in(self, states: dict[str, str]) -> None:
        """Wait until tasks, by id, are in these states."""

        def reached() -> bool:
            now = self.tasks()
            return all(now.get((task_id, -1)) == state for task_id, state in states.items())

        self.airflow.wait_for(reached, f"{self.dag_id}: {states}", self.tasks)

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        """Return an XCom of a task as plain JSON values."""
        rows = self.query("task_id, key, value", "xcom")
        return next(plain_xcom(row["value"]) for row in rows if (row["task_id"], row["key"]) == (task_id, key))

    def log(self, task_id: str, map_index: int = -1, try_number: int | None = None) -> str:
        """Return what one try of a task, by default the newest, logged in workers and triggerer, in order of time."""
        parts = [f"dag_id={self.dag_id}", f"run_id={self.run_id}", f"task_id={task_id}"]
        folder = self.airflow.home.joinpath("logs", "tasks", *parts)
        if map_index >= 0:
            folder /= f"map_index={map_index}"
        files: dict[int, list[Path]] = {}
        for file in sorted(folder.glob("attempt=*")):
            files.setdefault(int(re.findall(r"\d+", file.name)[0]), []).append(file)
        entries = [entry for file in files.get(try_number or max(files, default=0), []) for entry in _entries(file)]
        return "\n".join(text for _, text in sorted(entries, key=lambda entry: entry[0]))


def plain_xcom(stored: Any) -> Any:
    """Return an XCom, as the database has it, as plain JSON values."""
    # SQLite by itself turns a bare JSON number into a number; Airflow 2 stores bytes.
    return json.loads(stored) if isinstance(stored, str | bytes) else stored


def _entries(file: Path) -> list[tuple[str, str]]:
    """Return a file's entries as (time, text); a line without a time (Airflow 2) belongs to the one before it."""
    entries: list[tuple[str, str]] = []
    for line in file.read_text(errors="replace").splitlines():
        stamp = entries[-1][0] if entries else ""
        if line.startswith("{"):
            record = json.loads(line)
            entries.append((str(record.get("timestamp") or stamp).replace("Z", "+00:00"), _text(record)))
        else:
            found = _STAMP.match(line)
            entries.append((found[1] if found else stamp, line))
    return entries


def _text(record: dict[str, Any]) -> str:
    """Return a record of Airflow 3 as lines: what was said, the exceptions, and the reason of a skip."""
    lines = [f"[{record.get('timestamp', '')}] {str(record.get('level', '')).upper()} - {record.get('event', '')}"]
    lines += [f"{error.get('exc_type')}: {error.get('exc_value')}" for error in record.get("error_detail") or []]
    return "\n".join([*lines, str(record.get("reason", ""))])
