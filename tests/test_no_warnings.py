"""No Airflow warns of this package: not when it is imported, nor when it is discovered, nor when its DAGs are read."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.checkout import EXAMPLE_DAGS, REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


def warned(dags: Path) -> list[dict[str, Any]]:
    """Return every warning about this package and a folder of DAG files, in an Airflow that has just started."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.every_warning", str(dags)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_nothing_is_warned_of() -> None:
    """Every module, the provider's discovery and every example DAG: no warning that comes from here, or names it."""
    assert warned(EXAMPLE_DAGS) == []


def test_a_deprecated_import_would_be_told(tmp_path: Path) -> None:
    """The test above sees what an Airflow warns of: a DAG with an import that is deprecated is reported."""
    (tmp_path / "dag.py").write_text("import warnings\nwarnings.warn('Moved to airflow.sdk', DeprecationWarning)\n")
    (warning,) = warned(tmp_path)
    assert warning["kind"] == "DeprecationWarning"
    assert warning["path"] == str(tmp_path / "dag.py")
