"""
The code blocks of the README and docs.

Each one is preceded by a comment that says how it is run: ``<!-- test: KIND -->``. A block without one, or of a
language that no KIND goes with, has no place in the docs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS: Final = {
    "run": ("python", "a DAG, run to its end against the simulator"),
    "dag": ("python", "a DAG, built and serialised as Airflow does, not run"),
    "airflow3": ("python", "as script where Airflow is 3 or newer, else compiled: it shows what Airflow 2 has not"),
    "before": ("python", "what users have now: compiled, as its provider need not be installed"),
    "script": ("python", "run with the simulator at flokit_default"),
    "pytest": ("python", "a test file, run by pytest beside the README's gate as warehouse.py"),
    "conftest": ("python", "the conftest.py of those test files"),
    "json": ("json", "parsed"),
    "shell": ("shell", "each command as tests/docs/commands.py says"),
    "diagram": ("mermaid", "compared with the statuses"),
}
_FENCE = re.compile(
    r"^(?:<!-- test: (?P<kind>\w+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """
    A code block.

    :param name: File and line, for the test's id.
    :param kind: One of KINDS, None if it is not marked.
    :param language: What stands behind the opening fence.
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
    return [block for path in documents() for block in _blocks(path) if not kinds or block.kind in kinds]


def _blocks(path: Path) -> Iterator[Block]:
    text = path.read_text()
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        name = f"{path.relative_to(REPOSITORY)}:{line}"
        yield Block(name, found["kind"], found["language"], found["code"])
