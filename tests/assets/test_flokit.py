"""The flokit:// asset: one well-formed URI and name for an integration, known to Airflow and to OpenLineage."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import Asset
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_flokit.assets.flokit import (
    convert_asset_to_openlineage,
    create_asset,
    flokit_asset,
    integration_of,
    sanitize_uri,
)
from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

STRIPE = "int_01hx4j7stripe"
needs_airflow_3 = pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no names and watchers")


def test_it_is_the_integration_of_a_connection() -> None:
    """Equal arguments give equal assets; another connection is another workspace."""
    asset = flokit_asset(STRIPE)
    assert asset.uri == f"flokit://flokit_default/{STRIPE}"
    assert asset == flokit_asset(STRIPE, flokit_conn_id="flokit_default")
    assert asset.uri != flokit_asset(STRIPE, flokit_conn_id="staging").uri
    assert flokit_asset(STRIPE, extra={"team": "growth"}).extra == {"team": "growth"}


@needs_airflow_3
def test_it_has_a_name() -> None:
    """Airflow tells assets apart by name and URI; both come from the arguments unless a name is given."""
    assert flokit_asset(STRIPE, flokit_conn_id="c").name == f"c/{STRIPE}"
    assert flokit_asset(STRIPE, name="stripe").name == "stripe"


@needs_airflow_3
def test_it_takes_what_every_asset_takes() -> None:
    """Watchers and group are handed on."""
    from airflow.sdk import AssetWatcher

    from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

    watcher = AssetWatcher(name="stripe", trigger=FlokitSyncedTrigger(integration_id=STRIPE))
    asset: Any = flokit_asset(STRIPE, watchers=[watcher], group="flokit")
    assert (asset.watchers, asset.group) == ([watcher], "flokit")


@pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="Airflow 3 has watchers")
def test_airflow_2_says_what_it_has_not() -> None:
    """An argument that only Airflow 3 knows is named; a name is not needed there."""
    assert flokit_asset(STRIPE, name="stripe").uri == f"flokit://flokit_default/{STRIPE}"
    with pytest.raises(FlokitArgumentError, match="watchers: Airflow 2"):
        flokit_asset(STRIPE, watchers=[])


@pytest.mark.parametrize("integration_id", ["", "a/b", "..", "{{ x }}", None, ["int_a"]], ids=repr)
def test_no_asset_of_what_can_be_no_integration(integration_id: Any) -> None:
    """The error names the parameter, when the DAG is read."""
    with pytest.raises(FlokitArgumentError, match=r"^flokit_asset: integration_id "):
        flokit_asset(integration_id)


@pytest.mark.parametrize("conn_id", ["", "{{ var.value.conn }}", " c", None, ["a", "b"]], ids=repr)
def test_no_asset_of_what_can_be_no_connection(conn_id: Any) -> None:
    """The error names the parameter, when the DAG is read."""
    with pytest.raises(FlokitArgumentError, match=r"^flokit_asset: flokit_conn_id "):
        flokit_asset(STRIPE, flokit_conn_id=conn_id)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("flokit://c/int_a", "flokit://c/int_a"),
        ("FLOKIT://c/int_a/", "flokit://c/int_a"),
        ("flokit://c/int%5Fa", "flokit://c/int_a"),
        ("flokit://C/INT_A", "flokit://C/INT_A"),
        ("flokit://c%2fd/int_a", "flokit://c%2Fd/int_a"),
        ("flokit://c/int_a#part", "flokit://c/int_a"),
    ],
)
def test_airflow_normalises_it(written: str, normal: str) -> None:
    """The scheme is registered: an asset that is made by hand is the same as one of flokit_asset()."""
    assert Asset(uri=written).uri == normal


MALFORMED = [
    "flokit://int_a",
    "flokit://c/",
    "flokit:///int_a",
    "flokit://c/int_a/more",
    "flokit://c/int_a?on=error",
    "flokit://c/a%2Fb",
    "flokit://c/..",
    "flokit://c/{{x}}",
    "flokit://{{x}}/int_a",
]


@pytest.mark.parametrize("uri", MALFORMED)
def test_a_malformed_one_is_refused(uri: str) -> None:
    """The error says what the URI looks like, or what is wrong with an id."""
    with pytest.raises(ValueError, match=r"flokit://CONNECTION/INTEGRATION|integration_id|connection"):
        sanitize_uri(urlsplit(uri))


@needs_airflow_3
@pytest.mark.parametrize("uri", MALFORMED)
def test_airflow_refuses_a_malformed_one(uri: str) -> None:
    """The scheme is registered, so Airflow asks; Airflow 2 only warns."""
    with pytest.raises(ValueError, match=r"flokit://CONNECTION/INTEGRATION|integration_id|connection"):
        Asset(uri=uri)


IDS = st.text(min_size=1, max_size=30).filter(
    lambda text: (
        text.isprintable()
        and not any(c in "/?#\\{}[]" or c.isspace() for c in text)
        and ".." not in text
        and text not in (".", "None", "null")
    )
)


@given(IDS, IDS)
@example("int.ä:1%", "my-conn@eu")
def test_every_id_makes_a_uri_that_stays_as_it_is(integration_id: str, conn_id: str) -> None:
    """Whatever the characters: the URI is ASCII, Airflow does not change it, and the id can be read back."""
    asset = flokit_asset(integration_id, flokit_conn_id=conn_id)
    assert asset.uri.isascii()
    assert sanitize_uri(urlsplit(asset.uri)).geturl() == asset.uri
    assert Asset(uri=asset.uri).uri == asset.uri
    assert integration_of(asset) == integration_id


def test_other_outlets_are_none_of_ours() -> None:
    """Other assets, and what is no asset at all, stand for no integration."""
    assert [integration_of(each) for each in (Asset(uri="x-other://c/int_a"), "flokit://c/int_a", None)] == [None] * 3


def test_the_factory_makes_the_same() -> None:
    """What Airflow's lineage collector makes is what a DAG author makes."""
    assert create_asset(integration_id=STRIPE, flokit_conn_id="c", extra=None) == flokit_asset(
        STRIPE, flokit_conn_id="c"
    )


def test_openlineage_knows_it_by_workspace_and_id() -> None:
    """The converter gives the dataset the connection as namespace and the id as name."""
    dataset = convert_asset_to_openlineage(flokit_asset(STRIPE, flokit_conn_id="c"), None)
    assert (dataset.namespace, dataset.name) == ("flokit://c", STRIPE)


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no asset watchers")
def test_a_trigger_that_is_no_watcher_is_refused() -> None:
    """Airflow would only say later that it has no attribute 'name'; this says how to wrap it."""
    with pytest.raises(FlokitArgumentError, match=r"AssetWatcher\(name=\.\.\., trigger="):
        flokit_asset("int_01hx4j7stripe", watchers=[FlokitSyncedTrigger("int_01hx4j7stripe")])
