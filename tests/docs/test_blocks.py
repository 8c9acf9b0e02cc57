"""Every code block and command of the README and docs does what it is there for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.models import IntegrationStatus
from airflow_provider_flokit.simulator import Sync
from tests.docs.blocks import KINDS, Block, blocks, gate
from tests.docs.commands import run_command

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

# Airflow's own machinery for running tasks in one process warns, and so do providers beside this one.
pytestmark = pytest.mark.filterwarnings("default")


def of(*kinds: str) -> pytest.MarkDecorator:
    """Parametrise a test over the blocks of these kinds."""
    found = blocks(*kinds)
    return pytest.mark.parametrize("block", found, ids=[block.name for block in found])


@pytest.fixture
def workspace(flokit: SimulatedFlokit) -> SimulatedFlokit:
    """Return a simulator with the integrations that the docs speak of, which FloKit itself syncs twice a second."""
    flokit.add_integration("int_01hx4j7stripe", type="stripe", schedule_every=0.5)
    flokit.add_integration("int_01hx4j7adjust", type="adjust", schedule_every=0.5)
    return flokit


@of()
def test_every_block_says_how_it_is_tested(block: Block) -> None:
    """A block has a mark that is known and goes with its language."""
    assert block.kind, f"put <!-- test: KIND --> before it; one of {KINDS}"
    assert KINDS[block.kind][0] == block.language


@pytest.mark.usefixtures("airflow_db")
@of("run")
def test_dags_run(block: Block, workspace: SimulatedFlokit) -> None:
    """The DAG of the block runs to success."""
    run = workspace.run(dag_of(block))
    assert run.state == "success", run


def test_dags_are_read() -> None:
    """The DAG of each block can be built and serialised, as the DAG processor does."""
    from airflow.serialization import serialized_objects

    # Airflow 3.2 has split the first in two.
    name = "DagSerialization" if hasattr(serialized_objects, "DagSerialization") else "SerializedDAG"
    to_dict = getattr(serialized_objects, name).to_dict
    found = blocks("dag", "run")
    assert found
    for block in found:
        dag = dag_of(block)
        assert dag.dag_id in json.dumps(to_dict(dag))


@of("before")
def test_what_users_have_now_is_python(block: Block) -> None:
    """It compiles, and uses nothing of this package."""
    compile(block.code, block.name, "exec")
    assert "airflow_provider_flokit" not in block.code


@of("script")
def test_scripts_run(block: Block, flokit: SimulatedFlokit) -> None:
    """The script ends by itself, without an error."""
    flokit.add_integration("int_01hx4j7stripe", status="error", sync=Sync(duration=0))
    execute(block)


def test_what_only_airflow_3_has() -> None:
    """The block runs on Airflow 3; on 2 it is Python at least."""
    for block in blocks("airflow3"):
        compile(block.code, block.name, "exec")
        if AIRFLOW_V_3_0_PLUS:
            execute(block)


def test_json_is_json() -> None:
    """The block can be parsed, and has no key twice."""
    for block in blocks("json"):
        json.loads(block.code, object_pairs_hook=unique)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of an object's pairs, each of which has a key of its own."""
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.mark.usefixtures("airflow_db")
def test_test_files_pass(tmp_path: Path) -> None:
    """A user's own test files, with the README's DAG as warehouse.py and the docs' conftest.py, pass under pytest."""
    (conftest,) = blocks("conftest")
    (tmp_path / "warehouse.py").write_text(gate().code)
    (tmp_path / "conftest.py").write_text(conftest.code)
    ours_are_errors = "filterwarnings=error:::(airflow_provider_flokit|warehouse|test_)"
    files = blocks("pytest")
    for number, block in enumerate(files):
        (tmp_path / f"test_{number}.py").write_text(block.code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:anyio", "-o", ours_are_errors],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    tests = sum(block.code.count("\ndef test_") for block in files)
    assert done.returncode == 0, done.stdout[-5000:]
    assert f"{tests} passed" in done.stdout


SHELL = [
    pytest.param(command, id=f"{block.name} {command}")
    for block in blocks("shell")
    for line in block.code.splitlines()
    if (command := re.sub(r"\s+#.*", "", line).strip())
]


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.parametrize("command", SHELL)
def test_commands(command: str, workspace: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command works, run as tests/docs/commands.py says for it."""
    run_command(command, workspace, monkeypatch)


@of("diagram")
def test_the_diagram_knows_every_status(block: Block) -> None:
    """The diagram is one of states, and leaves no documented status out."""
    assert block.code.startswith("stateDiagram")
    for status in IntegrationStatus:
        assert re.search(rf"\b{status}\b", block.code), status


def execute(block: Block) -> dict[str, Any]:
    """Run a block as a module and return its names."""
    names: dict[str, Any] = {"__name__": "block", "__file__": block.name}
    exec(compile(block.code, block.name, "exec"), names)  # noqa: S102 - the project's own docs
    return names


def dag_of(block: Block) -> DAG:
    """Return the DAG of a block."""
    dag = execute(block)["dag"]
    assert isinstance(dag, DAG)
    return dag
