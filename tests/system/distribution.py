"""
Build what is released and try it as a user would: ``make dist`` (``python -m tests.system.distribution``).

It leaves an sdist and a wheel in ``dist/``, after checking their metadata with twine, installing the wheel beside
Airflow into an environment of its own, and having the tests of both run against what lies there. The exit code is 0
only if all of it is fit to be released.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

from airflow_provider_flokit import __version__
from tests.checkout import REPOSITORY, CommandError, run
from tests.system.settings import AIRFLOW_VERSION

NAME = f"airflow_provider_flokit-{__version__}"
DIST = REPOSITORY / "dist"
AIRFLOW = ".".join(map(str, AIRFLOW_VERSION))
# What builds and checks; each brings its own dependencies, which the package's environments need not have.
TOOLS = ("build==1.6.1", "twine==7.0.0")


class Distributions(NamedTuple):
    """What is released."""

    sdist: Path
    wheel: Path


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


def environment(folder: Path, *packages: object) -> Path:
    """Make an environment of these packages, installed by pip, and return its Python."""
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *packages)
    return folder / "bin" / "python"


def installed_in(python: Path) -> set[str]:
    """Return the distributions of an environment."""
    listing = "import importlib.metadata as m; print(*(d.name for d in m.distributions()), sep='\\n')"
    return set(run(python, "-c", listing).split())


def test(*arguments: object) -> None:
    """Run tests against ``dist/``; what pytest prints is shown as it comes."""
    command = [sys.executable, "-m", "pytest", "--verbose", "--distributions", DIST, *arguments]
    if subprocess.run(list(map(str, command)), cwd=REPOSITORY, check=False).returncode:
        raise CommandError("Not all tests have passed.")


def release(scratch: Path) -> None:
    """Build into ``dist/`` and check it, the quick ways first."""
    print("Building sdist and wheel ...", flush=True)
    tools = environment(scratch / "tools", *TOOLS)
    shutil.rmtree(DIST, ignore_errors=True)
    run(tools, "-m", "build", "--outdir", DIST, REPOSITORY)
    run(tools, "-m", "twine", "check", "--strict", *sorted(DIST.iterdir()))
    test("tests/test_supply.py")
    print(f"Installing Airflow {AIRFLOW} into a clean environment, a minute or two, then the wheel ...", flush=True)
    limits = ("--constraint", REPOSITORY / "constraints" / f"airflow-{AIRFLOW}.txt")
    python = environment(scratch / "clean", *limits, f"apache-airflow=={AIRFLOW}.*")
    before = installed_in(python)
    run(python, "-m", "pip", "install", "--quiet", *limits, distributions_in(DIST).wheel)
    if (added := installed_in(python) - before) != {"airflow-provider-flokit"}:
        raise CommandError(f"The wheel has added {', '.join(sorted(added))} to Airflow's own distributions.")
    test("tests/system/test_installed.py", "--installed", python)


def main() -> int:
    """Build and check; return the exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="flokit-dist-") as scratch:
            release(Path(scratch))
    except CommandError as error:
        print(f"\n{error}\nNot fit to be released.")
        return 1
    print("Fit to be released:", *(path.relative_to(REPOSITORY) for path in distributions_in(DIST)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
