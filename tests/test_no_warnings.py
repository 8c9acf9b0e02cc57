"""No Airflow warns of this package: not when it is imported, nor when it is discovered, nor when its DAGs are read."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from tests.checkout import EXAMPLE_DAGS, REPOSITORY
from tests.deprecations import ours_fail


def test_nothing_is_warned_of() -> None:
    """Every module, the provider's discovery and every example DAG, in an Airflow that has just started."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.every_warning", str(EXAMPLE_DAGS)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("{")] == []


@pytest.mark.filterwarnings("default")
def test_a_deprecation_of_ours_fails_a_test_that_lets_warnings_pass() -> None:
    """The docs' code is ours, Airflow's is not: what it warns of itself is handed on."""
    with pytest.raises(AssertionError, match=r"gone soon.*docs/recipes\.md:36"), ours_fail():
        warnings.warn_explicit("gone soon", FutureWarning, "docs/recipes.md:36", 9)
    with pytest.warns(FutureWarning, match="gone soon"), ours_fail():
        warnings.warn_explicit("gone soon", FutureWarning, "airflow/models/dag.py", 9)
