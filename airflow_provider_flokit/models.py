"""
Frozen values for integrations and syncs.

``from_json`` builds a model from a plain dict and ``to_json`` returns one, so that models pass unchanged through XComs,
trigger arguments and the task state store.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_provider_flokit.errors import FlokitArgumentError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

T = TypeVar("T")


class MalformedDataError(ValueError):
    """The JSON does not have the documented shape. The message names the field, never its value."""


class IntegrationStatus(StrEnum):
    """
    The statuses that FloKit documents.

    FloKit may add more. :class:`Integration` keeps an undocumented status as plain text; it is never a success.
    """

    CONNECTED = "connected"
    ERROR = "error"
    SYNCING = "syncing"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class SyncStats:
    """
    The number of events of an integration; FloKit sends it only when a single integration is read.

    :param events_last_24h: Events of the last 24 hours.
    :param events_total: Events since the integration was connected.
    :param earliest_event_at: Time of the oldest event; None if there is none.
    """

    events_last_24h: int
    events_total: int
    earliest_event_at: datetime | None = None

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Build the statistics from FloKit's JSON."""
        fields = _object(data, "sync_stats")
        return cls(
            events_last_24h=_field(fields, "events_last_24h", int),
            events_total=_field(fields, "events_total", int),
            earliest_event_at=_optional(fields, "earliest_event_at", datetime),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the statistics as FloKit writes them."""
        return asdict(self, dict_factory=_json_values)


@dataclass(frozen=True, slots=True)
class Integration:
    """
    The state of one integration at one moment.

    :param id: Unique id, e.g. ``int_01hx4j7stripe``.
    :param type: E.g. ``stripe``; FloKit may add types.
    :param status: An :class:`IntegrationStatus`, or the text of a status that FloKit does not document.
    :param last_synced_at: Server time of the last *successful* sync; None if there was none.
    :param error_message: The details if the status is ``error``, else None.
    :param sync_stats: Only if this integration was read alone, not in the list.
    """

    id: str
    type: str
    status: IntegrationStatus | str
    last_synced_at: datetime | None = None
    error_message: str | None = None
    sync_stats: SyncStats | None = None

    @classmethod
    def from_json(cls, data: object) -> Self:
        """
        Build the integration from FloKit's JSON; unknown fields are ignored.

        Malformed ``sync_stats`` become None with a warning: statistics must not stop a sync.

        :raises MalformedDataError: if another field is missing or has another type
        """
        fields = _object(data, "integration")
        status = _field(fields, "status", str)
        stats = None
        if fields.get("sync_stats") is not None:
            try:
                stats = SyncStats.from_json(fields["sync_stats"])
            except MalformedDataError as error:
                log.warning("FloKit's sync_stats cannot be used: %s", error)
        return cls(
            id=_field(fields, "id", str),
            type=_field(fields, "type", str),
            status=_DOCUMENTED.get(status, status),
            last_synced_at=_optional(fields, "last_synced_at", datetime),
            error_message=_optional(fields, "error_message", str),
            sync_stats=stats,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the integration as FloKit writes it; ``sync_stats`` only if they are known."""
        return asdict(self, dict_factory=_json_values)


@dataclass(frozen=True, slots=True)
class SyncReceipt:
    """
    What a wait needs to recognise the outcome of one triggered sync.

    FloKit cannot be asked about a ``sync_id``. So the receipt holds the *baseline*: the integration's state before the
    sync was requested. It is read once and never again.

    :param integration_id: The integration to sync.
    :param baseline: The integration's state right before the request.
    :param triggered_at: Server time of the request.
    :param sync_id: FloKit's id of the sync; None if the receipt is for a sync that was running already, or if no sync
        was needed.
    :param idempotency_key: The ``Idempotency-Key`` of the request; None if no sync was needed.
    :param skipped: True if the data was fresh enough and no sync was requested.
    """

    integration_id: str
    baseline: Integration
    triggered_at: datetime
    sync_id: str | None = None
    idempotency_key: str | None = None
    skipped: bool = False

    @classmethod
    def from_json(cls, data: object) -> Self:
        """
        Build the receipt from what :meth:`to_json` returned.

        :raises MalformedDataError: if it is not a receipt
        """
        fields = _object(data, "receipt")
        return cls(
            integration_id=_field(fields, "integration_id", str),
            baseline=Integration.from_json(fields.get("baseline")),
            triggered_at=_field(fields, "triggered_at", datetime),
            sync_id=_optional(fields, "sync_id", str),
            idempotency_key=_optional(fields, "idempotency_key", str),
            skipped=_optional(fields, "skipped", bool) or False,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the receipt as a dict of JSON values."""
        return asdict(self, dict_factory=_json_values)


def checked_id(value: object, name: str = "integration_id") -> str:
    """Return an integration id that can safely be put into a URL; the name is that of the parameter."""
    text = value if isinstance(value, str) else ""
    if not text.strip(".") or ".." in text or any(c in "/?#\\{}[]" or c.isspace() or not c.isprintable() for c in text):
        raise FlokitArgumentError(
            f"{name} is {shown(repr(value))}, which cannot be the id of an integration (such as 'int_01hx4j7stripe'). "
            f"If it is a template, check what it renders to."
        )
    return text


def parse_time(text: str, name: str = "time") -> datetime:
    """Return an ISO 8601 time of FloKit in UTC; a naive time is UTC. The name is that of the field."""
    try:
        return as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise MalformedDataError(f"{name!r} is not an ISO 8601 time") from None


def as_utc(time: datetime) -> datetime:
    """Return the time in UTC; a naive time is UTC already."""
    return time.replace(tzinfo=UTC) if time.utcoffset() is None else time.astimezone(UTC)


def timestamp(time: datetime | None) -> str | None:
    """Write a time as FloKit does: in UTC, with ``Z``. None stays None."""
    return None if time is None else as_utc(time).isoformat().replace("+00:00", "Z")


_DOCUMENTED = {str(status): status for status in IntegrationStatus}


def _json_values(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a model's fields as JSON values; ``sync_stats`` only if they are known."""
    data: dict[str, Any] = {}
    for name, value in fields:
        if isinstance(value, datetime):
            data[name] = timestamp(value)
        elif (name, value) != ("sync_stats", None):
            data[name] = str(value) if isinstance(value, IntegrationStatus) else value
    return data


def _object(data: object, what: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise MalformedDataError(f"the {what} is not a JSON object")
    return data


def _field(fields: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = _optional(fields, name, kind)
    if value is None or value == "":
        raise MalformedDataError(f"{name!r} is missing")
    return value


def _optional(fields: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    value = fields.get(name)
    if kind is datetime and isinstance(value, str):
        value = parse_time(value, name)
    if value is not None and not isinstance(value, kind):
        raise MalformedDataError(f"{name!r} is of the wrong type")
    return value
