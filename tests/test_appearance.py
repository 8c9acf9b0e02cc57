"""How tasks look in Airflow's graph, in the list of rendered fields, and in their logs."""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Sync
from tests.checkout import EXAMPLE_DAGS
from tests.modes import DEFERRED, WORKER, run

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.providers.common.compat.sdk import BaseOperator

    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

KINDS = [FlokitTriggerSyncOperator, FlokitIntegrationSensor]
STRIPE = "int_01hx4j7stripe"
EXAMPLES = sorted(EXAMPLE_DAGS.glob("*.py"))


def luminance(colour: str) -> float:
    """Return the relative luminance of a ``#rrggbb`` colour (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2)."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_readable_in_light_and_dark(kind: type[FlokitTriggerSyncOperator]) -> None:
    """The name's contrast with its node is that of WCAG's AAA, and so is the node's with a dark page."""
    assert contrast(kind.ui_color, kind.ui_fgcolor) >= 7
    assert contrast(kind.ui_color, "#1a202c") >= 7


def test_operator_and_sensor_look_different() -> None:
    """The two can be told apart in the graph."""
    assert FlokitTriggerSyncOperator.ui_color != FlokitIntegrationSensor.ui_color


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_explain_themselves(path: Path) -> None:
    """The DAG's page in Airflow shows the file's docstring, which says what is needed and reads as Markdown."""
    tree = ast.parse(path.read_text())
    text = ast.get_docstring(tree) or ""
    assert "doc_md=__doc__" in path.read_text()
    assert "**Needed:**" in text
    assert "``" not in text.replace("```", "")


@pytest.fixture
def _no_known_secrets() -> None:
    """Airflow masks in rendered fields whatever was a password in this process: those of other tests are short."""
    for name, module in list(sys.modules.items()):
        if name.endswith(".secrets_masker") and hasattr(module, "_secrets_masker"):
            masker = module._secrets_masker()
            masker.patterns.clear()
            masker.replacer = None


@pytest.mark.usefixtures("airflow_db", "_no_known_secrets")
@pytest.mark.filterwarnings("default")
def test_rendered_fields_show_the_receipt_and_no_secret(flokit: SimulatedFlokit) -> None:
    """The rendered fields show the receipt as JSON, so one sees which sync is waited for; the key is nowhere."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.settings import Session
    from sqlalchemy import select

    flokit.add_integration(STRIPE)
    with DAG("rendered", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
        FlokitIntegrationSensor(task_id="synced", receipt=sync.output["receipt"])
        many = FlokitTriggerSyncOperator.partial(task_id="many").expand(integration_id=[STRIPE])
        FlokitIntegrationSensor(task_id="all_synced", receipt=many.output["receipt"])
    assert flokit.run(dag).state == "success"
    query = select(RenderedTaskInstanceFields).where(RenderedTaskInstanceFields.dag_id == "rendered")
    with Session() as session:
        fields = {row.task_id: row.rendered_fields for row in session.scalars(query)}
    assert fields["sync"] == {"integration_id": STRIPE, "integration_type": None, "flokit_conn_id": "flokit_default"}
    assert fields["synced"]["receipt"]["sync_id"] in {run.sync_id for run in flokit.syncs}
    assert fields["synced"]["receipt"]["baseline"]["id"] == STRIPE
    assert [receipt["baseline"]["id"] for receipt in fields["all_synced"]["receipt"]] == [STRIPE]
    assert FlokitIntegrationSensor.template_fields_renderers == {"receipt": "json"}
    assert flokit.api_key not in json.dumps(fields)


def test_the_log_tells_the_story_in_a_few_lines(flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was before, what was requested, each change of status, and the end; nothing per poll."""
    flokit.add_integration(STRIPE, last_synced_at="2024-03-15T12:00:00Z")
    flokit.plan(STRIPE, Sync(start_delay=0.3, duration=0.3))
    task = FlokitTriggerSyncOperator(
        task_id="sync", integration_id=STRIPE, wait_for_completion=True, poll_interval=0.03
    )
    lines = story(FlokitTriggerSyncOperator, monkeypatch)
    assert run(lambda: task, WORKER).state == "success"
    expected = [
        rf"Before the sync, {STRIPE} \(stripe\) is connected, last synced: 2024-03-15T12:00:00\+00:00",
        rf"Triggered sync sync_sim\d+ of {STRIPE}",
        rf"{STRIPE} \(stripe\) has not finished this sync yet \(last synced: 2024-03-15T12:00:00\+00:00\)",
        rf"{STRIPE} \(stripe\) is syncing \(last synced: 2024-03-15T12:00:00\+00:00\)",
        rf"{STRIPE} \(stripe\) is connected \(last synced: 20[-0-9T:.+]+\)",
        rf"{STRIPE} has synced: sync sync_sim\d+ is done",
    ]
    assert len(lines) == len(expected), lines
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line)


def test_the_log_says_why_a_sync_failed(flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change to error is told with FloKit's own words, also while the error of before is still forgiven."""
    flokit.add_integration(STRIPE, status="error", error_message="the old error")
    flokit.plan(STRIPE, Sync(start_delay=0.2, duration=0.2, error="the new error"))
    lines = story(FlokitTriggerSyncOperator, monkeypatch)
    end = run(
        lambda: FlokitTriggerSyncOperator(
            task_id="sync", integration_id=STRIPE, wait_for_completion=True, poll_interval=0.03
        ),
        WORKER,
    )
    assert end.state == "failed"
    told = [line.partition(" (last synced")[0] for line in lines if line.startswith(STRIPE)]
    name = f"{STRIPE} (stripe)"
    assert told == [
        f"{name} still shows the error from before this sync: the old error",
        f"{name} is syncing",
        f"{name} is in error: the new error",
    ]


def test_the_log_of_a_resumed_sensor_tells_the_end(flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker says what is waited for and that it is ready; what happened between is in the triggerer's log."""
    flokit.add_integration(STRIPE)
    lines = story(FlokitIntegrationSensor, monkeypatch)
    end = run(lambda: FlokitIntegrationSensor(task_id="ready", integration_id=STRIPE, deferrable=True), DEFERRED)
    assert end.state == "success"
    assert len(lines) == 2
    assert lines[0].startswith(f"Waiting in the triggerer for FloKit integration {STRIPE}, at most")
    assert lines[1] == f"FloKit integration {STRIPE}: ready"


def story(kind: type[BaseOperator], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which a task of this kind will log, on INFO and above."""
    lines: list[str] = []
    log = logging.getLogger("tests.story")
    log.setLevel(logging.INFO)

    def note(record: logging.LogRecord) -> bool:
        lines.append(record.getMessage())
        return False

    monkeypatch.setattr(log, "filters", [note])
    monkeypatch.setattr(kind, "log", log)
    return lines
