"""Waits, and what they see: integrations at moments that are told in seconds since a sync was requested."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_flokit.gate.conditions import Conditions
from airflow_provider_flokit.gate.snapshot import Snapshot
from airflow_provider_flokit.gate.wait import Wait
from airflow_provider_flokit.models import Integration, SyncReceipt

REQUESTED = datetime(2024, 3, 15, 12, tzinfo=UTC)
BEFORE = REQUESTED - timedelta(hours=1)
MESSAGES = {"error": "bad token", "new error": "quota exceeded"}


def at(second: float) -> datetime:
    """Return a moment, in seconds since the request."""
    return REQUESTED + timedelta(seconds=second)


def state(text: str, integration_id: str = "int_1", kind: str = "stripe") -> Integration:
    """Return an integration of a status; ``+2``: last synced 2 s after the request; ``never``: not at all."""
    matched = re.fullmatch(r"(.*?)( never|\+(\d+))?", text)
    assert matched
    status, suffix, second = matched.groups()
    last = None if suffix == " never" else at(int(second)) if second else BEFORE
    fields = {"last_synced_at": last and last.isoformat(), "error_message": MESSAGES.get(status)}
    return Integration.from_json(
        {"id": integration_id, "type": kind, "status": status.removeprefix("new "), **fields},
    )


def receipt(baseline: str = "connected", integration_id: str = "int_1", **changes: Any) -> SyncReceipt:
    """Return the receipt of a sync that was requested, and accepted, when the integration looked like this."""
    fields = {"triggered_at": REQUESTED, "sync_id": "sync_1", "idempotency_key": "key", **changes}
    return SyncReceipt(integration_id=integration_id, baseline=state(baseline, integration_id), **fields)


def snapshot(*integrations: Integration | str, second: float = 20, **rest: Any) -> Snapshot:
    """Return the workspace at one moment."""
    found = [state(i) if isinstance(i, str) else i for i in integrations]
    return Snapshot(at(second), {i.id: i for i in found}, **rest)


def conditions(**given: Any) -> Conditions:
    """Return what a task waits for: int_1 unless something else is given."""
    if not given.keys() & {"integration_id", "integration_type", "receipt"}:
        given["integration_id"] = "int_1"
    return Conditions.of({"flokit_conn_id": "flokit_eu", **given}, owner="FlokitIntegrationSensor 'wait'")


def begin(timeout: float = 3600.0, *, answered: bool = False, **given: Any) -> Wait:
    """Begin a wait."""
    return Wait(conditions(**given), logging.getLogger("wait"), timeout, answered=answered)
