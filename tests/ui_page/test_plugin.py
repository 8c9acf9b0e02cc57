"""What Airflow finds of the page: the plugin and the extra link, on every version, at no cost elsewhere."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

from airflow_provider_flokit import get_provider_info
from airflow_provider_flokit.models import Integration, SyncReceipt, parse_time
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.ui import HAS_PAGE
from airflow_provider_flokit.ui.link import FlokitIntegrationLink
from airflow_provider_flokit.ui.plugin import FlokitPlugin
from tests.checkout import REPOSITORY

STRIPE = "int_01hx4j7stripe"
AT = "2026-03-15T08:00:00Z"
RECEIPT = SyncReceipt(STRIPE, Integration(STRIPE, "stripe", "connected"), parse_time(AT), "sync_1").to_json()


def test_the_page_is_there_where_airflow_has_a_place_for_it() -> None:
    """The metadata names the plugin; from Airflow 3.1.1 on it has the page, and tasks have the link to it."""
    (entry,) = get_provider_info()["plugins"]
    assert entry["name"] == FlokitPlugin.name == "FloKit"
    assert pkgutil.resolve_name(entry["plugin-class"]) is FlokitPlugin
    assert [app["url_prefix"] for app in FlokitPlugin.fastapi_apps] == ["/flokit"] * HAS_PAGE
    assert [view["name"] for view in FlokitPlugin.external_views] == ["FloKit integrations"] * HAS_PAGE
    for kind in (FlokitTriggerSyncOperator, FlokitIntegrationSensor):
        assert [link.name for link in kind.operator_extra_links] == ["FloKit integration"] * HAS_PAGE


@pytest.mark.skipif(not HAS_PAGE, reason="the page needs Airflow 3.1.1")
def test_the_link_survives_serialization() -> None:
    """The API server knows of the link, mapped or not."""
    from airflow.serialization import serialized_objects

    with DAG("links", schedule=None) as dag:
        FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
        FlokitIntegrationSensor.partial(task_id="wait").expand(integration_id=[STRIPE])
    written = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)
    read = written.from_dict(written.to_dict(dag))
    assert [task.extra_links for task in read.tasks] == [["FloKit integration"]] * 2


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"integration_id": STRIPE}, f"flokit/?q={STRIPE}"),
        ({"integration_id": [STRIPE, "int_b"]}, "flokit/"),
        ({"integration_type": "stripe"}, "flokit/?q=stripe"),
        ({"receipt": [RECEIPT], "synced_after": AT}, f"flokit/?q={STRIPE}"),
        ({"integration_id": "int_ä&b"}, "flokit/?q=int_%C3%A4%26b"),
        ({"integration_id": "{{ did_not_render }}"}, "flokit/"),
    ],
)
def test_where_the_link_leads(arguments: dict[str, Any], place: str) -> None:
    """To the task's integration, relative to Airflow's own address; to the whole page if there are several."""
    sensor = FlokitIntegrationSensor(task_id="wait", **arguments)
    assert FlokitIntegrationLink().get_link(sensor, ti_key=None) == place
    if "receipt" not in arguments and isinstance(arguments.get("integration_id"), str):
        sync = FlokitTriggerSyncOperator(task_id="sync", **arguments)
        assert FlokitIntegrationLink().get_link(sync, ti_key=None) == place


@pytest.mark.skipif(
    AIRFLOW_V_3_0_PLUS and not AIRFLOW_V_3_1_PLUS, reason="Airflow 3.0's own plugin manager imports FastAPI"
)
def test_only_the_api_server_pays() -> None:
    """Where plugins are loaded and DAGs parsed, the plugin and the link import no FastAPI and nothing of the page."""
    heavy = ("fastapi", "starlette", "airflow_provider_flokit.ui.app", "airflow_provider_flokit.hooks.flokit")
    code = (
        "import sys, airflow_provider_flokit.operators.flokit, airflow_provider_flokit.ui.plugin;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
