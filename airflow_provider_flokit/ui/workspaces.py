"""The workspaces of the connections, and who waits for their integrations."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.errors import FlokitError
from airflow_provider_flokit.gate.decision import Readiness, judge
from airflow_provider_flokit.gate.words import age, duration, moment, suggestion
from airflow_provider_flokit.hooks.flokit import FlokitHook

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from airflow_provider_flokit.gate.snapshot import Snapshot
    from airflow_provider_flokit.models import Integration
    from airflow_provider_flokit.ui.waits import Waiter

MAX_AGE: Final = 15.0
"""Seconds for which an answer or an error is shown again without a new request."""

PATIENCE: Final = 5.0
"""Seconds for which a page waits for FloKit; a later answer is on the next page."""

_RANKS: Final = {"error": 0, "disconnected": 1, "syncing": 3, "connected": 4}
"""The order of the rows; 2 is for integrations that are not found, unknown or in an undocumented status."""


class Look(threading.Thread):
    """One look at the workspace of a connection; until FloKit answers, it has the snapshot of the last look."""

    def __init__(self, conn_id: str, last: Look | None) -> None:
        # A daemon thread: if it hangs, the API server can still end.
        super().__init__(name="flokit-page", daemon=True)
        self.conn_id = conn_id
        self.begun_at = time.monotonic()
        self.snapshot: Snapshot | None = last.snapshot if last else None
        self.trouble = "FloKit has not answered yet."

    def run(self) -> None:
        """Ask FloKit, once."""
        try:
            with FlokitHook(self.conn_id) as hook:
                self.snapshot, self.trouble = hook.observe(()), ""
        except FlokitError as error:
            self.trouble = str(error)


_looks: dict[str, Look] = {}
_lock = threading.Lock()


def look_at(conn_ids: Collection[str]) -> list[Look]:
    """Look at the workspaces of connections in parallel; each is asked once in 15 s, even if many people look."""
    deadline = time.monotonic() + PATIENCE
    with _lock:
        for conn_id in conn_ids:
            last = _looks.get(conn_id)
            if last is None or (time.monotonic() - last.begun_at >= MAX_AGE and not last.is_alive()):
                _looks[conn_id] = Look(conn_id, last)
                _looks[conn_id].start()
        looks = [_looks[conn_id] for conn_id in conn_ids]
    for look in looks:
        look.join(max(deadline - time.monotonic(), 0))
    return sorted(looks, key=lambda look: (not look.trouble, look.conn_id))


@dataclass(slots=True)
class Row:
    """One integration, or a name that somebody waits for and that is not in FloKit's list."""

    name: str
    status: str
    message: str | None = None
    integration: Integration | None = None
    waiters: list[Waiter] = field(default_factory=list)


def rows_of(look: Look, waiters: Iterable[Waiter]) -> list[Row]:
    """Return the rows of a workspace; problems come first."""
    known = look.snapshot.integrations if look.snapshot else {}
    rows = {each.id: Row(each.id, each.status, each.error_message, each) for each in known.values()}
    status = "not found" if look.snapshot else "unknown"
    for waiter in waiters:
        if waiter.conn_id == look.conn_id:
            for name, message in _names(waiter, look.snapshot):
                rows.setdefault(name, Row(name, status, message)).waiters.append(waiter)
    return sorted(rows.values(), key=lambda row: (_RANKS.get(row.status, 2), row.name))


def _names(waiter: Waiter, snapshot: Snapshot | None) -> Iterator[tuple[str, str]]:
    """Yield the names of the rows that somebody waits for, each with a message if it is not in FloKit's list."""
    if waiter.conditions is None:
        yield "not known", ""
        return
    known = snapshot.integrations if snapshot else {}
    for name in waiter.conditions.ids:
        yield name, "" if name in known else suggestion(name, list(known))
    for kind in waiter.conditions.types:
        try:
            yield snapshot.of_type(kind, waiter.conn_id).id if snapshot else f"the {kind} integration", ""
        except FlokitError as error:
            yield f"the {kind} integration", str(error)


def notes_on(waiter: Waiter, integration: Integration | None, snapshot: Snapshot | None) -> Iterator[str]:
    """Say since when and until when somebody waits, and why."""
    now = datetime.now(UTC)
    if waiter.asset_id:
        yield f"watched, last event {age(waiter.event_at, now)}" if waiter.event_at else "watched, no event yet"
    if waiter.since:
        yield f"for {duration(round((now - waiter.since).total_seconds()))}"
    if waiter.until:
        yield f"until {moment(waiter.until, now)}"
    if integration and snapshot and waiter.conditions and waiter.complete:
        verdict = judge(
            integration,
            snapshot.at,
            waiter.conditions.receipts.get(integration.id),
            synced_after=waiter.conditions.synced_after,
            start_timeout=waiter.conditions.start_timeout,
            fail_on_disconnected=waiter.conditions.fail_on_disconnected,
        )
        if verdict.readiness is Readiness.WAIT:
            yield verdict.reason
        elif verdict.readiness is Readiness.READY:
            yield "ready: goes on at its next look"
