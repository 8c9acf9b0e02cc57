"""The checkout that these tests belong to: where things are in it, and how a command is run in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
EXAMPLE_DAGS = REPOSITORY / "example_dags"


class CommandError(Exception):
    """A command has failed; the message is what it printed."""


def run(*command: object, cwd: Path = REPOSITORY) -> str:
    """Run a command to its end and return what it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        raise CommandError(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
