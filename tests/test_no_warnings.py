"""No Airflow warns of this package: not when it is imported, discovered or run, nor when its example DAGs are read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest

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
for path in sorted(Path(sys.argv[1]).glob("*.py")):
    runpy.run_path(str(path))
"""


def warned(dags: Path) -> list[str]:
    """Return what an Airflow that has just started warns of this package and of a folder of DAG files."""
    done = subprocess.run(
        [sys.executable, "-c", READ_EVERYTHING, str(dags)],
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
    ours = re.compile(f"airflow[_-]provider[_-]flokit|{re.escape(str(dags))}")
    return [line for line in done.stdout.splitlines() if ours.search(line) and re.search("(?i)warning", line)]


def test_nothing_is_warned_of() -> None:
    """Every module, the provider's discovery and every example DAG."""
    assert warned(EXAMPLE_DAGS) == []


def test_a_warning_in_a_dag_would_be_told(tmp_path: Path) -> None:
    """The test above sees what is warned of: one in a DAG file is reported."""
    (tmp_path / "dag.py").write_text("import warnings\nwarnings.warn('Moved to airflow.sdk', DeprecationWarning)\n")
    (line,) = warned(tmp_path)
    assert "Moved to airflow.sdk" in line


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("module", ["airflow_provider_flokit.operators.flokit", "block"])
def test_a_deprecation_in_a_run_fails_its_test(module: str) -> None:
    """Also where tests let Airflow's own warnings pass: the package's code is ours, and so are the docs' blocks."""
    with pytest.raises(FutureWarning, match="gone soon"):
        warnings.warn_explicit("gone soon", FutureWarning, "any.py", 9, module=module)
