"""Write times, durations and lists so that people read them easily."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.errors import shown
from airflow_provider_flokit.models import IntegrationStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from airflow_provider_flokit.models import Integration, SyncReceipt

LISTED: Final = 10
"""The most entries of a list that a message names."""

_UNITS: Final = ((86400, "day"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Return a duration in at most two units: ``45 s``, ``8 min``, ``1 h 30 min``, ``7 days``."""
    rest, parts = round(max(seconds, 0.0)), []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}")
    return " ".join(parts[:2]) or f"{max(seconds, 0.0):.1g} s"


def moment(time: datetime, now: datetime) -> str:
    """Return a time in UTC to the second: ``07:50:12 UTC``, with the date if it is not today's."""
    time, now = time.astimezone(UTC), now.astimezone(UTC)
    date = (
        "" if time.date() == now.date() else f"{time.day} {time:%b} " if time.year == now.year else f"{time:%Y-%m-%d} "
    )
    return f"{date}{time:%H:%M:%S} UTC"


def ago(time: datetime | None, now: datetime) -> str:
    """Return a past time with its age: ``07:50:12 UTC (8 min ago)``; ``never`` if there is none."""
    return "never" if time is None else f"{moment(time, now)} ({age(time, now)})"


def last_synced(integration: Integration, now: datetime) -> str:
    """Return ``last synced 07:50:12 UTC (8 min ago)``, or ``never synced``."""
    time = integration.last_synced_at
    return "never synced" if time is None else f"last synced {ago(time, now)}"


def age(time: datetime, now: datetime) -> str:
    """Return the age of a past time in one unit: ``8 min ago``, ``just now``."""
    seconds = (now - time).total_seconds()
    size, unit = next(((s, u) for s, u in _UNITS if seconds >= s), (1, "s"))
    count = int(seconds // size)
    return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago" if seconds >= 1 else "just now"


def listed(names: Iterable[str], separator: str = ", ") -> str:
    """Return a list of at most ten names: ``a, b and 94 more``."""
    every = [shown(name) for name in names]
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return separator.join(every[:LISTED]) + more


def suggestion(name: str, known: Collection[str]) -> str:
    """Return ``did you mean int_01hx4j7stripe?`` with the most similar known name, "" if there is none."""
    from difflib import get_close_matches  # only a failure needs it: DAG files must be read quickly

    closest = get_close_matches(name, known, n=1, cutoff=0.8)  # ids share a prefix
    return f"did you mean {shown(closest[0])}?" if closest else ""


def name_of(integration: Integration) -> str:
    """Return ``int_01hx4j7stripe (stripe)``, for lists of what there is."""
    return f"{shown(integration.id)} ({shown(integration.type)})"


def short_name(integration: Integration) -> str:
    """Return the id, and the type only if the id does not contain it: messages should begin short."""
    return shown(integration.id) if integration.type in integration.id else name_of(integration)


def sync_of(receipt: SyncReceipt) -> str:
    """Return ``sync sync_01hx``, or words for a sync that was running already and has no id here."""
    return f"sync {shown(receipt.sync_id)}" if receipt.sync_id else "the sync that was running already"


def status_of(integration: Integration) -> str:
    """Return the status in words: ``connected``, ``in error: bad secret``."""
    if integration.status == IntegrationStatus.ERROR:
        return f"in error: {error_of(integration)}"
    return shown(integration.status)


def error_of(integration: Integration) -> str:
    """Return FloKit's error message without a full stop, for use in a sentence."""
    return shown(integration.error_message or "").rstrip(". ") or "no reason given"


def state_of(integration: Integration, now: datetime) -> str:
    """Return ``int_01hx4j7stripe is connected, last synced 07:50:12 UTC (8 min ago)``."""
    return f"{short_name(integration)} is {status_of(integration)}, {last_synced(integration, now)}"
