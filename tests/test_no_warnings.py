"""No Airflow warns of this package: not when it is imported, nor when it is discovered, nor when its DAGs are read."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_flokit.api.client import Answer
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from tests.checkout import EXAMPLE_DAGS, REPOSITORY
from tests.deprecations import ours_fail

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit


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


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.filterwarnings("default")
def test_a_deprecation_in_a_run_would_be_told(flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tests let Airflow's warnings pass, one about our call fails them, though it is made while a task runs."""

    def deprecated(*_: Any) -> Answer[str]:
        warnings.warn("call it otherwise", DeprecationWarning, stacklevel=2)
        return Answer("sync_1", datetime.now(tz=UTC))

    flokit.add_integration("int_01hx4j7stripe")
    monkeypatch.setattr(FlokitHook, "start_sync", deprecated)
    with DAG("warned", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        FlokitTriggerSyncOperator(task_id="sync", integration_id="int_01hx4j7stripe")
    with pytest.raises(AssertionError, match=r"call it otherwise.*operators/flokit\.py"), ours_fail():
        assert flokit.run(dag).state == "success"


@pytest.mark.filterwarnings("default")
def test_a_deprecation_in_a_code_block_would_be_told() -> None:
    """The docs' code is ours, Airflow's is not: what it warns of itself is handed on."""
    with pytest.raises(AssertionError, match=r"gone soon.*docs/recipes\.md:36"), ours_fail():
        warnings.warn_explicit("gone soon", FutureWarning, "docs/recipes.md:36", 9)
    with pytest.warns(FutureWarning, match="gone soon"), ours_fail():
        warnings.warn_explicit("gone soon", FutureWarning, "airflow/models/dag.py", 9)


def test_a_deprecated_import_would_be_told(tmp_path: Path) -> None:
    """The test above sees what an Airflow warns of: a DAG with an import that is deprecated is reported."""
    (tmp_path / "dag.py").write_text("import warnings\nwarnings.warn('Moved to airflow.sdk', DeprecationWarning)\n")
    (warning,) = warned(tmp_path)
    assert warning["kind"] == "DeprecationWarning"
    assert warning["path"] == str(tmp_path / "dag.py")
