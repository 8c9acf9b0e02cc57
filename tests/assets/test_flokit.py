"""The flokit:// asset: one well-formed URI and name for an integration, known to Airflow and to OpenLineage."""

from __future__ import annotations

import importlib
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_2_PLUS

from airflow_provider_flokit.assets.flokit import (
    convert_asset_to_openlineage,
    flokit_asset,
    integration_of,
    sanitize_uri,
)
from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

STRIPE = "int_01hx4j7stripe"
needs_airflow_3 = pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no names and watchers")


def test_it_is_the_integration_of_a_connection() -> None:
    """Equal arguments give equal assets; another connection is another workspace."""
    asset = flokit_asset(STRIPE)
    assert asset.uri == f"flokit://flokit_default/{STRIPE}"
    assert asset == flokit_asset(STRIPE, flokit_conn_id="flokit_default")
    assert asset.uri == flokit_asset(STRIPE, name="stripe").uri != flokit_asset(STRIPE, flokit_conn_id="staging").uri
    assert flokit_asset(STRIPE, extra={"team": "growth"}).extra == {"team": "growth"}


@needs_airflow_3
def test_it_takes_what_every_asset_takes() -> None:
    """Its name comes from the arguments unless one is given; watchers and group are handed on."""
    from airflow.sdk import AssetWatcher

    watcher = AssetWatcher(name="stripe", trigger=FlokitSyncedTrigger(integration_id=STRIPE))
    asset: Any = flokit_asset(STRIPE, flokit_conn_id="c", watchers=[watcher], group="flokit")
    assert (asset.name, asset.watchers, asset.group) == (f"c/{STRIPE}", [watcher], "flokit")
    assert flokit_asset(STRIPE, name="stripe").name == "stripe"


@needs_airflow_3
def test_a_trigger_that_is_given_as_a_watcher_is_told_when_airflow_reads_the_dag() -> None:
    """Airflow would only say that a trigger has no attribute 'name'; its import error shows what to write instead."""
    with DAG("d", schedule=[flokit_asset(STRIPE, watchers=[FlokitSyncedTrigger(STRIPE)])]) as dag:
        FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
    module = importlib.import_module("airflow.serialization.serialized_objects")
    serialization = module.DagSerialization if AIRFLOW_V_3_2_PLUS else module.SerializedDAG
    with pytest.raises(Exception, match=r"AssetWatcher\(name=\.\.\., trigger=FlokitSyncedTrigger\("):
        serialization.to_dict(dag)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("integration_id", value) for value in ("a/b", "{{ x }}", None)),
        *(("flokit_conn_id", value) for value in ("", "{{ var.value.conn }}")),
    ],
)
def test_no_asset_of_what_can_be_no_integration(name: str, value: Any) -> None:
    """The error names the parameter, when the DAG is read."""
    with pytest.raises(FlokitArgumentError, match=rf"^flokit_asset: {name} "):
        flokit_asset(**{"integration_id": STRIPE, name: value})


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("FLOKIT://c/int%5Fa/", "flokit://c/int_a"),
        ("flokit://C/INT_A", "flokit://C/INT_A"),
        ("flokit://c%2fd/int_a", "flokit://c%2Fd/int_a"),
    ],
)
def test_airflow_normalises_it(written: str, normal: str) -> None:
    """The scheme is registered: an asset that is made by hand is the same as one of flokit_asset()."""
    assert Asset(uri=written).uri == normal


@pytest.mark.parametrize(
    "uri",
    [
        "flokit://int_a",
        "flokit:///int_a",
        "flokit://c/int_a/more",
        "flokit://c/int_a?on=error",
        "flokit://c/a%2Fb",
        "flokit://{{x}}/int_a",
    ],
)
def test_a_malformed_one_is_refused(uri: str) -> None:
    """The error says what the URI looks like, or what is wrong with an id. Airflow 3 asks; Airflow 2 only warns."""
    for check in (lambda: sanitize_uri(urlsplit(uri)), *([lambda: Asset(uri=uri)] if AIRFLOW_V_3_0_PLUS else [])):
        with pytest.raises(ValueError, match=r"flokit://CONNECTION/INTEGRATION|integration_id|flokit_conn_id"):
            check()


@pytest.mark.parametrize("integration_id", [STRIPE, "int.ä:1%", "a&b=c;d+e", "%2F"])
def test_every_id_makes_a_uri_that_stays_as_it_is(integration_id: str) -> None:
    """Whatever the characters: the URI is ASCII, Airflow does not change it, and the id can be read back."""
    asset = flokit_asset(integration_id, flokit_conn_id="my-conn@eu")
    assert asset.uri.isascii()
    assert Asset(uri=asset.uri).uri == asset.uri
    assert integration_of(asset) == integration_id


@pytest.mark.parametrize("other", [Asset(uri="x-other://c/int_a"), "flokit://c/int_a", None], ids=str)
def test_other_outlets_are_none_of_ours(other: object) -> None:
    """Other assets, and what is no asset at all, stand for no integration."""
    assert integration_of(other) is None


def test_openlineage_knows_it_by_workspace_and_id() -> None:
    """The converter gives the dataset the connection as namespace and the id as name."""
    dataset = convert_asset_to_openlineage(flokit_asset(STRIPE, flokit_conn_id="c"), None)
    assert (dataset.namespace, dataset.name) == ("flokit://c", STRIPE)
