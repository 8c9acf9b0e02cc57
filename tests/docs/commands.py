"""
How each shell command of the README and docs is run in the tests, the harmless way where it would need a network, a
real key, or half an hour.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.hooks.flokit import FlokitHook
from tests.docs.blocks import REPOSITORY

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
    """Would take minutes, need the network or a key: there is such a target, and make can tell what it would run."""
    done = _run(["bash", "-c", command.replace("make ", "make -n ", 1)], env=_FRESH)
    assert done.returncode == 0, done.stderr


_FRESH: Final = {
    name: value
    for name, value in os.environ.items()
    # What the make that runs these tests was told is not for the one that they run.
    if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "AIRFLOW", "ARGS")
}

_HOW: Final[dict[str, Callable[[str, SimulatedFlokit, pytest.MonkeyPatch], None]]] = {
    r"pip install \S+": _install,
    r"airflow connections (add|test) .*": _airflow,
    r"export AIRFLOW_CONN_\w+=.*": _export,
    r"python -m airflow_provider_flokit\.simulator --help": _help,
    r"python -m airflow_provider_flokit\.simulator.*": _simulator,
    r"(FLOKIT_API_KEY=\S+ )?make [\w.-]+.*": _make,
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
