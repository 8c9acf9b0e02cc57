"""What integrations look like at moments that are told in seconds since a sync was requested."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_flokit.gate.snapshot import Snapshot
from airflow_provider_flokit.models import Integration, IntegrationStatus, SyncReceipt

REQUESTED = datetime(2024, 3, 15, 12, tzinfo=UTC)
BEFORE = REQUESTED - timedelta(hours=1)
MESSAGE = "bad token"


def at(second: float) -> datetime:
    """Return a moment, in seconds since the request."""
    return REQUESTED + timedelta(seconds=second)


def state(text: str, integration_id: str = "int_1", kind: str = "stripe") -> Integration:
    """
    Return an integration.

    :param text: Its status, ``new error`` for one with another message than before; with ``+1`` the first success since
        the request has come, at second 1, with ``+2`` another at second 2; with ``never`` there was none ever.
    :param integration_id: Its id.
    :param kind: Its type.
    """
    matched = re.fullmatch(r"(.*?)( never|\+(\d+))?", text)
    assert matched
    status, suffix, number = matched.groups()
    last = None if suffix == " never" else at(int(number)) if number else BEFORE
    message = {"error": MESSAGE, "new error": "quota exceeded"}.get(status)
    status = status.removeprefix("new ")
    known = IntegrationStatus(status) if status in frozenset(map(str, IntegrationStatus)) else status
    return Integration(integration_id, kind, known, last, message)


def receipt(baseline: str = "connected", integration_id: str = "int_1", **changes: Any) -> SyncReceipt:
    """Return the receipt of a sync that was requested, and accepted, when the integration looked like this."""
    return SyncReceipt(
        **{
            "integration_id": integration_id,
            "baseline": state(baseline, integration_id),
            "triggered_at": REQUESTED,
            "sync_id": "sync_1",
            "idempotency_key": "key",
            **changes,
        }
    )


def snapshot(*integrations: Integration | str, second: float = 20, **rest: Any) -> Snapshot:
    """Return the workspace at one moment."""
    found = [state(i) if isinstance(i, str) else i for i in integrations]
    return Snapshot(at(second), {i.id: i for i in found}, **rest)
