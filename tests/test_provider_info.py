"""What Airflow's provider manager reads is valid, complete, and the same as what the hook says of itself."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow
import jsonschema
import pytest

from airflow_provider_flokit import __version__, get_provider_info
from airflow_provider_flokit.api.settings import EXTRAS, FlokitSettings
from airflow_provider_flokit.hooks.flokit import FlokitHook

INFO = get_provider_info()
CONNECTION = INFO["connection-types"][0]


def schema(name: str) -> Any:
    """Return one of Airflow's JSON schemas."""
    return json.loads((Path(airflow.__file__).parent / name).read_text())


def named(path: str) -> Any:
    """Return what a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_airflow_accepts_it() -> None:
    """The metadata, and what the hook says of the connection form, are valid by Airflow's own schemas."""
    jsonschema.validate(INFO, schema("provider_info.schema.json"))
    jsonschema.validate(FlokitHook.get_ui_field_behaviour(), schema("customized_form_field_behaviours.schema.json"))
    items = schema("provider.yaml.schema.json")["properties"]["connection-types"]["items"]
    if "conn-fields" in items["properties"]:  # Airflow 3.2 and later know connection forms in the metadata
        # 3.3 has added the name of the type; 3.2 takes no notice of it.
        known = {name: each for name, each in CONNECTION.items() if name in items["properties"] or name != "hook-name"}
        jsonschema.validate(known, {**items, "additionalProperties": False})


def test_what_is_named_is_there() -> None:
    """Every module, class and function that the metadata names can be imported; the version is the package's."""
    assert (INFO["package-name"], INFO["versions"]) == ("airflow-provider-flokit", [__version__])
    for kind in ("hooks", "operators", "sensors", "triggers"):
        assert all(importlib.import_module(module) for entry in INFO[kind] for module in entry["python-modules"])
    assert named(CONNECTION["hook-class-name"]) is FlokitHook
    assert CONNECTION["connection-type"] == FlokitHook.conn_type == "flokit"
    assert CONNECTION["hook-name"] == FlokitHook.hook_name == "FloKit"
    for kind in ("asset-uris", "dataset-uris"):  # Airflow 3 and Airflow 2 each read their own entry
        (entry,) = INFO[kind]
        assert entry["schemes"] == ["flokit"]
        assert all(callable(named(entry[role])) for role in ("handler", "to_openlineage_converter", "factory"))


# The connection form


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
def test_the_form_has_a_field_for_each_extra(name: str, value: object) -> None:
    """What it stores, an empty field too, is valid by the field's schema, and the connection understands it."""
    assert list(CONNECTION["conn-fields"]) == list(EXTRAS)
    for stored in (value, None):
        jsonschema.validate(stored, CONNECTION["conn-fields"][name]["schema"])
        host = "http://flokit.example" if stored is True else None
        conn = SimpleNamespace(host=host, schema=None, port=None, password="k", extra={name: stored})
        found = FlokitSettings.from_connection("flokit_default", conn)
        assert (found == FlokitSettings("flokit_default", "https://api.flokit.ai", "k")) is (stored is None)


def test_hook_has_the_same_labels() -> None:
    """Older Airflow gets the form's labels from the hook: the same as newer ones read in the metadata."""
    behaviour = CONNECTION["ui-field-behaviour"]
    assert behaviour["relabeling"]["password"] == "API Key"
    assert FlokitHook.get_ui_field_behaviour() == {name.replace("-", "_"): item for name, item in behaviour.items()}
    # Airflow before 3.2 does not look for them in base classes.
    assert {"get_ui_field_behaviour", "get_connection_form_widgets"} <= set(vars(FlokitHook))


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
