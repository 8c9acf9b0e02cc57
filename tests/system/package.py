"""The package as its users get it: built, and installed into an environment that knows nothing of this checkout."""

from __future__ import annotations

import email
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def dependencies_of(wheel: Path) -> list[Requirement]:
    """Return what a wheel asks for, extras left out."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))
    return _wanted(metadata.get_all("Requires-Dist", []), set())


def come_with(requirements: Iterable[Requirement]) -> set[str]:
    """Return the distributions that an environment with no more than these holds, by what is installed here."""
    found: dict[str, set[str]] = {}
    todo = list(requirements)
    while todo:
        each = todo.pop()
        name, extras = canonicalize_name(each.name), set(each.extras)
        if name in found and extras <= found[name]:
            continue
        found[name] = found.get(name, set()) | extras
        try:
            todo += _wanted(requires(name) or [], found[name])
        except PackageNotFoundError:
            del found[name]
    return set(found)


def _wanted(lines: Iterable[str], extras: set[str]) -> list[Requirement]:
    """Return the requirements that hold in this Python, with these extras of the one who asks."""
    every = [Requirement(line) for line in lines]
    return [
        each
        for each in every
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in {"", *extras})
    ]


def installed_in(python: Path) -> set[str]:
    """Return the distributions of an environment, by the names that pip gives them."""
    listing = "import importlib.metadata as m; print(*(d.name for d in m.distributions()), sep='\n')"
    done = subprocess.run([str(python), "-c", listing], capture_output=True, text=True, check=True)
    return {canonicalize_name(line) for line in done.stdout.splitlines()}


def install(python: Path, packages: Iterable[object], constraints: Path | None = None) -> None:
    """Install packages with the pip of an environment."""
    limits = ["--constraint", constraints] if constraints else []
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *limits, *packages)


def new_environment(folder: Path, packages: Iterable[object], constraints: Path | None = None) -> Path:
    """Make an environment of these packages, installed by pip, and return its Python."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    install(python, packages, constraints)
    return python
