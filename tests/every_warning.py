"""
Print, as JSON lines, what is warned about this package while Airflow discovers it and reads DAG files.

Run by a test in a process of its own, in which nothing is imported yet: Python warns of an import only once.
The command line names the folder of the DAG files.
"""

from __future__ import annotations

import importlib
import json
import logging
import pkgutil
import sys
import warnings
from pathlib import Path
from typing import Any

from tests.deprecations import is_ours


class Log(logging.Handler):
    """Reports what Airflow logs as a warning and that names this package."""

    def emit(self, record: logging.LogRecord) -> None:
        """Report a record."""
        if is_ours(record.pathname, text := record.getMessage()):
            report(record.levelname, text, record.pathname)


def report(kind: str, text: object, path: str) -> None:
    """Print one warning."""
    sys.stdout.write(json.dumps({"kind": kind, "text": str(text), "path": path}) + "\n")


def main() -> None:
    """Import every module, discover the provider and parse the DAGs, listening all the time."""
    dags = sys.argv[1]

    def show(message: Any, category: type[Warning], filename: str, *_: Any) -> None:
        if is_ours(filename, message) or dags in filename or dags in str(message):
            report(category.__name__, message, filename)

    warnings.showwarning = show
    logging.getLogger().addHandler(Log(logging.WARNING))
    importlib.import_module("airflow.settings")
    package = importlib.import_module("airflow_provider_flokit")
    # Airflow may have put its own filters and handlers in place.
    warnings.showwarning = show
    warnings.simplefilter("always")
    logging.getLogger().addHandler(Log(logging.WARNING))
    for module in pkgutil.walk_packages(package.__path__, "airflow_provider_flokit."):
        # A program runs when it is imported.
        if module.name.endswith(".__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as missing:
            # Some are only for an Airflow that has what they build on.
            if str(missing.name).startswith(package.__name__):
                raise
    providers = importlib.import_module("airflow.providers_manager").ProvidersManager()
    if "flokit" not in providers.hooks:
        report("error", "the provider is not found", "")
    _ = providers.connection_form_widgets, providers.field_behaviours
    for path in sorted(Path(dags).glob("*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))  # type: ignore[union-attr, arg-type]


if __name__ == "__main__":
    main()
