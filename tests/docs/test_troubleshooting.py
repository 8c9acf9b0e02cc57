"""docs/troubleshooting.md has every message of the package, and quotes none that it does not say."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import airflow_provider_flokit
from airflow_provider_flokit import errors
from tests.docs.blocks import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(airflow_provider_flokit.__file__).parent
TEXT = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
# What makes a message: an exception, or one of the functions that put messages together.
MAKERS = {name for name in vars(errors) if name.endswith("Error")} | {
    "AirflowSensorTimeout", "AirflowTaskTimeout", "TransportError", "Verdict", "message",
    "wrong",
}  # fmt: skip
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


def name_of(node: ast.expr) -> str:
    """Return the name that is called."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def made(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of each call that makes a message."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in MAKERS:
            yield node.lineno, " ".join(template(each) for each in node.args)


def said(tree: ast.Module) -> Iterator[str]:
    """Yield every text of a module, whole and put together as messages are."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
            yield template(node)
    yield from (text for _, text in made(tree))


def quotes() -> list[str]:
    """Return the messages that the document quotes: the code in the first column of its tables."""
    rows = re.findall(r"^\| (`.+?`)(?: \||$)", TEXT, re.MULTILINE)
    return [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]


def pattern(quote: str) -> re.Pattern[str]:
    """Return what a quote matches: these words, with anything in place of ``…`` and of an answer's status."""
    words = re.sub(r"HTTP \d\d\d", "HTTP …", quote)
    return re.compile(".*".join(re.escape(piece.strip()) for piece in words.split("…")), re.DOTALL)


SAID = [text for _, tree in sources() for text in said(tree)]
MADE = [
    pytest.param(text.replace(HOLE, "…"), id=f"{name}:{line}")
    for name, tree in sources()
    for line, text in made(tree)
    # Two words and less are a frame, into which the message is put.
    if len(re.findall(r"[a-z]{2,}", text)) > 2
]


@pytest.mark.parametrize("quote", quotes())
def test_the_package_says_what_is_quoted(quote: str) -> None:
    """Somewhere in the package there is a message of these very words."""
    pieces = [piece.strip() for piece in re.sub(r"HTTP \d\d\d", "…", quote).split("…") if piece.strip()]
    assert pieces
    for piece in pieces:
        assert any(piece in text for text in SAID), piece


@pytest.mark.parametrize("message", MADE)
def test_every_message_is_explained(message: str) -> None:
    """Whatever message the package makes, a reader finds a piece of it in the document."""
    assert any(pattern(quote).search(message) for quote in quotes()), (
        f"no row of docs/troubleshooting.md for: {message}"
    )
