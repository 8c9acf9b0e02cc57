"""The package as its users get it: built, and installed into an environment that knows nothing of this checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

from airflow_provider_flokit import __version__
from tests.checkout import REPOSITORY

NAME: Final = f"airflow_provider_flokit-{__version__}"


class Distributions(NamedTuple):
    """What is released."""

    sdist: Path
    wheel: Path


class CommandError(Exception):
    """A command has failed; the message is what it printed."""


def run(*command: object) -> str:
    """Run a command in the checkout to its end and return what it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise CommandError(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def distributions_in(folder: Path) -> Distributions:
    """Return what a build leaves in a folder."""
    return Distributions(folder / f"{NAME}.tar.gz", folder / f"{NAME}-py3-none-any.whl")


def build(folder: Path) -> Distributions:
    """Build into a folder with the build backend that is installed here: a second, and no network."""
    run(sys.executable, "-m", "hatchling", "build", "--directory", folder)
    return distributions_in(folder)


def environment_with(wheel: Path, folder: Path) -> Path:
    """Make an environment of the wheel and links to all else that is installed here, and return its Python."""
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "airflow_provider_flokit" not in entry.name:
            (packages / entry.name).symlink_to(entry)
    # A wheel of plain Python modules is installed by unpacking it.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return folder / "bin" / "python"
