"""What Airflow's provider manager reads is valid, complete, and the same as what the hook says of itself."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_flokit
from airflow_provider_flokit import get_provider_info
from airflow_provider_flokit.connection import CONN_TYPE, FlokitConnection
from airflow_provider_flokit.hooks.flokit import FlokitHook
from tests.checkout import REPOSITORY

AIRFLOW = Path(airflow.__file__).parent
INFO = get_provider_info()
CONNECTION = INFO["connection-types"][0]
EXTRAS = {"timeout", "retry_limit", "verify", "proxies", "allow_insecure_http"}


def schema(name: str) -> dict[str, Any]:
    """Return one of Airflow's JSON schemas."""
    document: dict[str, Any] = json.loads((AIRFLOW / name).read_text())
    return document


# Airflow's own schemas


def test_airflow_accepts_the_provider_info() -> None:
    """The metadata is valid by the schema with which Airflow checks every provider at run time."""
    jsonschema.validate(INFO, schema("provider_info.schema.json"))


def test_airflow_accepts_the_connection_form() -> None:
    """Where Airflow knows connection forms in the metadata (3.2 and later), ours is a valid one."""
    items = schema("provider.yaml.schema.json")["properties"]["connection-types"]["items"]
    if "conn-fields" not in items["properties"]:
        pytest.skip("this Airflow has no connection forms in the metadata; the hook's class methods stand in")
    # 3.3 has added the name of the type; 3.2 takes no notice of it.
    known = {name: value for name, value in CONNECTION.items() if name in items["properties"] or name != "hook-name"}
    jsonschema.validate(known, {**items, "additionalProperties": False})


def test_airflow_accepts_the_field_behaviour() -> None:
    """What the hook says of the form's fields is valid by the schema with which Airflow checks it."""
    jsonschema.validate(FlokitHook.get_ui_field_behaviour(), schema("customized_form_field_behaviours.schema.json"))


# What it names


def modules() -> list[str]:
    """Return every module that the metadata names."""
    kinds = ("hooks", "operators", "sensors", "triggers")
    return [module for kind in kinds for entry in INFO[kind] for module in entry["python-modules"]]


@pytest.mark.parametrize("module", modules())
def test_named_modules_exist(module: str) -> None:
    """Every module that the metadata names can be imported."""
    assert importlib.import_module(module).__doc__


def test_every_public_module_is_named() -> None:
    """There is no module of hooks, operators, sensors or triggers that the metadata does not name."""
    package = Path(airflow_provider_flokit.__file__).parent
    found = {
        f"airflow_provider_flokit.{kind}.{path.stem}"
        for kind in ("hooks", "operators", "sensors", "triggers")
        for path in (package / kind).glob("[!_]*.py")
    }
    assert set(modules()) == found


def test_hook_class() -> None:
    """The connection type names the hook's class, which says the same of itself."""
    module, _, name = CONNECTION["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is FlokitHook
    assert CONNECTION["connection-type"] == FlokitHook.conn_type == CONN_TYPE == "flokit"
    assert CONNECTION["hook-name"] == FlokitHook.hook_name == "FloKit"


def test_integration_is_one() -> None:
    """Everything belongs to the one integration that is declared."""
    (integration,) = INFO["integrations"]
    named = {
        entry["integration-name"] for kind in ("hooks", "operators", "sensors", "triggers") for entry in INFO[kind]
    }
    assert named == {integration["integration-name"]} == {"FloKit"}


def test_version() -> None:
    """The metadata has the package's version."""
    assert INFO["versions"] == [airflow_provider_flokit.__version__]
    assert INFO["package-name"] == "airflow-provider-flokit"


def test_every_call_returns_its_own_metadata() -> None:
    """Whoever changes what was returned does not change it for others."""
    get_provider_info()["connection-types"].clear()
    assert get_provider_info() == INFO


def test_metadata_costs_nothing() -> None:
    """Reading the metadata imports neither Airflow nor an HTTP library."""
    code = (
        "import sys; import airflow_provider_flokit as p; p.get_provider_info();"
        "print(sorted({'airflow', 'requests', 'aiohttp', 'urllib3'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


# The connection form


def test_form_has_every_extra() -> None:
    """The form has a field for each extra that the connection reads, with a label and a description."""
    fields = CONNECTION["conn-fields"]
    assert set(fields) == EXTRAS
    assert all(field["label"] and field["description"] for field in fields.values())


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_form_fields_may_stay_empty(name: str) -> None:
    """Every extra is optional: the form accepts null, and the connection reads it as the default."""
    assert "null" in CONNECTION["conn-fields"][name]["schema"]["type"]
    bare = FlokitConnection.from_fields(conn_id="c", password="key")
    for empty in (None, ""):
        assert FlokitConnection.from_fields(conn_id="c", password="key", extra={name: empty}) == bare


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 2.5),
        ("retry_limit", 3),
        ("verify", "false"),
        ("proxies", '{"https": "http://proxy.example:3128"}'),
        ("allow_insecure_http", True),
    ],
)
def test_form_values_are_understood(name: str, value: object) -> None:
    """What the form stores for a field is valid by the field's schema, and the connection understands it."""
    jsonschema.validate(value, CONNECTION["conn-fields"][name]["schema"])
    FlokitConnection.from_fields(conn_id="c", password="key", extra={name: value})


def test_proxies_are_hidden_like_a_password() -> None:
    """Proxy URLs may hold passwords, so the form does not show them."""
    assert CONNECTION["conn-fields"]["proxies"]["schema"]["format"] == "password"


def test_password_is_called_api_key() -> None:
    """The form shows the password as the API Key and hides what FloKit has no use for."""
    behaviour = FlokitHook.get_ui_field_behaviour()
    assert behaviour["relabeling"]["password"] == "API Key"
    assert not {"password", "host"} & set(behaviour["hidden_fields"])
    assert "login" in behaviour["hidden_fields"]


def test_hook_has_the_same_labels() -> None:
    """Older Airflow gets the form's labels from the hook: the same as newer ones read in the metadata."""
    behaviour = CONNECTION["ui-field-behaviour"]
    assert FlokitHook.get_ui_field_behaviour() == {name.replace("-", "_"): item for name, item in behaviour.items()}


needs_form_builder = pytest.mark.skipif(
    importlib.util.find_spec("flask_appbuilder") is None,
    reason="Flask-AppBuilder, which draws Airflow 2's connection form, is not installed",
)


# Flask-AppBuilder's own imports warn.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@needs_form_builder
def test_hook_has_the_same_fields() -> None:
    """Airflow 2 gets the form's fields from the hook: the same names, labels and kinds as in the metadata."""
    widgets = FlokitHook.get_connection_form_widgets()
    fields = CONNECTION["conn-fields"]
    assert list(widgets) == list(fields)
    for name, widget in widgets.items():
        assert widget.field_class.__name__ == ("PasswordField" if name == "proxies" else "StringField")
        assert widget.kwargs["label"] == fields[name]["label"]
        assert widget.kwargs["description"] == fields[name]["description"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@needs_form_builder
def test_masked_field_comes_back_as_it_is_stored() -> None:
    """
    Airflow 2 deletes what comes back empty, so a stored secret is drawn as Airflow's word for "unchanged".

    Nothing of the secret itself is drawn; what somebody has just typed into a form that was refused is.
    """
    from airflow.www.views import SENSITIVE_FIELD_PLACEHOLDER
    from werkzeug.datastructures import MultiDict
    from wtforms import Form

    class ProxiesForm(Form):  # type: ignore[misc, unused-ignore]
        proxies = FlokitHook.get_connection_form_widgets()["proxies"]

    form = ProxiesForm()
    assert 'value=""' in str(form.proxies())
    form.proxies.data = {"https": "http://ada:secret@proxy.example:3128"}
    assert f'value="{SENSITIVE_FIELD_PLACEHOLDER}"' in str(form.proxies())
    assert "secret@" not in str(form.proxies())
    refused = ProxiesForm(MultiDict({"proxies": "typed"}))
    assert 'value="typed"' in str(refused.proxies())
    assert 'type="password"' in str(refused.proxies())


# Assets


@pytest.mark.parametrize("kind", ["asset-uris", "dataset-uris"])
def test_airflow_knows_the_asset_scheme(kind: str) -> None:
    """Airflow 3 and Airflow 2 each read their own entry; both name functions that are there."""
    (entry,) = INFO[kind]
    assert entry["schemes"] == ["flokit"]
    for role in ("handler", "to_openlineage_converter", "factory"):
        module, _, name = entry[role].rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))
