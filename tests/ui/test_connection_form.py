"""Adding, testing and editing a FloKit connection in Airflow's own form, in a real browser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit import get_provider_info
from tests.system.settings import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator import Simulator
    from tests.system.local_airflow import LocalAirflow
    from tests.ui.form import Airflow3Form as Form

    Stored = Callable[[str], list[dict[str, Any]]]
    Picture = Callable[..., None]

KIND = "FloKit"
EXTRAS = get_provider_info()["connection-types"][0]["conn-fields"]
PROXIES = {"https": "http://ada:secret@proxy.example:3128"}


def add(form: Form, conn_id: str, simulator: Simulator, api_key: str = "") -> None:
    """Fill the form in for the simulator; not saved yet."""
    form.new(conn_id, KIND)
    form.fill("host", f"http://{simulator.host}")
    form.fill("port", str(simulator.port))
    form.fill("password", api_key or simulator.api_key)


def test_form_asks_for_what_flokit_needs(form: Form, picture: Picture) -> None:
    """The form has the API key, masked, the API URL, and the extras with help; nothing without a meaning."""
    form.new("flokit_default", KIND)
    picture(form.page, "connection-form", 800 if AIRFLOW_3 else 1170)
    labels = set(form.labels())
    form.show_extras()
    labels |= set(form.labels())
    if AIRFLOW_3:
        picture(form.page, "connection-extras", 1060)
    ids = ["Connection ID", "Connection Type"] if AIRFLOW_3 else ["Connection Id", "Connection Type"]
    extras = [field["label"] for field in EXTRAS.values()]
    assert labels == {*ids, "Description", "API URL", "API Key", "Port", *extras}
    assert form.field("password").get_attribute("type") == "password"
    placeholders = [form.field(name).get_attribute("placeholder") for name in ("host", "port")]
    assert placeholders == ["https://api.flokit.ai", "443"]
    assert {name: form.help(name) for name in EXTRAS} == {name: field["description"] for name, field in EXTRAS.items()}


@pytest.mark.parametrize(
    ("conn_id", "key", "said"),
    [
        ("success", "", ["Connected: 3 integrations (2 connected, 1 error)"]),
        ("failure", "fk_rw_mistyped", ["HTTP 401", "API key", "the connection"]),
    ],
)
def test_test_button(
    form: Form, simulator: Simulator, picture: Picture, conn_id: str, key: str, said: list[str]
) -> None:
    """Test counts the integrations by status, or says what is wrong and what to do, without the key."""
    add(form, conn_id, simulator, key)
    message = form.test(conn_id)
    picture(form.page, f"connection-test-{conn_id}", 520 if AIRFLOW_3 else 620)
    assert all(text in message for text in said)
    assert "fk_rw_" not in message


@pytest.mark.parametrize("filled", [False, True])
def test_fields_reach_the_hook(form: Form, simulator: Simulator, stored: Stored, filled: bool) -> None:
    """What is typed is what the hook works with; for a field that was left empty, it takes the default."""
    conn_id = "filled" if filled else "empty"
    add(form, conn_id, simulator)
    if filled:
        form.show_extras()
        form.fill("timeout", "2.5")
        form.fill("retry_limit", "7")
        form.fill("verify", "false")
        form.fill("proxies", json.dumps(PROXIES))
        form.allow("allow_insecure_http")
    form.save()
    settings, extra = stored(conn_id)
    typed = {"timeout": 2.5, "retry_limit": 7, "verify": False, "proxies": PROXIES}
    expected = typed if filled else {"timeout": 30.0, "retry_limit": 4, "verify": True, "proxies": {}}
    assert settings == {"base_url": simulator.url, "api_key": simulator.api_key, **expected}
    assert str(extra.get("allow_insecure_http") or False).lower() == str(filled).lower()


@pytest.mark.parametrize(
    ("conn_id", "extra"),
    [
        ("of_texts", {"timeout": "2.5", "retry_limit": "0", "verify": "false", "elsewhere": "used"}),
        ("of_json_values", {"timeout": 2.5, "retry_limit": 3, "verify": True, "allow_insecure_http": True}),
    ],
)
def test_editing_keeps_what_it_does_not_touch(
    form: Form, airflow: LocalAirflow, simulator: Simulator, stored: Stored, conn_id: str, extra: dict[str, Any]
) -> None:
    """A connection means the same after somebody changed its description, and no form shows a proxy's password."""
    extra = {**extra, "proxies": PROXIES}
    values = {"conn_type": "flokit", "host": simulator.url, "password": simulator.api_key, "extra": extra}
    airflow.cli("connections", "add", conn_id, "--conn-json", json.dumps(values))
    settings, before = stored(conn_id)
    form.edit(conn_id)
    assert form.field("proxies").get_attribute("type") == "password"
    assert form.field("proxies").input_value()
    assert "secret@" not in form.field("proxies").input_value()
    assert "secret@" not in form.page.content()
    form.fill("description", "Paid for by Marketing")
    form.save()
    assert stored(conn_id)[0] == settings
    after = stored(conn_id)[1]
    assert str(after.get("allow_insecure_http") or False) == str(before.get("allow_insecure_http") or False)
    assert after.get("elsewhere") == before.get("elsewhere")
