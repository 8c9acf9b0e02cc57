"""What FloKit says of each connection's workspace: asked once in 15 s, however many people look."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.errors import FlokitAPIError, FlokitError
from airflow_provider_flokit.gate.words import duration
from airflow_provider_flokit.hooks.flokit import FlokitHook

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_flokit.gate.snapshot import Snapshot

MAX_AGE: Final = 15.0
"""Seconds for which an answer, or that there was none, is shown again without asking."""

PATIENCE: Final = 5.0
"""Seconds for which a page waits for FloKit; an answer that takes longer is in the next one."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a workspace, when by the monotonic clock, and why FloKit could not be asked since."""

    snapshot: Snapshot | None = None
    seen_at: float = -math.inf
    trouble: str = ""

    @property
    def age(self) -> float:
        """Seconds since the snapshot."""
        return time.monotonic() - self.seen_at

    @property
    def now(self) -> datetime | None:
        """FloKit's time now, to which its other times are compared; None if it has told none."""
        return None if self.snapshot is None else self.snapshot.at + timedelta(seconds=self.age)


class Workspace:
    """The workspace of one connection."""

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self._look = Look()
        self._lock = threading.Lock()
        self._asked_at = -math.inf
        self._asking: threading.Thread | None = None

    def ask(self) -> None:
        """Begin to ask FloKit, unless that was done lately or is being done."""
        with self._lock:
            if time.monotonic() - self._asked_at >= MAX_AGE and not (self._asking and self._asking.is_alive()):
                self._asked_at = time.monotonic()
                # A daemon: whatever it hangs in does not hold up the end of the API server.
                self._asking = threading.Thread(target=self._ask, name="flokit-page", daemon=True)
                self._asking.start()

    def look(self, deadline: float) -> Look:
        """Return the last look; one that is being taken is waited for until the deadline."""
        if self._asking:
            self._asking.join(max(deadline - time.monotonic(), 0))
            if self._asking.is_alive():
                waited = duration(time.monotonic() - self._asked_at)
                return replace(self._look, trouble=f"FloKit has not answered for {waited}.")
        return self._look

    def _ask(self) -> None:
        try:
            self._look = Look(FlokitHook(self.conn_id).observe(()), time.monotonic())
        except FlokitAPIError as error:
            self._look = replace(self._look, trouble=str(error))
        except FlokitError as error:
            self._look = Look(trouble=str(error))
        except Exception as error:
            self._look = Look(trouble=f"FloKit cannot be asked: {type(error).__name__}.")


_workspaces: dict[str, Workspace] = {}


def look_at(conn_ids: Collection[str]) -> dict[str, Look]:
    """Look at the workspaces of connections, side by side."""
    workspaces = [_workspaces.setdefault(conn_id, Workspace(conn_id)) for conn_id in conn_ids]
    for workspace in workspaces:
        workspace.ask()
    deadline = time.monotonic() + PATIENCE
    return {workspace.conn_id: workspace.look(deadline) for workspace in workspaces}
