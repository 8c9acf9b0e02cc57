"""Every code block and command of the README and docs does what it is there for."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_2_PLUS

from airflow_provider_flokit.models import IntegrationStatus
from airflow_provider_flokit.simulator import Sync
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger
from tests.docs.blocks import KINDS, Block, blocks, blocks_of, gate
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


def test_every_kind_is_there() -> None:
    """No kind of block is tested that the docs have not."""
    assert {block.kind for block in blocks()} == set(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint()\n```",
        "~~~python\nprint()\n~~~",
        "`````python\nprint()\n`````",
        "  ```python\n  print()\n  ```",
        "```python title=here.py\nprint()\n```",
        "``` python\nprint()\n```",
        "```shell-session\nprint()\n```",
        "```python\nprint()",
        "    print()",
        "\tprint()",
        "* A list:\n\n  ```python\n  print()\n  ```",
        "1. A list:\n\n       print()",
        "> ```python\n> print()\n> ```",
    ],
)
@pytest.mark.parametrize("before", ["", "# Heading\n\n", "A paragraph.\n\n", "<!-- test: run -->\n```python\n```\n\n"])
def test_no_code_is_overlooked(before: str, text: str) -> None:
    """However Markdown lets code be written, it is a block, to which the mark of the block before does not apply."""
    *_, found = blocks_of(f"{before}{text}\n", "here.md")
    assert (found.kind, found.code.strip()) == (None, "print()")


@pytest.mark.usefixtures("airflow_db")
@of("run")
def test_dags_run(block: Block, workspace: SimulatedFlokit) -> None:
    """The DAG of the block runs to success."""
    run = workspace.run(dag_of(block))
    assert run.state == "success", run


@pytest.mark.skipif(
    AIRFLOW_V_3_0_PLUS and not AIRFLOW_V_3_1_PLUS, reason="dag.test() of Airflow 3.0 refuses tasks with outlets"
)
@pytest.mark.usefixtures("airflow_db")
@of("task")
def test_tasks_run(block: Block, workspace: SimulatedFlokit) -> None:
    """The task of the block runs to success, in a DAG that has nothing else."""
    with DAG("block", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        execute(block)
    run = workspace.run(dag)
    assert list(run.states.values()) == ["success"], run


@of("run", "watch")
def test_dags_are_read(block: Block, tmp_path: Path) -> None:
    """The DAG processor finds the DAG of the block, and can store it, the watchers of its assets included."""
    if block.kind == "watch" and not AIRFLOW_V_3_0_PLUS:
        pytest.skip("Airflow 2 has no asset watchers")
    from airflow.serialization import serialized_objects

    # Airflow 3.2 has split the first in two.
    name = "DagSerialization" if hasattr(serialized_objects, "DagSerialization") else "SerializedDAG"
    to_dict = getattr(serialized_objects, name).to_dict
    dags = read(block, tmp_path)
    assert len(dags) == block.code.count("with DAG(")
    for dag in dags:
        stored = json.dumps(to_dict(dag))
        assert dag.dag_id in stored
        assert stored.count("FlokitSyncedTrigger") == block.code.count("AssetWatcher(")


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no asset watchers")
@of("watch")
def test_syncs_start_dags(
    block: Block, flokit: SimulatedFlokit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each watcher tells of what happens, as documented, and the task of the DAG understands what it is told."""
    from airflow.sdk.definitions.asset import AssetUniqueKey
    from airflow.sdk.execution_time.context import TriggeringAssetEventsAccessor

    ids, synced_at = ("int_01hx4j7stripe", "int_01hx4j7adjust"), "2099-01-01T12:00:00Z"
    for each in ids:
        flokit.add_integration(each)

    assets = [value for value in execute(block).values() if isinstance(value, Asset)]
    triggers = [quick(watcher.trigger) for asset in assets for watcher in asset.watchers]
    events: list[Any] = []

    async def collect(trigger: FlokitSyncedTrigger) -> None:
        async for event in trigger.run():
            events.append(event.payload)  # noqa: PERF401 - kept also when it is cancelled

    async def watch() -> None:
        tasks = [asyncio.create_task(collect(trigger)) for trigger in triggers]
        async with asyncio.timeout(30):
            while len(flokit.requests) < 3:  # noqa: ASYNC110 - what was there before is seen by then
                await asyncio.sleep(0.01)
            for each in ids:
                flokit.set_state(each, status="error", error_message="bad secret", last_synced_at=synced_at)
            while len(events) < len(tasks):  # noqa: ASYNC110 - a watcher never ends
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(watch())
    happened = [(event["event"], event["integration_id"]) for event in events]
    assert sorted(happened) == sorted((trigger.on, trigger.integration_id) for trigger in triggers)
    (documented,) = [json.loads(block.code) for block in blocks("json") if '"event"' in block.code]
    assert all(event.keys() == documented.keys() for event in events)
    for dag in read(block, tmp_path):
        (asset,), (event,), (load,) = assets, events, dag.tasks
        triggering = {AssetUniqueKey.from_asset(asset): [SimpleNamespace(extra={"payload": event})]}
        load.python_callable(triggering_asset_events=TriggeringAssetEventsAccessor(triggering))
        assert synced_at in capsys.readouterr().out


def quick(trigger: Any) -> FlokitSyncedTrigger:
    """Return the trigger as the triggerer makes it from its row, but one that polls quickly."""
    path, arguments = trigger.serialize()
    assert path == f"{FlokitSyncedTrigger.__module__}.{FlokitSyncedTrigger.__name__}"
    return FlokitSyncedTrigger(**{**arguments, "poll_interval": 0.05})


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
    (conftest,) = {block.code for block in blocks("conftest")}
    (tmp_path / "warehouse.py").write_text(gate().code)
    (tmp_path / "conftest.py").write_text(conftest)
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


def read(block: Block, folder: Path) -> list[DAG]:
    """Return the DAGs that Airflow finds in a file with the block."""
    module = "airflow.dag_processing.dagbag" if AIRFLOW_V_3_2_PLUS else "airflow.models.dagbag"
    file = folder / "block.py"
    file.write_text(block.code)
    bag = importlib.import_module(module).DagBag(file)
    assert not bag.import_errors
    return list(bag.dags.values())


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
