"""How a workspace's state is written down in answers: JSON documents, timestamps, error bodies."""

from __future__ import annotations

import json
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.simulator.clock import moment

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.records import IntegrationState, Timestamp
    from airflow_provider_flokit.simulator.switches import BodyKind, Switches, TimestampFormat

JSON_TYPE = "application/json; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"

UNAUTHORIZED = ("unauthorized", "Invalid or missing API key")
FORBIDDEN = ("forbidden", "This operation requires a read-write key")


def timestamp(value: Timestamp, form: TimestampFormat) -> str | None:
    """
    Write a time the way the workspace does.

    :param value: an aware UTC datetime, None, or a text that is sent as it stands.
    :param form: see :class:`~airflow_provider_flokit.simulator.switches.Switches`.
    """
    if not isinstance(value, datetime):
        return value
    naive = value.replace(tzinfo=None)
    match form:
        case "+00:00":
            return value.isoformat()
        case "naive":
            return naive.isoformat()
        case "fraction":
            return naive.isoformat(timespec="microseconds") + "Z"
        case "seconds":
            return naive.isoformat(timespec="seconds") + "Z"
        case "Z":
            return naive.isoformat() + "Z"


def http_date(seconds: float) -> str:
    """
    Write a moment as HTTP does (whole seconds, GMT).

    :param seconds: seconds since the epoch.
    """
    return format_datetime(moment(seconds), usegmt=True)


def integration_document(state: IntegrationState, switches: Switches) -> dict[str, Any]:
    """
    Return an integration as the list shows it.

    :param state: what it looks like now.
    :param switches: decide how what is missing, and times, are written.
    """
    document: dict[str, Any] = {"id": state.id, "type": state.type, "status": state.status}
    if state.last_synced_at is not None or switches.never_synced == "null":
        document["last_synced_at"] = timestamp(state.last_synced_at, switches.timestamp_format)
    if state.error_message is not None or switches.no_error == "null":
        document["error_message"] = state.error_message
    document.update(state.extra)
    return document


def single_document(state: IntegrationState, switches: Switches) -> dict[str, Any]:
    """
    Return the body of a single read: the integration with its ``sync_stats``.

    :param state: what it looks like now.
    :param switches: as for :func:`integration_document`.
    """
    stats = {
        "events_last_24h": state.events_last_24h,
        "events_total": state.events_total,
        "earliest_event_at": timestamp(state.earliest_event_at, switches.timestamp_format),
    }
    return {"integration": {**integration_document(state, switches), "sync_stats": stats}}


def to_bytes(document: Any) -> bytes:
    """
    Return a JSON body.

    :param document: any JSON value.
    """
    return json.dumps(document, ensure_ascii=False).encode()


def error_body(kind: BodyKind, status: int, error: str, message: str) -> tuple[bytes, str]:
    """
    Return an error's body and its content type (empty for an empty body).

    :param kind: ``json`` (as documented), ``html`` (as a proxy in between would) or ``empty``.
    :param status: the HTTP status, shown in the HTML.
    :param error: the machine's word for it.
    :param message: the sentence for people.
    """
    if kind == "json":
        return to_bytes({"error": error, "message": message}), JSON_TYPE
    if kind == "html":
        page = f"<html><head><title>{status}</title></head><body><h1>{status} {error}</h1></body></html>\n"
        return page.encode(), HTML_TYPE
    return b"", ""
