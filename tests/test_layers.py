"""The package's floors: who may import whom, no circles, and nothing private of other libraries."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = "airflow_provider_flokit"
SIMULATOR = REPOSITORY / OURS / "simulator"
MODULES = [path for path in sorted((REPOSITORY / OURS).rglob("*.py")) if SIMULATOR not in path.parents]


@pytest.mark.parametrize("contract", ["api", "gate", "circles"])
def test_imports_keep_the_contract(contract: str) -> None:
    """The contracts are in pyproject.toml; import-linter follows every import, the indirect ones too."""
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--contract", contract],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_nothing_private_of_another_library_is_used() -> None:
    """Neither imports nor attributes: what is private may be gone in the next release."""
    found = [use for path in MODULES for use in private_uses(path.read_text(), path.name)]
    assert found == []


def private_uses(source: str, name: str) -> Iterator[str]:
    """Yield the imports of another library's private parts, and the private attributes of what was imported of it."""
    tree = ast.parse(source)
    theirs: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        module = getattr(node, "module", None)
        for alias in node.names:
            path = f"{module}.{alias.name}" if module else alias.name
            if path.split(".")[0] == OURS or getattr(node, "level", 0):
                continue
            theirs.add(alias.asname or alias.name.split(".")[0])
            if any(is_private(part) for part in path.split(".")):
                yield f"{name}:{node.lineno} imports {path}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            root: ast.expr = node.value
            while isinstance(root, ast.Attribute | ast.Call):
                root = root.value if isinstance(root, ast.Attribute) else root.func
            if isinstance(root, ast.Name) and root.id in theirs:
                yield f"{name}:{node.lineno} uses {ast.unparse(node)}"


def is_private(name: str) -> bool:
    """Tell whether a name begins with one underscore."""
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize(
    "source",
    [
        "import requests._internal",
        "from requests._internal import x",
        "from airflow.models import _private as x",
        "import urllib3\nurllib3.connection._helper()",
        "from airflow.hooks import BaseHook\nBaseHook()._conn",
    ],
)
def test_the_search_for_private_parts_finds_them(source: str) -> None:
    """Each of these is one; our own private modules and attributes are none."""
    assert len(list(private_uses(source, "x.py"))) == 1
    assert not list(private_uses(f"from {OURS}.hooks import _calls\n_calls._x\nself._y\nrequests.__name__", "x.py"))


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
