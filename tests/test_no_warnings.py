"""No Airflow warns of this package: not when it is imported or discovered, nor when its example DAGs are read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.checkout import EXAMPLE_DAGS, REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

READ_EVERYTHING = """
import importlib, pkgutil, runpy, sys, warnings
from pathlib import Path
import airflow.settings
import airflow_provider_flokit as ours

warnings.simplefilter("always")  # Airflow has filters of its own
for module in pkgutil.walk_packages(ours.__path__, "airflow_provider_flokit."):
    try:
        module.name.endswith("__main__") or importlib.import_module(module.name)
    except ModuleNotFoundError as missing:
        if missing.name.startswith(ours.__name__):  # else it is for an Airflow that has what it builds on
            raise
from airflow.providers_manager import ProvidersManager
assert "flokit" in ProvidersManager().hooks
ProvidersManager().connection_form_widgets, ProvidersManager().field_behaviours
for folder in sys.argv[1:]:
    for path in sorted(Path(folder).glob("*.py")):
        runpy.run_path(str(path))
"""


def test_nothing_of_ours_is_warned_of(tmp_path: Path) -> None:
    """Every module, the provider's discovery and every example DAG; a DAG here that warns shows that it is seen."""
    (tmp_path / "dag.py").write_text("import warnings\nwarnings.warn('Moved to airflow.sdk', DeprecationWarning)\n")
    done = subprocess.run(
        [sys.executable, "-c", READ_EVERYTHING, str(EXAMPLE_DAGS), str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "1000"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    ours = re.compile(f"airflow[_-]provider[_-]flokit|{EXAMPLE_DAGS}|{tmp_path}")
    warned = [line for line in done.stdout.splitlines() if ours.search(line) and re.search("(?i)warning", line)]
    assert ["Moved to airflow.sdk" in line for line in warned] == [True], warned
