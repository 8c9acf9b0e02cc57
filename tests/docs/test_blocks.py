"""Every code block of the README and docs works: sybil finds them, and each is run, loaded or looked up."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_2_PLUS
from sybil import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from airflow_provider_flokit.models import Integration
from airflow_provider_flokit.simulator import Sync
from tests.checkout import REPOSITORY, run

if TYPE_CHECKING:
    from sybil import Example

    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

# Airflow's own machinery for running tasks in one process warns, and so do providers beside this one.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("airflow_db")]

PARSERS = [CodeBlockParser(language, PythonEvaluator()) for language in ("python", "shell", "json", "mermaid")]
DOCUMENTS = [
    Document.parse(str(path), *PARSERS)
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
]
BLOCKS = [block for document in DOCUMENTS for block in document.examples()]
PYTHON = [block for block in BLOCKS if block.region.lexemes["arguments"] == "python"]
TEST_FILES = [block for block in PYTHON if "def test_" in block.parsed]
WATCHED = [block for block in PYTHON if "AssetWatcher(" in block.parsed]
# What users have before they move here; its providers need not be installed.
FOREIGN = [block for block in PYTHON if "airflow_provider_flokit" not in block.parsed]
START = datetime(2026, 1, 1, tzinfo=UTC)


def parametrize(blocks: list[Example]) -> pytest.MarkDecorator:
    """Parametrise a test over blocks, by document and line."""
    return pytest.mark.parametrize("block", blocks, ids=lambda block: f"{Path(block.path).name}:{block.line}")


def evaluate(block: Example) -> tuple[list[DAG], list[Asset]]:
    """Run a block as a module of its own; return its DAGs and assets."""
    block.namespace.clear()
    block.namespace["__name__"] = "block"
    block.evaluate()
    dags, assets = ([each for each in block.namespace.values() if isinstance(each, kind)] for kind in (DAG, Asset))
    assert len(dags) == block.parsed.count("with DAG("), "each DAG needs a name: with DAG(...) as dag"
    return dags, assets


def test_no_block_is_overlooked() -> None:
    """Every fence belongs to a block of a language that is tested here."""
    for document in DOCUMENTS:
        assert document.text.count("```") == 2 * len(list(document.examples())), document.path


@parametrize([block for block in PYTHON if block not in TEST_FILES + WATCHED + FOREIGN])
def test_dags_and_scripts_run(block: Example, flokit: SimulatedFlokit) -> None:
    """What the block does, it does; its DAG, or the one around its tasks, succeeds."""
    if "outlets=" in block.parsed and AIRFLOW_V_3_0_PLUS and not AIRFLOW_V_3_1_PLUS:
        pytest.skip("dag.test() of Airflow 3.0 refuses tasks with outlets")
    flokit.add_integration("int_01hx4j7stripe", type="stripe", schedule_every=0.5)
    flokit.add_integration("int_01hx4j7adjust", type="adjust", schedule_every=0.5)
    flokit.add_integration("int_01hx4j7adapty", type="adapty", status="error", sync=Sync(duration=0))
    with DAG("around", schedule=None, start_date=START) as around:
        dags, _ = evaluate(block)
    for dag in [around, *dags]:
        if dag.tasks:
            run = flokit.run(dag)
            assert run.state == "success", run


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no asset watchers")
@parametrize(WATCHED)
def test_watched_assets_are_loaded(block: Example, capsys: pytest.CaptureFixture[str]) -> None:
    """The scheduler can store the assets with their watchers; the task of the DAG understands the documented event."""
    from airflow.sdk.definitions.asset import AssetUniqueKey
    from airflow.sdk.execution_time.context import TriggeringAssetEventsAccessor
    from airflow.serialization import serialized_objects as serialized

    dags, assets = evaluate(block)
    store: Any = serialized.DagSerialization if AIRFLOW_V_3_2_PLUS else serialized.SerializedDAG
    for asset in assets:
        stored = json.dumps(store.to_dict(DAG("watched", schedule=[asset], start_date=START)))
        assert stored.count("FlokitSyncedTrigger") == len(asset.watchers) > 0
    (event,) = (json.loads(each.parsed) for each in BLOCKS if '"event"' in each.parsed)
    assert Integration.from_json(event["integration"]).to_json() == event["integration"]
    for dag in dags:
        store.to_dict(dag)
        told = {AssetUniqueKey.from_asset(assets[0]): [type("Event", (), {"extra": {"payload": event}})]}
        dag.tasks[0].python_callable(triggering_asset_events=TriggeringAssetEventsAccessor(told))
        assert event["last_synced_at"] in capsys.readouterr().out


@parametrize(FOREIGN)
def test_what_users_have_now_is_python(block: Example) -> None:
    """It compiles."""
    compile(block.parsed, block.path, "exec")


def test_test_files_pass(tmp_path: Path) -> None:
    """A user's own tests, with the README's gate as warehouse.py and the documented conftest.py, pass under pytest."""
    gate, conftest = (
        next(block.parsed for block in PYTHON if text in block.parsed) for text in ('DAG("warehouse"', "\npytest_plug")
    )
    (tmp_path / "warehouse.py").write_text(gate)
    (tmp_path / "conftest.py").write_text(conftest)
    for number, block in enumerate(TEST_FILES):
        (tmp_path / f"test_{number}.py").write_text(block.parsed)
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:anyio", cwd=tmp_path)
    assert f"{sum(block.parsed.count('def test_') for block in TEST_FILES)} passed" in done


SHELL = [block for block in BLOCKS if block.region.lexemes["arguments"] == "shell"]


@pytest.mark.parametrize("command", [line for block in SHELL for line in block.parsed.splitlines()])
def test_commands_exist(command: str) -> None:
    """Airflow's commands are run; of the others, package, module, options and target are there."""
    match shlex.split(command, comments=True):
        case ["pip", "install", package]:
            assert importlib.metadata.metadata(package)["Name"] == package
        case ["airflow", *words]:
            assert "Successfully added" in run(sys.executable, "-m", "airflow", *words)
        case ["python", "-m", module, *options]:
            offered = run(sys.executable, "-m", module, "--help")
            assert {option for option in options if option.startswith("-")} <= set(re.findall(r"--[\w-]+", offered))
        case ["make", target]:
            assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        case _:
            pytest.fail("nothing here says how to check this")
