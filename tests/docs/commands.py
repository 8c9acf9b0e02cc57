"""
How each shell command of the README and docs is run in the tests, the harmless way where it would need a network, a
real key, or half an hour.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.hooks.flokit import FlokitHook
from tests.docs.blocks import REPOSITORY
from tests.docs.reference import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit


def _install(command: str, _: SimulatedFlokit, __: pytest.MonkeyPatch) -> None:
    """Needs the registry; ``make dist`` really installs the wheel. Here: that is what the package is called."""
    (name,) = shlex.split(command)[2:]
    assert importlib.metadata.metadata(name)["Name"] == name


def _airflow(command: str, flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as it stands, in the scratch Airflow home; the connection that is tested leads to the simulator."""
    monkeypatch.setenv("FLOKIT_API_KEY", flokit.api_key)
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    words = [os.path.expandvars(word) for word in shlex.split(command)]
    done = _run([sys.executable, "-m", *words])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Successfully added" in done.stdout or "Connection success!" in done.stdout
    asked = [request.path for request in flokit.requests]
    assert asked == (["/v1/integrations"] if "test" in words else [])


def _export(command: str, _: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set in this process; the hook understands it."""
    name, _, value = shlex.split(command)[1].partition("=")
    monkeypatch.setenv(name, value)
    assert FlokitHook(name.removeprefix("AIRFLOW_CONN_").lower()).retry_limit == 4


def _help(command: str, _: SimulatedFlokit, __: pytest.MonkeyPatch) -> None:
    """Run as it stands."""
    done = _run([sys.executable, *shlex.split(command)[1:]])
    assert done.returncode == 0, done.stderr
    assert "--read-only-key" in done.stdout


def _simulator(command: str, _: SimulatedFlokit, __: pytest.MonkeyPatch) -> None:
    """Run as it stands, but on any free port, until it has printed the connection; then Ctrl-C."""
    words = [sys.executable, *shlex.split(command)[1:], "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        try:
            assert any(line.startswith("export AIRFLOW_CONN_FLOKIT_DEFAULT=") for line in process.stdout)
        finally:
            process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(timeout=30) == 0


def _make(command: str, _: SimulatedFlokit, __: pytest.MonkeyPatch) -> None:
    """
    Run as it stands if it is one of those that take seconds, and if they need not install an environment first.

    The others would take minutes, need the network or a key: there is such a target, and what it would run can start.
    """
    target = command.partition("make ")[2].split()[0]
    if target == "help" or (target in QUICK and _is_here(MAKES_AIRFLOW)):
        before = REFERENCE.read_text()
        done = _run(["bash", "-c", command], env=_FRESH)
        assert done.returncode == 0, done.stdout + done.stderr
        assert REFERENCE.read_text() == before
        return
    done = _run(["bash", "-c", command.replace("make ", "make -n ", 1)], env=_FRESH)
    assert done.returncode == 0, done.stderr
    recipe = [line.removeprefix("@") for line in done.stdout.splitlines() if not line.startswith("make")]
    assert recipe
    for line in recipe:
        _can_start(line)


def _ci(command: str, _: SimulatedFlokit, __: pytest.MonkeyPatch) -> None:
    """Run as it stands, but only collecting the tests, if that need not install an environment; else see ``_make``."""
    airflow = shlex.split(command)[2]
    if _is_here(airflow):
        done = _run(["bash", "-c", f"{command} --collect-only -q"], env=_FRESH)
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        _can_start(command)


QUICK: Final = {"lint", "docs"}
MAKES_AIRFLOW: Final = "3.3"
"""The Airflow that make takes if it is told nothing else."""

_FRESH: Final = {
    name: value
    for name, value in os.environ.items()
    # What the make that runs these tests was told is not for the one that they run.
    if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "AIRFLOW", "ARGS")
}


def _is_here(airflow: str) -> bool:
    """Tell whether these tests run on this Airflow, in the environment that .ci/airflow would not make anew."""
    made_from = Path(sys.prefix, ".made-from")
    wanted = f"cat pyproject.toml constraints/airflow-{airflow}.txt .ci/airflow | cksum"
    return (
        Path(sys.prefix).parent == REPOSITORY / ".venv"
        and Path(sys.prefix).name.startswith(f"airflow-{airflow}-")
        and made_from.exists()
        and made_from.read_text() == _run(["bash", "-c", wanted]).stdout
    )


def _can_start(command: str) -> None:
    """Check what .ci/airflow is given: a form that it knows, a program, and arguments that the program knows."""
    words = shlex.split(command)
    assert words.pop(0) == ".ci/airflow"
    assert _run(["bash", "-n", ".ci/airflow"]).returncode == 0
    usage = _run([".ci/airflow"]).stderr
    assert "run [--with GROUP] AIRFLOW COMMAND... | matrix COMMAND..." in usage
    if words.pop(0) == "run":
        if words[0] == "--with":
            group = words[1]
            assert group in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]
            words = words[2:]
        assert (REPOSITORY / "constraints" / f"airflow-{words[0]}.txt").exists() or words[0] == "lowest"
        words = words[1:]
    match words:
        case ["pytest", *arguments]:
            _collect(*arguments)
        case ["python", "-m", module, *arguments]:
            _start(module, *arguments)
        case [program, *_]:
            assert shutil.which(program, path=str(Path(sys.prefix, "bin"))), program


@functools.cache
def _collect(*arguments: str) -> None:
    """The pytest that runs these tests knows the arguments, and finds tests with them."""
    if "tests/ui" in arguments and not importlib.util.find_spec("playwright"):
        assert (REPOSITORY / "tests" / "ui" / "test_connection_form.py").exists()
        return
    done = _run([sys.executable, "-m", "pytest", *arguments, "--collect-only", "-q"])
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr


def _start(module: str, *arguments: str) -> None:
    """A program with options tells of them; one without can be imported, and has the function that it starts with."""
    source = importlib.util.find_spec(f"{module}.__main__" if _is_package(module) else module)
    assert source is not None, module
    assert source.origin is not None
    if "argparse" in Path(source.origin).read_text():
        done = _run([sys.executable, "-m", module, "--help"])
        assert done.returncode == 0, done.stderr
        assert {word for word in arguments if word.startswith("-")} <= set(re.findall(r"-[\w-]+", done.stdout))
    else:
        assert not arguments
        done = _run([sys.executable, "-c", f"import {module} as program; program.main"])
        assert done.returncode == 0, done.stderr


def _is_package(module: str) -> bool:
    found = importlib.util.find_spec(module)
    assert found is not None, module
    return found.submodule_search_locations is not None


_HOW: Final[dict[str, Callable[[str, SimulatedFlokit, pytest.MonkeyPatch], None]]] = {
    r"pip install \S+": _install,
    r"airflow connections (add|test) .*": _airflow,
    r"export AIRFLOW_CONN_\w+=.*": _export,
    r"python -m airflow_provider_flokit\.simulator --help": _help,
    r"python -m airflow_provider_flokit\.simulator.*": _simulator,
    r"(FLOKIT_API_KEY=\S+ )?make [\w.-]+.*": _make,
    r"\.ci/airflow run .*": _ci,
}


def run_command(command: str, flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Run a command of the docs.

    :param command: One line, without its comment.
    """
    for pattern, how in _HOW.items():
        if re.fullmatch(pattern, command):
            how(command, flokit, monkeypatch)
            return
    raise AssertionError(f"nothing here says how to run {command!r}: add it to tests/docs/commands.py")


def _run(command: list[object], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=REPOSITORY,
        env=env,
    )
