"""The package's floors: who may import whom, no circles, dependencies alone, and nothing private of theirs."""

from __future__ import annotations

import ast
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from tests.checkout import REPOSITORY, run

if TYPE_CHECKING:
    from pathlib import Path

OURS = "airflow_provider_flokit"
SIMULATOR = REPOSITORY / OURS / "simulator"
MODULES = [path for path in sorted((REPOSITORY / OURS).rglob("*.py")) if SIMULATOR not in path.parents]
IMPORTED_AS = {
    "apache-airflow": "airflow",
    "apache-airflow-providers-common-compat": "airflow",
    "requests": "requests",
}
COME_ALONG = {"attr", "jinja2", "sqlalchemy", "urllib3"}
"""What is used of the dependencies' own dependencies, which they cannot be without."""

ONLY_WHERE_AIRFLOW_HAS_THEM = {"fastapi", "flask_appbuilder", "wtforms"}
"""Imported where only Airflow 3's API server calls, or only Airflow 2's web server, which have them."""


@pytest.mark.parametrize("contract", ["api", "gate", "circles"])
def test_imports_keep_the_contract(contract: str) -> None:
    """The contracts are in pyproject.toml; import-linter follows every import, the indirect ones too."""
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    run(sys.executable, "-c", lint, "--no-cache", "--contract", contract)


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports from elsewhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.partition(".")[0] not in {OURS, "__future__"}}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(REPOSITORY / OURS).as_posix())
def test_nothing_private_of_another_library_is_imported(path: Path) -> None:
    """What is private may be gone in the next release; ruff sees to private attributes (SLF001)."""
    assert [name for name in imports(path) if any(part.startswith("_") for part in name.split("."))] == []


def test_every_import_is_of_a_dependency() -> None:
    """What runs in Airflow imports the standard library and its dependencies; none is asked for in vain."""
    imported = {name.partition(".")[0] for path in MODULES for name in imports(path)} - set(sys.stdlib_module_names)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    needed = {IMPORTED_AS[Requirement(line).name] for line in project["dependencies"]}
    assert needed <= imported <= needed | COME_ALONG | ONLY_WHERE_AIRFLOW_HAS_THEM


@pytest.mark.parametrize("comment", ["# noqa", "# type: ignore"])
def test_checkers_are_rarely_overruled(comment: str) -> None:
    """At most ten times outside the simulator."""
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if comment in line
    ]
    assert len(found) <= 10, found
