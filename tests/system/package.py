"""The package as its users get it: built, and installed into an environment that knows nothing of this checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from airflow_provider_flokit import __version__
from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME: Final = f"airflow_provider_flokit-{__version__}"


class Distributions(NamedTuple):
    """What is released."""

    sdist: Path
    wheel: Path


class CommandError(Exception):
    """A command has failed; the message is what it printed."""


def run(*command: object) -> None:
    """Run a command in the checkout to its end."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        raise CommandError(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")


def distributions_in(folder: Path) -> Distributions:
    """Return what a build leaves in a folder."""
    return Distributions(folder / f"{NAME}.tar.gz", folder / f"{NAME}-py3-none-any.whl")


def build(folder: Path) -> Distributions:
    """Build into a folder with the build backend that is installed here: a second, and no network."""
    run(sys.executable, "-m", "hatchling", "build", "--directory", folder)
    return distributions_in(folder)


def environment_with(wheel: Path, folder: Path) -> Path:
    """
    Make an environment of the wheel and everything that is installed here but this package, and return its Python.

    What is installed here is linked, not copied; a wheel of plain Python modules is installed by unpacking it.
    """
    venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "airflow_provider_flokit" not in entry.name:
            (packages / entry.name).symlink_to(entry)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return folder / "bin" / "python"


def new_environment(folder: Path, packages: Iterable[object], constraints: Path | None = None) -> Path:
    """Make an environment of these packages, installed by pip, and return its Python."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    limits = ["--constraint", constraints] if constraints else []
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *limits, *packages)
    return python
