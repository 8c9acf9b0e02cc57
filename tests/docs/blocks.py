"""
The code blocks of the README and docs.

Each one is preceded by a comment that says how it is run: ``<!-- test: KIND -->``. A block without one, or of a
language that no KIND goes with, has no place in the docs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markdown_it import MarkdownIt

from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS: Final = {
    "run": ("python", "a DAG, run to its end against the simulator"),
    "task": ("python", "a task, run in a DAG of its own against the simulator"),
    "watch": ("python", "watched assets and their DAG: on Airflow 3 the watchers see a sync, and the task takes it"),
    "before": ("python", "what users have now: compiled, as its provider need not be installed"),
    "script": ("python", "run with the simulator at flokit_default"),
    "pytest": ("python", "a test file, run by pytest beside the README's gate as warehouse.py"),
    "conftest": ("python", "the conftest.py of those test files"),
    "json": ("json", "parsed"),
    "shell": ("shell", "each command as tests/docs/commands.py says"),
    "diagram": ("mermaid", "compared with the statuses"),
}
_MARK: Final = re.compile(r"<!-- test: (\w+) -->")


@dataclass(frozen=True)
class Block:
    """
    A code block.

    :param name: File and line, for the test's id.
    :param kind: One of KINDS, None if it is not marked.
    :param language: What stands behind the opening fence; nothing for an indented block.
    :param code: What is inside.
    """

    name: str
    kind: str | None
    language: str
    code: str


def documents() -> list[Path]:
    """Return every document."""
    return sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])


def blocks(*kinds: str) -> list[Block]:
    """Return the blocks of these kinds; all if none is given."""
    read_first = [path for path in documents() if path.name == "README.md" or path.parent.name == "docs"]
    found = (block for path in read_first for block in blocks_of(path.read_text(), str(path.relative_to(REPOSITORY))))
    return [block for block in found if not kinds or block.kind in kinds]


def gate() -> Block:
    """Return the README's DAG, which the docs' test files import from warehouse.py."""
    (found,) = [block for block in blocks("run") if 'DAG("warehouse"' in block.code]
    assert found.name.startswith("README")
    return found


def blocks_of(text: str, name: str) -> Iterator[Block]:
    """
    Yield whatever Markdown shows as a block of code, however it is written.

    :param text: The document.
    :param name: Its name.
    """
    mark = None
    for token in MarkdownIt().parse(text):
        if token.type in ("fence", "code_block"):
            line = token.map[0] + 1 if token.map else 0
            yield Block(f"{name}:{line}", mark and mark[1], token.info.strip(), token.content)
        mark = _MARK.fullmatch(token.content.strip()) if token.type == "html_block" else None
