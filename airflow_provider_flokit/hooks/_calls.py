"""What both hooks do with a client; safe in any thread."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from airflow_provider_flokit.api.client import Answer
from airflow_provider_flokit.errors import FlokitError, FlokitNotFoundError, FlokitUnreachableError, shown
from airflow_provider_flokit.gate.snapshot import Snapshot
from airflow_provider_flokit.gate.words import listed, name_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow_provider_flokit.api.attempts import Attempts
    from airflow_provider_flokit.api.client import FlokitClient
    from airflow_provider_flokit.models import Integration


def find(client: FlokitClient, integration_type: str, attempts: Attempts) -> Integration:
    """Find the only integration of a type."""
    return _snapshot(client.list(attempts)).of_type(str(integration_type), client.settings.conn_id)


def read_one(client: FlokitClient, integration_id: str, attempts: Attempts) -> Answer[Integration]:
    """Read one integration; the error for an unknown id suggests the most similar one."""
    try:
        return client.get(integration_id, attempts)
    except FlokitNotFoundError:
        snapshot = _snapshot(client.list(attempts))
    return Answer(snapshot.of_id(integration_id, client.settings.conn_id), snapshot.at)


def observe(client: FlokitClient, ids: Collection[str], attempts: Attempts) -> Snapshot:
    """Take one look at the workspace; an id that is not in the list is read alone before it counts as missing."""
    snapshot = _snapshot(client.list(attempts))
    until, found = time.monotonic() + client.settings.timeout, {}  # for all single reads together
    for i in ids:
        if i not in snapshot.integrations:
            late = time.monotonic() > until
            found[i] = not_in_time(i, client.settings.conn_id) if late else read_singly(client, i, attempts)
    return snapshot.with_singles(found)


def not_in_time(integration_id: str, conn_id: str) -> FlokitUnreachableError:
    """Return the error for an integration that was not read because other single reads took too long."""
    return FlokitUnreachableError(
        f"FloKit, reading {integration_id} (connection {conn_id!r}): not read in time. It is not in FloKit's list: "
        f"check its id, and FloKit's status."
    )


def read_singly(client: FlokitClient, integration_id: str, attempts: Attempts) -> Integration | FlokitError | None:
    """Return an integration, None if there is none, or the error if it could not be read."""
    try:
        return client.get(integration_id, attempts).value
    except FlokitNotFoundError:
        return None
    except FlokitError as error:
        return error


def _snapshot(answer: Answer[Sequence[Integration]]) -> Snapshot:
    return Snapshot(answer.at, {i.id: i for i in answer.value}, malformed=answer.malformed)


def connected(client: FlokitClient, attempts: Attempts) -> str:
    """Return the Test button's message after the integrations were listed."""
    found = client.list(attempts).value
    counts = Counter(shown(i.status) for i in found)
    states = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    text = f"Connected: {len(found)} integration{'' if len(found) == 1 else 's'}"
    text += f" ({states}): {listed(map(name_of, found))}" if found else ""
    return f"{text}. {client.settings.warning}" if client.settings.warning else text


def not_connected(error: FlokitError, conn_id: str) -> str:
    """Return the Test button's message for an error, without the connection id, which Airflow made up for the test."""
    named = f"connection {conn_id!r}"
    return str(error).replace(f" ({named})", "").replace(f"Airflow {named}", "this connection")
