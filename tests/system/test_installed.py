"""
Airflow's own command line, with the wheel installed: it finds the provider, and connections wherever they are kept.

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
from tests.system.package import NAME, environment_with
from tests.system.settings import AIRFLOW_3, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.package import Distributions

pytestmark = pytest.mark.system

CONNECTED = "Connection success!"
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


class Installed:
    """An Airflow with the wheel; commands run in its home."""

    def __init__(self, python: Path, home: Path) -> None:
        self.python = python
        self.home = home
        self.env = environment(home, home / "dags")
        self.env["AIRFLOW__CORE__TEST_CONNECTION"] = "Enabled"
        # Nothing of the checkout.
        self.env.pop("PYTHONPATH", None)
        # Long enough that no table is folded.
        self.env["COLUMNS"] = "400"

    def run(self, *command: str, **env: str) -> str:
        """Run a command of Python's to its end and return what it printed, both streams."""
        done = subprocess.run(
            [str(self.python), *command],
            cwd=self.home,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    def airflow(self, *command: str, **env: str) -> str:
        """Run an airflow command to its end and return what it printed, both streams."""
        return self.run("-m", "airflow", *command, **env)


def as_json(simulator: Simulator) -> str:
    """Return the connection to a simulator as JSON."""
    fields = {"conn_type": "flokit", "host": simulator.url, "password": simulator.api_key, "extra": SETTINGS}
    return json.dumps(fields)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """A workspace of one integration."""
    with Simulator() as simulator:
        simulator.add_integration("int_01hx4j7stripe")
        yield simulator


@pytest.fixture(scope="module")
def installed(
    request: pytest.FixtureRequest, distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """An Airflow with the wheel, its database made."""
    folder = tmp_path_factory.mktemp("installed")
    python = request.config.getoption("--installed") or environment_with(distributions.wheel, folder / "venv")
    (folder / "home").mkdir()
    installed = Installed(python, folder / "home")
    installed.airflow("db", "migrate")
    return installed


def test_it_is_the_wheel(installed: Installed) -> None:
    """What these tests use comes from the wheel; nothing of the checkout can be imported."""
    where = installed.run("-c", "import airflow_provider_flokit as p, sys; print(p.__file__, *sys.path)")
    assert where.startswith(str(installed.python.parent.parent))
    assert f"{REPOSITORY} " not in where


def test_airflow_discovers_the_provider(installed: Installed) -> None:
    """``airflow providers`` knows the package with its version, and the connection type with its hook."""
    listed = installed.airflow("providers", "get", "airflow-provider-flokit", "--output", "json")
    assert '"airflow-provider-flokit"' in listed
    assert f'"{airflow_provider_flokit.__version__}"' in listed
    (hook,) = [line for line in installed.airflow("providers", "hooks").splitlines() if line.startswith("flokit")]
    assert "airflow_provider_flokit.hooks.flokit.FlokitHook" in hook
    assert "flokit_conn_id" in hook


def test_airflow_reads_the_example_dags(installed: Installed, distributions: Distributions) -> None:
    """Every example is in the source distribution, is read there without an error, and defines a DAG."""
    with tarfile.open(distributions.sdist) as archive:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from Python 3.11.4 on
        archive.extractall(installed.home, **safely)  # noqa: S202 - the archive is our own
    printed = installed.run("-W", "ignore", "-c", READ_DAGS, str(installed.home / NAME / "example_dags"))
    (line,) = [line for line in printed.splitlines() if line.startswith('{"')]
    read = json.loads(line)
    assert read["errors"] == {}
    assert set(read["files"]) == {path.name for path in EXAMPLE_DAGS.glob("*.py")} - WITHOUT_A_DAG


@pytest.mark.parametrize("form", ["json", "uri"])
def test_connections_add(installed: Installed, simulator: Simulator, form: str) -> None:
    """A connection added as JSON or as a URI keeps its settings, and ``airflow connections test`` reaches FloKit."""
    value = as_json(simulator) if form == "json" else simulator.connection_uri(None, **SETTINGS)
    conn_id = f"added_as_{form}"
    assert "Successfully added" in installed.airflow("connections", "add", conn_id, f"--conn-{form}", value)
    printed = installed.airflow("connections", "get", conn_id, "--output", "json")
    (line,) = [line for line in printed.splitlines() if line.startswith('[{"')]
    (connection,) = json.loads(line)
    assert (connection["conn_type"], connection["password"]) == ("flokit", simulator.api_key)
    assert connection["extra_dejson"] == SHOWN
    assert CONNECTED in installed.airflow("connections", "test", conn_id)
    assert simulator.requests[-1].status == 200


def test_connections_test_with_a_wrong_key(installed: Installed, simulator: Simulator) -> None:
    """The message tells the status and what to do; the key is not in it."""
    installed.airflow("connections", "add", "wrong_key", "--conn-uri", simulator.connection_uri("fk_rw_mistyped"))
    printed = installed.airflow("connections", "test", "wrong_key")
    assert "HTTP 401" in printed
    assert "Put a valid API key into" in printed
    assert "fk_rw_mistyped" not in printed


def test_environment_variable(installed: Installed, simulator: Simulator) -> None:
    """``AIRFLOW_CONN_FLOKIT_DEFAULT`` holds the default connection."""
    env = {"AIRFLOW_CONN_FLOKIT_DEFAULT": simulator.connection_uri(None, **SETTINGS)}
    assert CONNECTED in installed.airflow("connections", "test", "flokit_default", **env)


def test_secrets_backend(installed: Installed, simulator: Simulator) -> None:
    """A secrets backend, here Airflow's local files, holds the connection."""
    secrets = installed.home / "connections.json"
    secrets.write_text(f'{{"from_a_backend": {as_json(simulator)}}}')
    env = {
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(secrets)}),
    }
    assert CONNECTED in installed.airflow("connections", "test", "from_a_backend", **env)
