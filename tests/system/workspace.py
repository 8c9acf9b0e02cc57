"""What is in a real FloKit workspace, and how a DAG waits for it."""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING

from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_provider_flokit.models import Integration

SNIPPET = """\
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator

with DAG(dag_id="load_{type}", schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False):
    sync = FlokitTriggerSyncOperator(
        task_id="sync_{type}",
        integration_id="{id}",
        wait_for_completion=True,  # until this very sync has ended; a failed one holds the load back
        deferrable=True,  # in the triggerer: no worker is held meanwhile
    )

    @task
    def load_warehouse(): ...

    sync >> load_warehouse()
"""


def look_at_workspace(console: Console, api_key: str, host: str | None) -> int:
    """
    List the integrations of a real workspace and show how to wait for one of them; this only reads.

    :param host: FloKit's own if None.
    :return: the exit code.
    """
    connection = {"conn_type": "flokit", "password": api_key, "host": host}
    with tempfile.TemporaryDirectory(prefix="flokit-demo-") as scratch:
        os.environ |= {
            "AIRFLOW_HOME": scratch,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY": "True",  # else Airflow 2 warns
            "AIRFLOW_CONN_FLOKIT_DEFAULT": json.dumps(connection),
        }
        # Only now: Airflow reads its settings when it is imported.
        from airflow_provider_flokit.errors import FlokitError
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        try:
            integrations = FlokitHook().list_integrations()
        except FlokitError as error:
            console.print(str(error), style="red", markup=False)
            return 1
    _show(console, integrations)
    return 0


def _show(console: Console, integrations: list[Integration]) -> None:
    """Print integrations as a table, and a DAG that waits for one of them."""
    if not integrations:
        console.print("This workspace has no integrations yet: connect one in FloKit, then run this again.")
        return
    table = Table("Integration", "Type", "Status", "Last synced (UTC)")
    for column in table.columns:
        column.no_wrap = True
    for each in integrations:
        style = {"connected": "green", "error": "red", "disconnected": "red"}.get(str(each.status), "yellow")
        synced = f"{each.last_synced_at:%Y-%m-%d %H:%M}" if each.last_synced_at else "never"
        table.add_row(Text(each.id), Text(each.type), Text(str(each.status), style), synced)
    console.print(table)
    for each in integrations:
        if each.error_message:
            console.print(f"{each.id}: {each.error_message}", style="red", markup=False)
    one = next((each for each in integrations if str(each.status) == "connected"), integrations[0])
    console.print(f"\nA DAG that loads only after {one.id} has really synced:\n", style="bold")
    code = SNIPPET.format(id=one.id, type=one.type)
    if console.is_terminal:
        console.print(Syntax(code, "python", background_color="default"), soft_wrap=False)
    else:
        console.print(code, markup=False)
    console.print("It needs the connection, once:\n", style="bold")
    add = 'airflow connections add flokit_default --conn-type flokit --conn-password "$FLOKIT_API_KEY"'
    if os.environ.get("FLOKIT_HOST"):
        add += ' --conn-host "$FLOKIT_HOST"'
    console.print(f"{add}\n", markup=False)
    console.print("Nothing was triggered; this only read.")
