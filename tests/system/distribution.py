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
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.checkout import REPOSITORY
from tests.system.package import CommandError, distributions_in, install, installed_in, new_environment, run
from tests.system.settings import AIRFLOW_VERSION

DIST: Final = REPOSITORY / "dist"
AIRFLOW: Final = ".".join(map(str, AIRFLOW_VERSION))
CONSTRAINTS: Final = REPOSITORY / "constraints" / f"airflow-{AIRFLOW}.txt"
# What builds and checks; each brings its own dependencies, which the package's environments need not have.
TOOLS: Final = ("build==1.6.1", "twine==7.0.0")

console = Console(highlight=False, soft_wrap=True)
_began = time.monotonic()


def tell(what: str) -> None:
    """Print what is being done."""
    console.print(f"{time.monotonic() - _began:6.1f} s  {what} ...", style="bold", markup=False)


def test(*arguments: object) -> None:
    """Run tests against ``dist/``; what pytest prints is shown as it comes."""
    options = ["--verbose", "--no-header", "--distributions", str(DIST), *map(str, arguments)]
    if subprocess.run([sys.executable, "-m", "pytest", *options], cwd=REPOSITORY, check=False).returncode:
        raise CommandError("Not all tests have passed.")


def release(scratch: Path) -> None:
    """Build into ``dist/`` and check it, the quick ways first."""
    tell("Building sdist and wheel")
    tools = new_environment(scratch / "tools", TOOLS)
    shutil.rmtree(DIST, ignore_errors=True)
    run(tools, "-m", "build", "--outdir", DIST, REPOSITORY)
    tell("Checking their metadata with twine")
    run(tools, "-m", "twine", "check", "--strict", *sorted(DIST.iterdir()))
    tell("Checking what is inside")
    test("tests/test_supply.py")
    tell(f"Installing Airflow {AIRFLOW} into a clean environment, a minute or two, then the wheel")
    wheel = distributions_in(DIST).wheel
    python = new_environment(scratch / "clean", [f"apache-airflow=={AIRFLOW}.*"], CONSTRAINTS)
    before = installed_in(python)
    install(python, [wheel], CONSTRAINTS)
    if (added := installed_in(python) - before) != {"airflow-provider-flokit"}:
        raise CommandError(f"The wheel has added {', '.join(sorted(added))} to Airflow's own distributions.")
    tell("Trying it there: the provider, connections, the example DAGs of the sdist")
    test("tests/system/test_installed.py", "--installed", python)


def main() -> int:
    """Build and check; return the exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="flokit-dist-") as scratch:
            release(Path(scratch))
    except CommandError as error:
        console.print(f"\n{error}", style="red", markup=False)
        console.print("Not fit to be released.", style="bold red")
        return 1
    console.print(f"Fit to be released, after {time.monotonic() - _began:.0f} s:", style="green")
    for path in distributions_in(DIST):
        console.print(f"  {path.relative_to(REPOSITORY)}  {path.stat().st_size // 1024} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
