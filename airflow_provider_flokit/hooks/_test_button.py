"""What the Test button of Airflow's connection form says."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.errors import FlokitError, shown
from airflow_provider_flokit.models import IntegrationStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_flokit.models import Integration

_MADE_UP_LENGTH: Final = 8


def success_message(integrations: Iterable[Integration]) -> str:
    """
    Return what the button says if the integrations could be listed.

    :param integrations: All of them.
    """
    order = {str(status): place for place, status in enumerate(IntegrationStatus)}
    counts = Counter(shown(i.status) for i in integrations)
    total = sum(counts.values())
    parts = [f"{counts[status]} {status}" for status in sorted(counts, key=lambda s: (order.get(s, len(order)), s))]
    detail = f" ({', '.join(parts)})" if parts else ""
    return f"Connected: {total} integration{'' if total == 1 else 's'}{detail}"


def failure_message(error: Exception, conn_id: str) -> str:
    """
    Return what the button says if they could not.

    :param error: Why.
    :param conn_id: The connection, by whatever id Airflow tested it.
    """
    if not isinstance(error, FlokitError):
        return f"{type(error).__name__}: {shown(error)}"
    message, named = str(error), f"connection {conn_id!r}"
    if not _is_made_up(conn_id):
        return message
    return (
        message.replace(f" ({named})", "")
        .replace(f"Airflow {named}", "This connection")
        .replace(named, "this connection")
    )


def _is_made_up(conn_id: str) -> bool:
    """Tell whether Airflow made the id up: it tests what a form holds as a random variable of the environment."""
    return len(conn_id) == _MADE_UP_LENGTH and conn_id.isalnum() and f"AIRFLOW_CONN_{conn_id.upper()}" in os.environ
