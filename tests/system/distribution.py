"""
Build what is released and try it as a user would: ``make dist`` (``python -m tests.system.distribution``).

It leaves an sdist and a wheel in ``dist/``, after checking their metadata and contents, installing the wheel into an
environment of its own, and having Airflow there find the provider and read the example DAGs of the sdist.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from airflow_provider_flokit import __version__
from tests.system.settings import AIRFLOW_VERSION, environment

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).parents[2]
DIST: Final = ROOT / "dist"
NAME: Final = f"airflow_provider_flokit-{__version__}"
CONSTRAINTS: Final = ROOT / "constraints" / f"airflow-{AIRFLOW_VERSION[0]}.{AIRFLOW_VERSION[1]}.txt"
# What builds and checks; each brings its own dependencies, which the package's environments need not have.
TOOLS: Final = ("build==1.6.1", "twine==7.0.0")
# The example DAGs are to be read and copied: the sdist has them, an installation does not.
SDIST_HAS: Final = (
    "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "PKG-INFO", ".ci/airflow",
    "airflow_provider_flokit/py.typed", "example_dags/flokit_gate.py", "docs/api.md", "tests/conftest.py",
    "constraints/airflow-3.3.txt", "benchmarks/__main__.py",
)  # fmt: skip
READ_DAGS: Final = """\
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(*sorted(bag.dags))
sys.exit("".join(f"{name}: {error}" for name, error in bag.import_errors.items()) or 0)
"""

console = Console(highlight=False, soft_wrap=True)


class UnfitError(Exception):
    """What was built is not fit to be released."""


def build(scratch: Path) -> tuple[Path, Path]:
    """Build into ``dist/`` and return the paths of sdist and wheel."""
    python = new_environment(scratch / "tools", TOOLS)
    shutil.rmtree(DIST, ignore_errors=True)
    run([python, "-m", "build", "--outdir", DIST, ROOT])
    run([python, "-m", "twine", "check", "--strict", *sorted(DIST.iterdir())])
    built = DIST / f"{NAME}.tar.gz", DIST / f"{NAME}-py3-none-any.whl"
    if sorted(DIST.iterdir()) != sorted(built):
        raise UnfitError(f"dist/ holds {[path.name for path in DIST.iterdir()]}")
    return built


def check_contents(sdist: Path, wheel: Path) -> None:
    """The wheel holds the package and nothing else; the sdist all that tests and documents it."""
    here = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "airflow_provider_flokit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = {name for name in names if name.startswith(f"{NAME}.dist-info/")}
    expect(here, names - metadata, "the wheel")
    if f"{NAME}.dist-info/licenses/LICENSE" not in metadata:
        raise UnfitError("the wheel has no licence")
    with tarfile.open(sdist) as archive:
        packed = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    expect(here | set(SDIST_HAS), packed & (here | set(SDIST_HAS)), "the sdist")
    if stray := [name for name in packed if "__pycache__" in name or name.startswith((".venv", "dist"))]:
        raise UnfitError(f"the sdist holds {stray}")


def try_it(sdist: Path, wheel: Path, scratch: Path) -> None:
    """Install the wheel, and have Airflow find the provider and read the sdist's example DAGs."""
    version = ".".join(map(str, AIRFLOW_VERSION))
    python = new_environment(scratch / "clean", [wheel, f"apache-airflow=={version}.*"], CONSTRAINTS)
    with tarfile.open(sdist) as archive:
        archive.extractall(scratch, filter="data")
    examples = scratch / NAME / "example_dags"
    env = environment(scratch / "home", examples, scratch / "airflow.db", 0, parallelism=1, pool_slots=1)
    airflow = [python, "-m", "airflow"]
    for command, words in (
        (["providers", "get", "airflow-provider-flokit"], ("airflow-provider-flokit", __version__)),
        (["providers", "hooks"], ("flokit", "airflow_provider_flokit.hooks.flokit.FlokitHook")),
        (["db", "migrate"], ()),
    ):
        printed = run([*airflow, *command], env, scratch)
        if missing := [word for word in words if word not in printed]:
            raise UnfitError(f"airflow {' '.join(command)} does not show {missing}:\n{printed}")
    found = run([python, "-c", READ_DAGS, examples], env, scratch).split()
    wanted = {path.stem for path in examples.glob("flokit_*.py")}
    if not wanted or not wanted <= set(found):
        raise UnfitError(f"of the example DAGs {sorted(wanted)}, Airflow read {found}")


def new_environment(folder: Path, packages: Iterable[object], constraints: Path | None = None) -> Path:
    """Make an environment with these packages and return its Python."""
    run([sys.executable, "-m", "venv", folder])
    python = folder / "bin" / "python"
    limits = ["--constraint", constraints] if constraints else []
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *limits, *packages])
    return python


def run(command: Iterable[object], env: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Run a program to its end and return what it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise UnfitError(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def expect(wanted: set[str], found: set[str], what: str) -> None:
    """Raise UnfitError unless both are the same."""
    if wanted != found:
        raise UnfitError(f"{what} lacks {sorted(wanted - found)} and has {sorted(found - wanted)} too much")


def main() -> int:
    """Build, check and try; return the exit code."""
    scratch = Path(tempfile.mkdtemp(prefix="flokit-dist-"))
    try:
        console.print("1. Building sdist and wheel, checking their metadata ...")
        sdist, wheel = build(scratch)
        console.print("2. Checking what is inside ...")
        check_contents(sdist, wheel)
        version = ".".join(map(str, AIRFLOW_VERSION))
        console.print(f"3. Installing the wheel beside Airflow {version} into a clean environment, a minute or two ...")
        try_it(sdist, wheel, scratch)
    except UnfitError as error:
        console.print(f"\n{error}", style="bold red", markup=False)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    console.print("The provider is found there, and the example DAGs are read.", style="green")
    for path in (sdist, wheel):
        console.print(f"  {path.relative_to(ROOT)}  {path.stat().st_size // 1024} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
