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
import tempfile
from pathlib import Path
from typing import Final

from tests.checkout import REPOSITORY
from tests.system.package import CommandError, distributions_in, run
from tests.system.settings import AIRFLOW_VERSION

DIST: Final = REPOSITORY / "dist"
AIRFLOW: Final = ".".join(map(str, AIRFLOW_VERSION))
# What builds and checks; each brings its own dependencies, which the package's environments need not have.
TOOLS: Final = ("build==1.6.1", "twine==7.0.0")


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
