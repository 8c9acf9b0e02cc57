"""What Airflow's provider manager reads is valid, complete, and the same as what the hook says of itself."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_flokit
from airflow_provider_flokit import get_provider_info
from airflow_provider_flokit.api.settings import EXTRAS, FlokitSettings
from airflow_provider_flokit.hooks.flokit import FlokitHook
from tests.checkout import REPOSITORY

AIRFLOW = Path(airflow.__file__).parent
INFO = get_provider_info()
CONNECTION = INFO["connection-types"][0]


def schema(name: str) -> dict[str, Any]:
    """Return one of Airflow's JSON schemas."""
    document: dict[str, Any] = json.loads((AIRFLOW / name).read_text())
    return document


def settings(**extra: Any) -> FlokitSettings:
    """Read the settings of a connection with these extras."""
    fields = SimpleNamespace(host=None, schema=None, port=None, password="key", extra=extra)
    return FlokitSettings.from_connection("flokit_default", fields)


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


def test_named_modules_exist() -> None:
    """Every module of hooks, operators, sensors and triggers that the metadata names can be imported."""
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in INFO[kind]:
            assert all(importlib.import_module(module).__doc__ for module in entry["python-modules"])


def test_hook_class() -> None:
    """The connection type names the hook's class, which says the same of itself."""
    module, _, name = CONNECTION["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is FlokitHook
    assert CONNECTION["connection-type"] == FlokitHook.conn_type == "flokit"
    assert CONNECTION["hook-name"] == FlokitHook.hook_name == "FloKit"


def test_version() -> None:
    """The metadata has the package's version."""
    assert INFO["versions"] == [airflow_provider_flokit.__version__]
    assert INFO["package-name"] == "airflow-provider-flokit"


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
    """The form has a field for each extra that the connection reads; all may stay empty."""
    fields = CONNECTION["conn-fields"]
    assert list(fields) == list(EXTRAS)
    for name, field in fields.items():
        assert field["label"]
        assert field["description"]
        assert "null" in field["schema"]["type"]
        assert settings(**{name: None}) == settings(**{name: ""}) == settings()


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
    assert settings(**{name: value}) != settings() or name == "allow_insecure_http"


def test_hook_has_the_same_labels() -> None:
    """Older Airflow gets the form's labels from the hook: the same as newer ones read in the metadata."""
    behaviour = CONNECTION["ui-field-behaviour"]
    assert behaviour["relabeling"]["password"] == "API Key"
    assert FlokitHook.get_ui_field_behaviour() == {name.replace("-", "_"): item for name, item in behaviour.items()}


# Flask-AppBuilder's own imports warn.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(
    importlib.util.find_spec("flask_appbuilder") is None,
    reason="Flask-AppBuilder, which draws Airflow 2's connection form, is not installed",
)
def test_hook_has_the_same_fields() -> None:
    """Airflow 2 gets the form's fields from the hook: the names and labels of the metadata, all texts or secrets."""
    widgets = FlokitHook.get_connection_form_widgets()
    assert {name: (widget.kwargs["label"], widget.kwargs["description"]) for name, widget in widgets.items()} == {
        name: (field["label"], field["description"]) for name, field in CONNECTION["conn-fields"].items()
    }
    secret = widgets.pop("proxies")
    assert secret.field_class.__name__ == "PasswordField"
    assert {widget.field_class.__name__ for widget in widgets.values()} == {"StringField"}


def test_airflow_finds_the_form_on_the_hooks_own_class() -> None:
    """Airflow before 3.2 does not look for the form's methods in base classes."""
    assert {"get_ui_field_behaviour", "get_connection_form_widgets"} <= set(vars(FlokitHook))


# Assets


@pytest.mark.parametrize("kind", ["asset-uris", "dataset-uris"])
def test_airflow_knows_the_asset_scheme(kind: str) -> None:
    """Airflow 3 and Airflow 2 each read their own entry; both name functions that are there."""
    (entry,) = INFO[kind]
    assert entry["schemes"] == ["flokit"]
    for role in ("handler", "to_openlineage_converter", "factory"):
        module, _, name = entry[role].rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))
