"""What a simulator is told (a sync's shape) and what it tells afterwards (states, syncs, requests)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

SyncTrigger: TypeAlias = Literal["manual", "scheduled"]
SyncOutcome: TypeAlias = Literal["waiting", "running", "succeeded", "failed", "cancelled", "scripted"]
KeyKind: TypeAlias = Literal["read-write", "read-only", "invalid", "missing"]
Timestamp: TypeAlias = datetime | str | None
"""A time as it is handed in. A text that is no ISO 8601 time is sent to clients as it stands."""


@dataclass(frozen=True, slots=True)
class Sync:
    """
    The shape of one sync: how long it takes and how it ends.

    :param start_delay: seconds from the request until the status turns ``syncing``; default 0.
    :param duration: seconds that it reads ``syncing``; default 0.1. With 0 no poll can ever see it.
    :param error: the error message it fails with; default None, it succeeds.
    :param events: events that a successful sync adds to ``sync_stats``; default 100.
    """

    start_delay: float = 0.0
    duration: float = 0.1
    error: str | None = None
    events: int = 100

    def __post_init__(self) -> None:
        """Refuse times that no sync can take."""
        for name in ("start_delay", "duration"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                msg = f"{name} must be a number of seconds, 0 or more, not {value!r}"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class SyncRun:
    """
    One sync that was asked for, as far as it has come. All times are server times (with ``clock_skew``).

    :param outcome: ``waiting`` (asked for, not started), ``running``, ``succeeded``, ``failed``,
        ``cancelled`` (a direct :meth:`set_state` or a removal ended it) or ``scripted`` (a script plays its
        part instead of time).
    """

    sync_id: str
    integration_id: str
    idempotency_key: str | None
    trigger: SyncTrigger
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    outcome: SyncOutcome


@dataclass(frozen=True, slots=True)
class IntegrationState:
    """What an integration looks like at one moment, without a read being made."""

    id: str
    type: str
    status: str
    last_synced_at: Timestamp
    error_message: str | None
    events_last_24h: int
    events_total: int
    earliest_event_at: Timestamp
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """
    One request to the API that was served (or deliberately not). Never holds an API key.

    :param at: when it arrived, by the simulator's clock without ``clock_skew``.
    :param path: the path as it was sent (still percent-encoded), without the query.
    :param status: the status line that was sent, or None: none was (or, for a slow answer, not yet).
    :param integration_id: the id in the path, decoded; None for the list.
    :param key: the kind of key that was sent.
    :param headers: the request's headers with lower-case names, without ``authorization``.
    :param fault: the name of the fault that was played; None for an honest answer.
    :param note: what happened, in plain words.
    """

    at: datetime
    method: str
    path: str
    status: int | None
    integration_id: str | None
    idempotency_key: str | None
    key: KeyKind
    headers: Mapping[str, str]
    fault: str | None = None
    note: str = ""


def parse_timestamp(value: Timestamp) -> Timestamp:
    """
    Return an aware UTC datetime where there is one to be had; a naive time is taken as UTC.

    :param value: a datetime, an ISO 8601 text, None, or any other text (returned as it is).
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def to_jsonable(value: Any) -> Any:
    """
    Return a record as plain JSON values, for the control endpoints.

    :param value: a record, or a container of records.
    """
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    return value


_TIMES = frozenset({"at", "requested_at", "started_at", "finished_at", "last_synced_at", "earliest_event_at"})


def times_parsed(document: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the fields of a record from its JSON form, with its times as datetimes again.

    :param document: what :func:`to_jsonable` made.
    """
    return {key: parse_timestamp(item) if key in _TIMES else item for key, item in document.items()}
