"""From what FloKit says and who waits for it to the rows of the page. Pure: no I/O."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.errors import FlokitError, shown
from airflow_provider_flokit.gate.decision import Readiness, judge
from airflow_provider_flokit.gate.words import LISTED, age, duration, moment, suggestion
from airflow_provider_flokit.models import IntegrationStatus
from airflow_provider_flokit.ui.link import anchor

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_provider_flokit.models import Integration
    from airflow_provider_flokit.ui.waits import WaitingTask, WatchedAsset
    from airflow_provider_flokit.ui.workspaces import Look

MISSING, UNKNOWN = "not found", "unknown"
_ORDER: Final = ("error", "disconnected", MISSING, UNKNOWN, "", "syncing", "connected")
"""What comes first; a status that FloKit does not document counts as ""."""

BEHIND: Final = timedelta(minutes=5)
"""After this a watcher that has not told of a success is stuck: polls come more often, also after an outage."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in words: its age, and what shows on hover."""

    age: str
    exact: str
    at: datetime

    @classmethod
    def of(cls, at: datetime, now: datetime) -> Moment:
        """Put a time into words."""
        return cls(age(at, now), f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", at)


@dataclass(slots=True)
class Waiter:
    """One task, or all mapped ones of it, or one asset, that waits for an integration."""

    href: str
    name: str
    count: int = 1
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Row:
    """One integration."""

    name: str
    anchor: str
    type: str = ""
    status: str = UNKNOWN
    message: str = ""
    synced: Moment | None = None
    integration: Integration | None = None
    waiters: dict[str, Waiter] = field(default_factory=dict)

    @property
    def known(self) -> str:
        """The status if the page has a colour for it."""
        return self.status.replace(" ", "-") if self.status in _ORDER else ""

    @property
    def listed(self) -> list[Waiter]:
        """The first of those who wait."""
        return list(self.waiters.values())[:LISTED]

    @property
    def more(self) -> int:
        """How many are not listed."""
        return len(self.waiters) - len(self.listed)

    def has(self, words: Sequence[str]) -> bool:
        """Tell whether all words occur in what the row shows."""
        names = (waiter.name for waiter in self.waiters.values())
        text = " ".join((self.name, self.type, self.status, self.message, *names)).lower()
        return all(word in text for word in words)


@dataclass(slots=True)
class Section:
    """One connection."""

    conn_id: str
    anchor: str
    trouble: str
    age: float
    rows: list[Row]
    summary: str
    found: int

    @property
    def kept(self) -> bool:
        """Whether the rows are what FloKit said before it could not be asked."""
        return bool(self.trouble) and self.age < math.inf


SORTS: Final = {
    "name": lambda row: (row.name,),
    "status": lambda row: (_ORDER.index(row.status if row.status in _ORDER else ""), row.name),
    "synced": lambda row: (row.synced is not None, row.synced and row.synced.at, row.name),
    "waiting": lambda row: (-len(row.waiters), row.name),
}
"""The orders that one may choose; each begins with what wants attention."""


def sections(
    looks: Mapping[str, Look],
    tasks: Collection[WaitingTask],
    assets: Collection[WatchedAsset],
    *,
    query: str = "",
    sort: str = "status",
    now: datetime,
) -> list[Section]:
    """Return what the page shows; ``sort`` is a key of :data:`SORTS`, with a dash before it for the reverse."""
    words = query.lower().split()
    key, backwards = SORTS.get(sort.removeprefix("-"), SORTS["status"]), sort.startswith("-")
    found = []
    for conn_id, look in sorted(looks.items(), key=lambda item: (not item[1].trouble, item[0])):
        rows = _rows(conn_id, look)
        for task in tasks:
            if task.conn_id == conn_id:
                _add_task(rows, task, look, now)
        for asset in assets:
            if asset.conn_id == conn_id:
                _add_asset(rows, asset, look)
        counts = Counter(row.status for row in sorted(rows.values(), key=SORTS["status"]))
        those = sorted((row for row in rows.values() if row.has(words)), key=key, reverse=backwards)
        if look.snapshot and look.snapshot.malformed:
            counts["that cannot be read"] = look.snapshot.malformed
        summary = ", ".join(f"{count} {status}" for status, count in counts.items())
        found.append(Section(conn_id, anchor(conn_id), look.trouble, look.age, those, summary, len(rows)))
    return found


def _rows(conn_id: str, look: Look) -> dict[str, Row]:
    if look.snapshot is None or look.now is None:
        return {}
    return {each.id: _row(conn_id, each, look.now) for each in look.snapshot.integrations.values()}


def _row(conn_id: str, integration: Integration, now: datetime) -> Row:
    return Row(
        shown(integration.id),
        anchor(conn_id, integration.id),
        shown(integration.type),
        shown(integration.status),
        shown(
            integration.error_message or ("no reason given" if integration.status == IntegrationStatus.ERROR else "")
        ),
        None if integration.last_synced_at is None else Moment.of(integration.last_synced_at, now),
        integration,
    )


def _missing(rows: dict[str, Row], conn_id: str, name: str, look: Look, message: str = "") -> Row:
    """Return the row of what is waited for but is not in FloKit's list."""
    if name not in rows:
        row = rows[name] = Row(shown(name), anchor(conn_id, name), message=message)
        if look.snapshot is not None:
            row.status = MISSING
            row.message = message or suggestion(name, list(look.snapshot.integrations))
    return rows[name]


def _add_task(rows: dict[str, Row], task: WaitingTask, look: Look, now: datetime) -> None:
    mapped = f"{task.dag_id} {task.run_id} {task.task_id}"
    for row in _rows_of(rows, task, look):
        if (waiter := row.waiters.get(mapped)) is None:
            waiter = row.waiters[mapped] = Waiter(_href(task), f"{shown(task.dag_id)} · {shown(task.task_id)}")
            waiter.notes = _notes(task, row.integration, look, now)
        else:
            waiter.count += 1
            waiter.href = _href(task, one=False)


def _rows_of(rows: dict[str, Row], task: WaitingTask, look: Look) -> list[Row]:
    if task.conditions is None:
        return [_missing(rows, task.conn_id, "not told here", look)]
    found = [rows.get(i) or _missing(rows, task.conn_id, i, look) for i in task.conditions.ids]
    for kind in task.conditions.types:
        name, message = f"the {kind} integration", ""
        try:
            if look.snapshot is not None:
                name = look.snapshot.of_type(kind, task.conn_id).id
        except FlokitError as error:
            message = str(error)
        found.append(rows.get(name) or _missing(rows, task.conn_id, name, look, message))
    return found


def _notes(task: WaitingTask, integration: Integration | None, look: Look, now: datetime) -> list[str]:
    """Say since when and until when a task waits, and why."""
    notes = [] if task.since is None else [f"for {duration(round((now - task.since).total_seconds()))}"]
    if task.until is not None:
        notes.append(f"until {moment(task.until, now)}")
    if task.unattended:
        notes.append("no triggerer is alive to look for it")
    if task.complete and task.conditions and integration and look.now:
        verdict = judge(
            integration,
            look.now,
            task.conditions.receipts.get(integration.id),
            synced_after=task.conditions.synced_after,
            fail_on_disconnected=task.conditions.fail_on_disconnected,
            start_timeout=task.conditions.start_timeout,
        )
        if verdict.readiness is Readiness.WAIT:
            notes.append(verdict.reason)
        elif verdict.readiness is Readiness.READY:
            notes.append("ready: goes on at its next look")
    return notes


def _add_asset(rows: dict[str, Row], asset: WatchedAsset, look: Look) -> None:
    row = rows.get(asset.integration_id) or _missing(rows, asset.conn_id, asset.integration_id, look)
    notes = ["watched"]
    if asset.unattended:
        notes.append("no triggerer is alive to look for it")
    if asset.seen and row.synced and look.now and asset.seen < row.synced.at < look.now - BEHIND:
        notes.append(f"has told of nothing after {moment(asset.seen, look.now)}")
    row.waiters[f"asset {asset.id}"] = Waiter(f"../assets/{asset.id}", f"asset {shown(asset.name)}", notes=notes)


def _href(task: WaitingTask, *, one: bool = True) -> str:
    """Return where Airflow shows a task, or all mapped ones of it."""
    href = f"../dags/{anchor(task.dag_id)}/runs/{anchor(task.run_id)}/tasks/{anchor(task.task_id)}"
    if task.map_index < 0:
        return href
    return f"{href}/mapped/{task.map_index}" if one else f"{href}/mapped"
