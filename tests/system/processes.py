"""Processes that are started, killed and stopped together with everything that they start in turn."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Component:
    """
    One long-running program, in a session of its own, that can be killed and started again.

    What it starts stays in that session even when it outlives the program, so all of it can be found and
    ended.

    :param command: Program and arguments.
    :param env: Its whole environment.
    :param log: File that its output is appended to.
    :param user: The user that it runs as, if not this one.
    """

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path, user: str | None = None) -> None:
        self.command = command
        self.env = env
        self.log = log
        self.user = user
        self.wanted = False
        self.started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: set[int] = set()

    @property
    def pid(self) -> int | None:
        """The process id of the program itself, running or not; None if it was never started."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """How the program ended; None while it runs, or if it was never started."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        """Whether the program runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> None:
        """Start the program."""
        if self.running:
            raise RuntimeError(f"{self.log.stem} runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.started_at = time.time()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.log.parent,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **as_user(self.user),
            )
        self.wanted = True
        self._sessions.add(self._process.pid)

    def kill(self, sig: int, *, timeout: float) -> None:
        """
        Send a signal to the program and to everything that it started, and wait until it is gone.

        :param timeout: Seconds to wait; TimeoutError after that.
        """
        if self._process is None:
            raise RuntimeError(f"{self.log.stem} was never started")
        self.wanted = False
        others = [member for member in self.members() if member.pid != self._process.pid]
        send(self._process.pid, sig)
        for other in others:
            send(other.pid, sig)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.log.stem} runs {timeout:g} s after signal {sig}") from None
        psutil.wait_procs(others, timeout)

    def members(self) -> list[psutil.Process]:
        """Return the living processes that belong to it: the program and all that it ever started."""
        self.returncode  # noqa: B018 - reaps it, so that an ended program does not look alive
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) in self._sessions and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def as_user(user: str | None) -> dict[str, Any]:
    """Return what subprocess takes to run something as a user; None: as this one."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def component_name() -> str:
    """Return the name of the component that runs in this process: its host name, where each is to have its own."""
    return os.environ["COMPONENT_NAME"]


def stop_all(components: list[Component], grace: float) -> None:
    """Stop the components and all that they started: asked first, killed after the grace period (seconds)."""
    for component in components:
        component.wanted = False
        if component.running and component.pid:
            send(component.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while left := [member for component in components for member in component.members()]:
        if time.monotonic() > deadline:
            for member in left:
                send(member.pid, signal.SIGKILL)
        time.sleep(0.1)
    for component in components:
        component.returncode  # noqa: B018 - reaps it, whenever it ended


def send(pid: int, sig: int) -> None:
    """Send a signal to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)
