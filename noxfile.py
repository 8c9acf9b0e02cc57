"""
One environment for each Airflow: runs what stands behind ``--`` in it, by default the tests.

``nox -s "airflow(3.3)" -- pytest -k receipt`` runs something on one Airflow, ``nox -s airflow`` the tests on all of
them, ``nox -s lowest`` the tests on the lowest versions that pyproject.toml allows. ``make help`` lists the usual ways.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nox

# The Pythons that each Airflow runs on, the one to test it with first: all of them get their turn.
PYTHONS = {
    "2.11": ("3.11", "3.12"),
    "3.0": ("3.12", "3.11"),
    "3.1": ("3.12", "3.13", "3.11"),
    "3.2": ("3.13", "3.12", "3.11"),
    "3.3": ("3.13", "3.12", "3.11"),
}
NEWEST = list(PYTHONS)[-1]
# Two at a time, each test file as a whole: most tests wait, and a file shares what is costly to set up.
TESTS = ("pytest", "--numprocesses", "2", "--dist", "loadfile")

nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True
nox.options.envdir = ".venv/nox"


def works(python: str, version: str) -> bool:
    """Tell whether this is a Python of that version: a name on the path may be a shim that does not run."""
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return found.returncode == 0 and found.stdout.strip() == version


def find_python(versions: tuple[str, ...]) -> str:
    """Return the path of the first of these Pythons that is here; else the name of the first, which nox misses."""
    for version in versions:
        homes = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")]
        candidates = [sys.executable, shutil.which(f"python{version}")]
        candidates += [str(path) for home in homes for path in sorted(home.glob(f"{version}.*/bin/python"))]
        for candidate in candidates:
            if candidate and works(candidate, version):
                return candidate
    return f"python{versions[0]}"


def use_pips_settings() -> None:
    """Let uv install from where pip does, trust what this machine trusts, and download no Python."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    index = os.environ.get("PIP_INDEX_URL") or found.stdout.strip()
    if index and not os.environ.get("UV_INDEX_URL"):
        os.environ.setdefault("UV_DEFAULT_INDEX", index)
    os.environ.setdefault("UV_SYSTEM_CERTS", "true")
    os.environ["UV_PYTHON_DOWNLOADS"] = "never"


def install(session: nox.Session, constraints: str, *more: str) -> None:
    """Install the package for editing, with the dependency groups that GROUPS names (default: dev)."""
    groups = [argument for name in os.environ.get("GROUPS", "dev").split() for argument in ("--group", name)]
    pins = ("--constraint", constraints, "--build-constraint", constraints)
    session.install("--compile-bytecode", *pins, *groups, "--editable", ".", *more)


use_pips_settings()


@nox.session(download_python="never")
@nox.parametrize(
    "python,airflow",
    [nox.param(find_python(versions), airflow, id=airflow) for airflow, versions in PYTHONS.items()],
)
def airflow(session: nox.Session, airflow: str) -> None:
    """Run the tests, or the command behind ``--``, on one Airflow."""
    install(session, f"constraints/airflow-{airflow}.txt", f"apache-airflow=={airflow}.*")
    if session.posargs:
        session.run(*session.posargs)
        return
    arguments = shlex.split(os.environ.get("ARGS", ""))
    lint_only = arguments == ["--lint-only"]
    if airflow == NEWEST or lint_only:
        for check in (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)):
            session.run(*check)
        arguments = ["--cov", *arguments]
    if not lint_only:
        session.run(*TESTS, *arguments)


@nox.session(download_python="never", python=find_python(("3.11",)))
def lowest(session: nox.Session) -> None:
    """Run the tests, without whole Airflows, or the command behind ``--``, on the lowest versions allowed."""
    install(session, "constraints/lowest.txt", "--resolution", "lowest-direct")
    session.run(*(session.posargs or (*TESTS, "-m", "not system", *shlex.split(os.environ.get("ARGS", "")))))


@nox.session(download_python="never", python=find_python(("3.13", "3.12", "3.11")))
def docs(session: nox.Session) -> None:
    """Build the documentation as a site, with the README as its first page; a broken link fails."""
    session.install("--group", "docs")
    source = Path("build/docs-source")
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree("docs", source)
    for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY"):
        shutil.copy(f"{name}.md", source / ("index.md" if name == "README" else f"{name}.md"))
    for page in source.glob("*.md"):
        text = page.read_text(encoding="utf-8").replace("](docs/", "](").replace("](../README.md", "](index.md")
        page.write_text(text.replace("](../", "](").replace("](example_dags)", "](recipes.md)"), encoding="utf-8")
    session.run("zensical", "build", "--strict")
