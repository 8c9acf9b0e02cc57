"""
Airflow's own command line, with the wheel installed: it finds the provider, its example DAGs and its connections.

Every command is a process of its own, with an AIRFLOW_HOME of its own, outside this checkout. ``make dist`` has these
tests run where pip has installed what is to be released: ``--distributions FOLDER --installed PYTHON``.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

import airflow_provider_flokit
from airflow_provider_flokit.simulator import Simulator
from tests.checkout import EXAMPLE_DAGS, REPOSITORY
from tests.system.distribution import NAME, environment_with
from tests.system.settings import AIRFLOW_3, environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.distribution import Distributions

    Run = Callable[..., str]

pytestmark = pytest.mark.system

AIRFLOW = ("-m", "airflow")
# As the command line shows them: texts.
SHOWN = {"timeout": "2.5", "retry_limit": "0", "verify": "False", "proxies": {"https": "http://proxy.example:3128"}}
SETTINGS: dict[str, Any] = {**SHOWN, "timeout": 2.5, "retry_limit": 0, "verify": False}
WITHOUT_A_DAG = set() if AIRFLOW_3 else {"flokit_all_sources.py", "flokit_watched_asset.py"}
"""Airflow 2 has no asset watchers; there these examples define no DAG."""

READ_DAGS = """
import json, os, sys
from airflow.models.dagbag import DagBag
bag = DagBag(sys.argv[1])
files = [os.path.basename(dag.fileloc) for dag in bag.dags.values()]
print(json.dumps({"errors": bag.import_errors, "files": files}))
"""


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command of a Python that has the wheel, with an Airflow of its own, and return all that it printed."""
    folder = tmp_path_factory.mktemp("installed")
    python = request.config.getoption("--installed") or environment_with(distributions.wheel, folder / "venv")
    env = environment(folder, folder / "dags")
    # Long enough that no table is folded.
    env |= {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled", "COLUMNS": "400"}
    # Nothing of the checkout.
    env.pop("PYTHONPATH", None)

    def run(*command: str) -> str:
        done = subprocess.run(
            [str(python), *command],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    run(*AIRFLOW, "db", "migrate")
    return run


def test_it_is_the_wheel(run: Run) -> None:
    """What these tests use comes from the wheel; nothing of the checkout can be imported."""
    where = run("-c", "import airflow_provider_flokit as p, sys; print(p.__file__, *sys.path, sys.prefix)")
    assert where.startswith(where.split()[-1])
    assert f"{REPOSITORY} " not in where


def test_airflow_discovers_the_provider(run: Run) -> None:
    """``airflow providers`` knows the package with its version, and the connection type with its hook."""
    listed = run(*AIRFLOW, "providers", "get", "airflow-provider-flokit", "--output", "json")
    assert '"airflow-provider-flokit"' in listed
    assert f'"{airflow_provider_flokit.__version__}"' in listed
    (hook,) = [line for line in run(*AIRFLOW, "providers", "hooks").splitlines() if line.startswith("flokit")]
    assert "airflow_provider_flokit.hooks.flokit.FlokitHook" in hook
    assert "flokit_conn_id" in hook


def test_airflow_reads_the_example_dags(run: Run, distributions: Distributions, tmp_path: Path) -> None:
    """Every example is in the source distribution, is read there without an error, and defines a DAG."""
    with tarfile.open(distributions.sdist) as archive:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from Python 3.11.4 on
        archive.extractall(tmp_path, **safely)  # noqa: S202 - the archive is our own
    printed = run("-W", "ignore", "-c", READ_DAGS, str(tmp_path / NAME / "example_dags"))
    (line,) = [line for line in printed.splitlines() if line.startswith('{"')]
    read = json.loads(line)
    assert read["errors"] == {}
    assert set(read["files"]) == {path.name for path in EXAMPLE_DAGS.glob("*.py")} - WITHOUT_A_DAG


@pytest.mark.parametrize("form", ["json", "uri"])
def test_connections_add(run: Run, form: str) -> None:
    """A connection added as JSON or as a URI keeps its settings, and ``airflow connections test`` reaches FloKit."""
    with Simulator() as simulator:
        fields = {"conn_type": "flokit", "host": simulator.url, "password": simulator.api_key, "extra": SETTINGS}
        value = json.dumps(fields) if form == "json" else simulator.connection_uri(None, **SETTINGS)
        conn_id = f"added_as_{form}"
        assert "Successfully added" in run(*AIRFLOW, "connections", "add", conn_id, f"--conn-{form}", value)
        assert "Connection success!" in run(*AIRFLOW, "connections", "test", conn_id)
        assert simulator.requests[-1].status == 200
    printed = run(*AIRFLOW, "connections", "get", conn_id, "--output", "json")
    (line,) = [line for line in printed.splitlines() if line.startswith('[{"')]
    (connection,) = json.loads(line)
    assert (connection["conn_type"], connection["password"]) == ("flokit", simulator.api_key)
    assert connection["extra_dejson"] == SHOWN
