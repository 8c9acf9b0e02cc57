"""
How long a gate takes whose integration is ready already: ``python -m benchmarks.ready``.

A real Airflow with the LocalExecutor runs a deferrable sensor and, in turn, a ``@task`` that makes one request itself,
both against a simulator. The goal is a ratio of the medians, from the task's start to its success: the time in the
queue is the scheduler's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final

from airflow_provider_flokit.simulator import Simulator
from tests.system.local_airflow import LocalAirflow
from tests.system.settings import AIRFLOW_VERSION

GOAL: Final = 1.3
SENSOR, REQUEST = "ready_sensor", "ready_request"


def seconds(airflow: LocalAirflow, dag_id: str) -> tuple[float, float]:
    """Run a DAG once; return the seconds from queued and from started to success."""
    run = airflow.trigger(dag_id)
    state = run.wait()
    if state != "success":
        raise RuntimeError(f"{dag_id} ended as {state}:\n{run.log('measured')}")
    (row,) = run.query("queued_dttm, start_date, end_date", "task_instance")
    queued, started, ended = (datetime.fromisoformat(row[name]) for name in ("queued_dttm", "start_date", "end_date"))
    return (ended - queued).total_seconds(), (ended - started).total_seconds()


def main() -> int:
    """Measure; 0 if the goal is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ready", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="of which the medians are shown (default: %(default)s)")
    options = parser.parse_args()
    with Simulator() as simulator, tempfile.TemporaryDirectory(prefix="flokit-ready-") as scratch:
        simulator.add_integration("int_ready")
        env = {
            "AIRFLOW_CONN_FLOKIT_DEFAULT": simulator.connection_uri(),
            "READY_URL": simulator.url,
            "READY_KEY": simulator.api_key,
        }
        with LocalAirflow(Path(scratch, "airflow"), Path(__file__).parent / "ready_dags", env) as airflow:
            airflow.wait_until_ready()
            taken: dict[str, list[tuple[float, float]]] = {SENSOR: [], REQUEST: []}
            for dag_id in taken:
                seconds(airflow, dag_id)  # the first run of each compiles byte code
            asked = len(simulator.requests)
            for number in range(options.runs):
                # In turn, and who comes first too: the scheduler's own rhythm must not favour one of them.
                for dag_id in sorted(taken, reverse=bool(number % 2)):
                    taken[dag_id].append(seconds(airflow, dag_id))
            requests = (len(simulator.requests) - asked) / options.runs
    version = ".".join(map(str, AIRFLOW_VERSION))
    lines = [
        f"| Airflow {version}, medians of {options.runs} | ready sensor | one request | ratio |",
        "| --- " * 4 + "|",
    ]
    ratios = []
    for number, title in enumerate(("from queued to success", "from started to success")):
        ours, theirs = (median(times[number] for times in taken[dag_id]) for dag_id in (SENSOR, REQUEST))
        ratios.append(ours / theirs)
        lines.append(f"| {title} | {ours:.2f} s | {theirs:.2f} s | {ours / theirs:.2f} |")
    met = ratios[1] <= GOAL
    lines.append(f"\nRequests for both together: {requests:g}. Goal: a ratio of {GOAL}, met: {'yes' if met else 'NO'}.")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
