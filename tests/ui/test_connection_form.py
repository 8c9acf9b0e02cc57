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
DEFAULTS = {"timeout": 30.0, "retry_limit": 4, "verify": True, "proxies": {}}
PROXIES = {"https": "http://ada:secret@proxy.example:3128"}


def add(form: Form, conn_id: str, simulator: Simulator, api_key: str | None = None) -> None:
    """Fill the form in for the simulator; not saved yet."""
    form.new(conn_id, KIND)
    form.fill("host", f"http://{simulator.host}")
    form.fill("port", str(simulator.port))
    form.fill("password", api_key or simulator.api_key)


# What the form shows


def test_form_asks_for_what_flokit_needs(form: Form, picture: Picture) -> None:
    """Once the type is chosen, the form has the API key, masked, the API URL, and nothing without a meaning."""
    form.new("flokit_default", KIND)
    picture(form.page, "connection-form", 800 if AIRFLOW_3 else 1170)
    ids = ["Connection ID", "Connection Type"] if AIRFLOW_3 else ["Connection Id", "Connection Type"]
    extras = [] if AIRFLOW_3 else [field["label"] for field in EXTRAS.values()]
    assert sorted(form.labels()) == sorted([*ids, "Description", "API URL", "API Key", "Port", *extras])
    assert form.field("password").get_attribute("type") == "password"
    placeholders = [form.field(name).get_attribute("placeholder") for name in ("host", "port")]
    assert placeholders == ["https://api.flokit.ai", "443"]


def test_every_extra_has_a_label_and_help(form: Form, picture: Picture) -> None:
    """The extra fields say what they are for, in what unit, and their default."""
    form.new("flokit_default", KIND)
    form.show_extras()
    if AIRFLOW_3:
        picture(form.page, "connection-extras", 1060)
    assert {field["label"] for field in EXTRAS.values()} <= set(form.labels())
    for name, field in EXTRAS.items():
        assert form.help(name) == field["description"]


# What the Test button says


def test_success_message(form: Form, simulator: Simulator, picture: Picture) -> None:
    """With the right key, Test counts the integrations by status."""
    add(form, "tested", simulator)
    message = form.test("tested")
    picture(form.page, "connection-test-success", 520 if AIRFLOW_3 else 620)
    assert "Connected: 3 integrations (2 connected, 1 error)" in message


def test_failure_message(form: Form, simulator: Simulator, picture: Picture) -> None:
    """With a wrong key, Test says so, and what to do; the key is not shown."""
    add(form, "wrong_key", simulator, "fk_rw_mistyped")
    message = form.test("wrong_key")
    picture(form.page, "connection-test-failure", 520 if AIRFLOW_3 else 620)
    assert "HTTP 401" in message
    assert "API key" in message
    assert "the connection" in message
    assert "fk_rw_mistyped" not in message


# What is stored


def test_empty_extras_are_the_defaults(form: Form, simulator: Simulator, stored: Stored) -> None:
    """Whatever a form writes for a field that was left empty, the hook takes the default."""
    add(form, "bare", simulator)
    form.save()
    settings, _ = stored("bare")
    assert settings == {"base_url": simulator.url, "api_key": simulator.api_key, **DEFAULTS}


def test_filled_extras_reach_the_hook(form: Form, simulator: Simulator, stored: Stored) -> None:
    """What is typed into the extra fields is what the hook works with."""
    add(form, "full", simulator)
    form.show_extras()
    form.fill("timeout", "2.5")
    form.fill("retry_limit", "7")
    form.fill("verify", "false")
    form.fill("proxies", json.dumps(PROXIES))
    form.allow("allow_insecure_http")
    form.save()
    settings, extra = stored("full")
    typed = {"timeout": 2.5, "retry_limit": 7, "verify": False, "proxies": PROXIES}
    assert settings == {"base_url": simulator.url, "api_key": simulator.api_key, **typed}
    assert str(extra["allow_insecure_http"]).lower() == "true"


# Editing


def as_json(simulator: Simulator, **extra: Any) -> str:
    """Return a connection with these extras, whose host is a URL as in the form."""
    return json.dumps({"conn_type": "flokit", "host": simulator.url, "password": simulator.api_key, "extra": extra})


def test_proxy_password_is_not_shown_again(form: Form, airflow: LocalAirflow, simulator: Simulator) -> None:
    """Proxy URLs may hold passwords: once saved, no form shows them, nor does the page behind it hold them."""
    airflow.cli("connections", "add", "proxied", "--conn-json", as_json(simulator, proxies=PROXIES))
    form.edit("proxied")
    form.show_extras()
    assert form.field("proxies").get_attribute("type") == "password"
    assert form.field("proxies").input_value()
    assert "secret@" not in form.field("proxies").input_value()
    assert "secret@" not in form.page.content()


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"timeout": "2.5", "retry_limit": "0", "verify": "false"}, id="texts"),
        pytest.param({"timeout": 2.5, "retry_limit": 3, "verify": True, "allow_insecure_http": True}, id="JSON-values"),
        pytest.param({"proxies": PROXIES, "elsewhere": "used"}, id="proxies-and-an-extra-of-ones-own"),
    ],
)
def test_editing_keeps_what_it_does_not_touch(
    form: Form, airflow: LocalAirflow, simulator: Simulator, stored: Stored, extra: dict[str, Any]
) -> None:
    """A connection made on the command line means the same after somebody changed its description in the form."""
    conn_id = f"edited_{len(extra)}"
    airflow.cli("connections", "add", conn_id, "--conn-json", as_json(simulator, **extra))
    settings, before = stored(conn_id)
    form.edit(conn_id)
    form.fill("description", "Paid for by Marketing")
    form.save()
    assert stored(conn_id)[0] == settings
    after = stored(conn_id)[1]
    assert str(after.get("allow_insecure_http") or False) == str(before.get("allow_insecure_http") or False)
    assert after.get("elsewhere") == before.get("elsewhere")
