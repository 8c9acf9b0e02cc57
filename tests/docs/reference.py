"""
The API reference, made of signatures and docstrings: ``make docs`` (``python -m tests.docs.reference``).

It reads the package itself, so what it says of defaults is what runs; no documentation tool is needed for that.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import tempfile
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE: Final = Path(__file__).parents[2] / "docs" / "api.md"

# What is public: by module, its classes (or functions), and of each the methods to describe; None for all classes,
# without methods.
_JSON = ("from_json", "to_json")
_CALLS = ("list_integrations", "get_integration", "find_integration", "trigger_sync", "test_connection")
_SIMULATOR = (
    "add_integration", "set_state", "remove_integration", "plan", "run_scheduled_sync", "script", "script_after_sync",
    "fail", "outage", "clear_faults", "rotate_key", "configure", "start", "stop", "connection_uri", "connection_json",
    "wait_for_requests", "clear_requests",
)  # fmt: skip
_FAULTS = (
    "answer", "rate_limited", "drop", "drop_after", "close_in_headers", "close_in_body", "truncated_body", "trickle",
    "slow", "wrong_shape", "invalid_utf8", "gzip_bomb", "large_body", "redirect", "redirect_loop",
)  # fmt: skip
_CONTENTS: Final[dict[str, dict[str, tuple[str, ...]] | None]] = {
    "operators.flokit": {"FlokitTriggerSyncOperator": ()},
    "sensors.flokit": {"FlokitIntegrationSensor": ()},
    "hooks.flokit": {"FlokitHook": _CALLS, "FlokitAsyncHook": _CALLS},
    "triggers.flokit": None,
    "assets.flokit": {"flokit_asset": ()},
    "models": {"Integration": _JSON, "IntegrationStatus": (), "SyncStats": _JSON, "SyncReceipt": _JSON},
    "errors": {},
    "simulator.pytest_plugin": {"SimulatedFlokit": ("connect", "run")},
    "simulator.dag_run": {"DagOutcome": ()},
    "simulator.server": {"Simulator": _SIMULATOR},
    "simulator.records": {"Sync": (), "SyncRun": (), "IntegrationState": (), "RecordedRequest": ()},
    "simulator.faults": {"Fault": _FAULTS},
    "simulator.switches": {"Switches": ()},
}


def reference() -> str:
    """Return the whole reference as Markdown."""
    lines = [
        "# API reference",
        "",
        "Made from the docstrings by `make docs`. Parameters that are *templated* may hold Jinja.",
        "",
    ]
    for module, classes in _CONTENTS.items():
        lines += _module(f"airflow_provider_flokit.{module}", classes)
    return "\n".join(lines).rstrip() + "\n"


def _module(name: str, classes: dict[str, tuple[str, ...]] | None) -> Iterator[str]:
    module = importlib.import_module(name)
    if classes is None:
        here = (each for each in vars(module).values() if isinstance(each, type) and each.__module__ == name)
        classes = {each.__name__: () for each in here if not each.__name__.startswith("_")}
    yield from (f"## `{name}`", "", *_prose(inspect.getdoc(module) or ""), "")
    for class_name, methods in classes.items():
        cls = getattr(module, class_name)
        yield from (f"### `{class_name}`", "")
        if isinstance(cls, type) and issubclass(cls, Enum):
            yield from (*_prose(inspect.getdoc(cls) or ""), "", *(f"* `{each.value}`" for each in cls), "")
            continue
        yield from (*_call(class_name, cls), "", *_prose(inspect.getdoc(cls) or ""), "")
        for method in methods:
            yield from _method(cls, method)


def _method(cls: type, name: str) -> Iterator[str]:
    function = getattr(cls, name)
    awaited = "await " if inspect.iscoroutinefunction(function) else ""
    yield from (f"#### `{cls.__name__}.{name}`", "", *_call(f"{awaited}{name}", function), "")
    yield from (*_prose(inspect.getdoc(function) or ""), "")


def _call(name: str, function: object) -> Iterator[str]:
    """Yield the signature as code, one parameter a line if it is long."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", "kwargs")]
    returned = signature.return_annotation
    end = f" -> {returned}" if isinstance(returned, str) and returned not in ("None", "Self") else ""
    shown = [_parameter(p) for p in parameters]
    for place, parameter in enumerate(parameters):
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            shown.insert(place, "*")
            break
    short = f"    {name}({', '.join(shown)}){end}"
    if len(short) <= 100:  # what a browser shows without scrolling
        yield short
        return
    yield f"    {name}("
    yield from (f"        {each}," for each in shown)
    yield f"    ){end}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}: {parameter.annotation}{default}"


def _prose(docstring: str) -> Iterator[str]:
    """Turn a docstring into Markdown; its ``:param x:`` become a list."""
    text, *fields = re.split(r"^:(?=param |return:|raises )", docstring, flags=re.MULTILINE)
    yield from _markdown(text).rstrip().splitlines()
    if fields and text:
        yield ""
    for field in fields:
        head, _, body = field.partition(":")
        kind, _, subject = head.partition(" ")
        label = {"param": f"`{subject}`", "return": "Returns", "raises": f"Raises `{subject}`"}[kind]
        yield f"* {label}: {' '.join(_markdown(body).split())}"


def _markdown(text: str) -> str:
    text = re.sub(r":(?:class|meth|mod|attr|func|data):`~[\w.]*?(\w+)`", r"`\1`", text)
    text = re.sub(r":(?:class|meth|mod|attr|func|data):`([\w.]+)`", r"`\1`", text)
    text = text.replace("``", "`")
    return re.sub(r"(^|\w)::$", lambda found: f"{found[1]}:" if found[1] else "", text, flags=re.MULTILINE)


def main() -> int:
    """Write the reference."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home  # importing Airflow writes its settings there
        REFERENCE.write_text(reference())
    sys.stdout.write(f"{REFERENCE.name} is written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
