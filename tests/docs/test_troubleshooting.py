"""docs/troubleshooting.md quotes no message that the package does not say."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import airflow_provider_flokit
from tests.docs.blocks import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(airflow_provider_flokit.__file__).parent
TEXT = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
HOLE = "\x00"  # where a message has something put in


def template(node: ast.expr) -> str:
    """Return the text of an expression, with holes for what is put in when it runs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(template(value) for value in values)
        case ast.BinOp(left=left, right=right):
            return template(left) + template(right)
        case ast.IfExp(body=body, orelse=orelse):
            return f"{template(body)}{HOLE}{template(orelse)}"
        case _:
            return HOLE


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield the package's modules; the simulator's messages are for those who write tests."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if not name.startswith("simulator"):
            yield name, ast.parse(path.read_text())


def said(tree: ast.Module) -> Iterator[str]:
    """Yield every text of a module, whole and put together as messages are."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
            yield template(node)


def quotes() -> list[str]:
    """Return the messages that the document quotes as ours: the code in the first column of its tables."""
    ours = TEXT.partition("## Airflow's own messages")[0]
    rows = re.findall(r"^\| (`.+?`)[,*a-z ]*\|", ours, re.MULTILINE)
    return [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]


SAID = [text for _, tree in sources() for text in said(tree)]


@pytest.mark.parametrize("quote", quotes())
def test_the_package_says_what_is_quoted(quote: str) -> None:
    """Somewhere in the package there is a message of these very words."""
    pieces = [piece.strip() for piece in re.sub(r"HTTP \d\d\d", "…", quote).split("…") if piece.strip(" ,")]
    assert pieces
    for piece in pieces:
        assert any(piece in text for text in SAID), piece
