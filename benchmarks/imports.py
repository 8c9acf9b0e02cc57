"""
What reading a DAG file pays for the operator and the sensor: ``python -m benchmarks.imports``.

Each measurement is a fresh process that has loaded the base classes that every DAG file pays for, and times the rest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES: Final = 7
"""Fresh processes of which the median is taken."""

_CODE: Final = """
import time
from airflow.sdk import BaseOperator, BaseSensorOperator
begin = time.perf_counter()
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
print(time.perf_counter() - begin)
"""


def cost(python: Path, root: Path) -> float:
    """
    Return the seconds that importing operator and sensor takes beyond Airflow's own base classes: a median.

    :param python: The interpreter.
    :param root: The project's folder.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        _seconds(python, root, home)  # compiles the byte code and fills the disk's cache
        return median(_seconds(python, root, home) for _ in range(PROCESSES))


def _seconds(python: Path, root: Path, home: str) -> float:
    done = subprocess.run(  # noqa: S603 - the interpreter of the benchmarks
        [str(python), "-c", _CODE],
        cwd=root,
        env={"AIRFLOW_HOME": home, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    from pathlib import Path

    sys.stdout.write(f"{cost(Path(sys.executable), Path.cwd()) * 1000:.1f} ms\n")
