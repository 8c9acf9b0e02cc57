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
    from collections.abc import Iterable, Mapping
    from pathlib import Path


class Component:
    """A program in a session of its own, where all that it starts can be found and ended, even when it outlives it."""

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path, user: str | None = None) -> None:
        self.command = command
        self.env = env
        self.log = log
        self.user = user
        self.wanted = False
        self.started_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self._sessions: set[int] = set()

    @property
    def running(self) -> bool:
        """Whether the program runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the program (again); its output is appended to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.started_at = time.time()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.log.parent,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **as_user(self.user),
            )
        self._sessions.add(self.process.pid)
        self.wanted = True

    def kill(self, sig: int) -> None:
        """Send a signal to the program and to everything that it started, and wait until they are gone."""
        assert self.process
        self.wanted = False
        members = self.members()
        # Itself first, so that it does not notice the end of the others.
        for member in sorted(members, key=lambda member: member.pid != self.process.pid):
            send(member.pid, sig)
        self.process.wait(60)
        psutil.wait_procs(members, 60)

    def members(self) -> list[psutil.Process]:
        """Return the living processes that belong to it: the program and all that it ever started."""
        _ = self.running  # reaps it, so that an ended program does not look alive
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) in self._sessions and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def stop_all(components: Iterable[Component], grace: float = 5.0) -> None:
    """Stop components and all that they started: asked first, killed after the grace period (seconds)."""
    started = [component for component in components if component.process]
    members = [member for component in started for member in component.members()]
    for component in started:
        component.wanted = False
        if component.running:
            send(component.process.pid, signal.SIGTERM)
    psutil.wait_procs(members, grace)
    for component in started:
        component.kill(signal.SIGKILL)


def send(pid: int, sig: int) -> None:
    """Send a signal to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


def as_user(user: str | None) -> dict[str, Any]:
    """Return what subprocess takes to run something as a user; None: as this one."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def component_name() -> str:
    """Return the name of the component that runs in this process; Airflow takes it for its host's."""
    return os.environ["COMPONENT_NAME"]
