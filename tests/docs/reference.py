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
import textwrap
from enum import Enum
from typing import TYPE_CHECKING, Final

from tests.docs.blocks import KINDS, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE: Final = REPOSITORY / "docs" / "api.md"

# What is public: by module, its classes (or functions), and of each the methods to describe; None for all classes,
# without methods.
_JSON = ("from_json", "to_json")
_CALLS = ("list_integrations", "get_integration", "find_integration", "trigger_sync", "test_connection")
_SIMULATOR = (
    "add_integration", "set_state", "remove_integration", "plan", "run_scheduled_sync", "script", "script_after_sync",
    "fail", "outage", "clear_faults", "rotate_key", "configure", "start", "stop", "connection_uri", "connection_json",
    "finish_sync", "clear_requests",
)  # fmt: skip
_FAULTS = ("answer", "rate_limited", "drop", "drop_after", "slow")
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
    "simulator.server": {"Simulator": _SIMULATOR, "RecordedRequest": ()},
    "simulator.workspace": {"Workspace": ()},
    "simulator.integration": {"Sync": (), "SyncRun": (), "IntegrationState": ()},
    "simulator.faults": {"Fault": _FAULTS},
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
    yield from (f"#### `{cls.__name__}.{name}`", "", *_call(f"{awaited}{name}", function, cls.__name__), "")
    yield from (*_prose(inspect.getdoc(function) or ""), "")


def _call(name: str, function: object, owner: str = "") -> Iterator[str]:
    """Yield the signature as a block of code, one parameter a line if it is long; its class is the owner."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    returned = signature.return_annotation
    end = f" -> {owner if returned == 'Self' else returned}" if isinstance(returned, str) and returned != "None" else ""
    shown = list(_parameters([p for p in signature.parameters.values() if p.name != "self"]))
    short = f"{name}({', '.join(shown)}){end}"
    # What a browser shows without scrolling.
    lines = [short] if len(short) <= 96 else [f"{name}(", *(f"    {each}," for each in shown), f"){end}"]
    yield from _code("signature", "\n".join(lines))


def _parameters(parameters: list[inspect.Parameter]) -> Iterator[str]:
    """Yield the parameters, and what Python writes between those of different kinds."""
    before = None
    for parameter in parameters:
        if before is parameter.POSITIONAL_ONLY and parameter.kind is not before:
            yield "/"
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (parameter.VAR_POSITIONAL, parameter.kind):
            yield "*"
        yield _parameter(parameter)
        before = parameter.kind
    if before is inspect.Parameter.POSITIONAL_ONLY:
        yield "/"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    default = "" if parameter.default is inspect.Parameter.empty else f" = {_default(parameter.default)}"
    return f"{stars}{parameter.name}: {parameter.annotation}{default}"


def _default(value: object) -> str:
    """Return what to write for a default: functions by name, what a dataclass makes anew each time as ``...``."""
    if inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    return "..." if repr(value) == "<factory>" else repr(value)


def _code(kind: str, code: str) -> Iterator[str]:
    """Yield a block of code that is marked as tests/docs/blocks.py wants it."""
    yield from (f"<!-- test: {kind} -->", f"```{KINDS[kind][0]}", code, "```")


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
    return re.sub(r"(\w|^)::\n\n((?: {4}.*\n|\n)+)", _literal, text, flags=re.MULTILINE)


def _literal(found: re.Match[str]) -> str:
    """Turn what follows a ``::`` into a block of code."""
    code = textwrap.dedent(found[2]).strip()
    kind = "conftest" if code.startswith("pytest_plugins") else "pytest" if "def test_" in code else "tree"
    block = "\n".join(_code(kind, code))
    return f"{found[1]}:\n\n{block}\n\n" if found[1] else f"{block}\n\n"


def main() -> int:
    """Write the reference, unless it is that already."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home  # importing Airflow writes its settings there
        text = reference()
    if REFERENCE.read_text() == text:
        sys.stdout.write(f"{REFERENCE.name} is up to date\n")
    else:
        REFERENCE.write_text(text)
        sys.stdout.write(f"{REFERENCE.name} is written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
