"""
Is this integration ready? The one place that decides it.

Pure functions over values: no I/O, no clock, no logging, no Airflow. FloKit cannot be asked about a sync, so
whether a triggered sync is done is told from what the integration looked like before the request (the receipt's
baseline) and what it looks like now. Only server times are compared with server times.

The two mistakes forbidden here: calling a sync done because the integration still reads ``connected`` from last
time, and calling it failed because it still reads ``error`` from last time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_provider_flokit.models import IntegrationStatus

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_flokit.models import Integration


class Readiness(StrEnum):
    """What to do about an integration."""

    READY = "ready"
    WAIT = "wait"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    The decision about one integration, and why.

    :param readiness: Ready, wait or failed.
    :param reason: One clause that completes "integration X ...".
    :param recheck_after: Seconds after which the verdict can change although the integration does not; None if it
        cannot.
    """

    readiness: Readiness
    reason: str
    recheck_after: float | None = None


def judge(
    now: Integration,
    baseline: Integration | None = None,
    *,
    synced_after: datetime | None = None,
    syncing_seen: bool = False,
    since_trigger: float = 0.0,
    start_timeout: float = 300.0,
    fail_on_disconnected: bool = True,
) -> Verdict:
    """
    Decide about one integration.

    ============== =================================================== =============================================
    status now     without a baseline                                  with a baseline
    ============== =================================================== =============================================
    connected      ready; with ``synced_after`` only if                ready only if ``last_synced_at`` moved past
                   ``last_synced_at`` is at or after it                the baseline's
    syncing        wait                                                wait
    error          failed                                              failed, unless it is the baseline's own error,
                                                                       no ``syncing`` was seen since and
                                                                       ``start_timeout`` is not over
    disconnected   failed, unless ``fail_on_disconnected`` is off      failed
    anything else  wait                                                wait
    ============== =================================================== =============================================

    :param now: The integration as it is now.
    :param baseline: The integration right before a sync was requested; None if no particular sync is waited for.
    :param synced_after: Server time that ``last_synced_at`` has to reach.
    :param syncing_seen: Whether ``syncing`` was seen since the request.
    :param since_trigger: Seconds since the request, by the server's clock.
    :param start_timeout: Seconds for which an error older than the sync is forgiven.
    :param fail_on_disconnected: False waits for a disconnected integration to come back; not with a baseline.
    :return: the verdict
    """
    match now.status:
        case IntegrationStatus.CONNECTED:
            return _judge_connected(now, baseline, synced_after)
        case IntegrationStatus.SYNCING:
            return Verdict(Readiness.WAIT, "is syncing")
        case IntegrationStatus.ERROR:
            old = baseline is not None and not syncing_seen and is_same_error(now, baseline)
            left = start_timeout - since_trigger
            if old and left > 0:
                return Verdict(Readiness.WAIT, "still shows the error from before this sync", recheck_after=left)
            if old:
                return Verdict(
                    Readiness.FAILED, f"is in error, as before this sync, {start_timeout:g} s after it was requested"
                )
            return Verdict(Readiness.FAILED, "is in error")
        case IntegrationStatus.DISCONNECTED:
            if baseline is None and not fail_on_disconnected:
                return Verdict(Readiness.WAIT, "is disconnected")
            return Verdict(Readiness.FAILED, "is disconnected")
        case _:
            return Verdict(Readiness.WAIT, f"has the unknown status {str(now.status)[:64]!r}")


def has_synced_since(now: Integration, baseline: Integration) -> bool:
    """
    Tell whether a sync has succeeded since the baseline: ``last_synced_at`` moved, or is set where none was.

    :param now: The integration as it is now.
    :param baseline: The integration as it was.
    """
    if now.last_synced_at is None:
        return False
    return baseline.last_synced_at is None or now.last_synced_at > baseline.last_synced_at


def is_same_error(now: Integration, baseline: Integration) -> bool:
    """
    Tell whether an error is the very one of the baseline: same message, and no success in between.

    :param now: The integration as it is now, in error.
    :param baseline: The integration as it was.
    """
    return (
        baseline.status == IntegrationStatus.ERROR
        and now.error_message == baseline.error_message
        and now.last_synced_at == baseline.last_synced_at
    )


def is_fresh(now: Integration, at: datetime, within: float) -> bool:
    """
    Tell whether an integration is connected and has synced so lately that another sync is not needed.

    :param now: The integration as it is now.
    :param at: The server's time now.
    :param within: Seconds that the last successful sync may be old.
    """
    if now.status != IntegrationStatus.CONNECTED or now.last_synced_at is None:
        return False
    return (at - now.last_synced_at).total_seconds() <= within


def _judge_connected(now: Integration, baseline: Integration | None, synced_after: datetime | None) -> Verdict:
    if baseline is not None and not has_synced_since(now, baseline):
        return Verdict(Readiness.WAIT, "has not finished this sync yet")
    if synced_after is not None and (now.last_synced_at is None or now.last_synced_at < synced_after):
        return Verdict(Readiness.WAIT, f"has not synced since {synced_after.isoformat()}")
    return Verdict(Readiness.READY, "is connected")
