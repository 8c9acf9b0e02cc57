"""
Decide whether an integration is ready.

Pure functions: no I/O, no clock, no logging. FloKit cannot be asked about a sync. So the decision compares the
integration before the request (the receipt's baseline) with the integration now. Only server times are compared with
each other.

Two mistakes must not happen: to call a sync done because the integration is still ``connected`` from last time, or to
call it failed because of an ``error`` that is from last time or from a later sync.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from airflow_provider_flokit.errors import shown
from airflow_provider_flokit.gate.conditions import START_TIMEOUT
from airflow_provider_flokit.gate.words import ago, error_of, last_synced, moment, status_of, sync_of
from airflow_provider_flokit.models import IntegrationStatus

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_flokit.models import Integration, SyncReceipt

QUIET: Final = 30.0
"""If no other sync has begun this many seconds after a success, no sync was queued behind it."""


class Readiness(StrEnum):
    """Whether an integration is ready."""

    READY = "ready"
    WAIT = "wait"
    FAILED = "failed"


class Verdict(NamedTuple):
    """The decision about one integration, and why."""

    readiness: Readiness
    reason: str  # follows the integration's name in a sentence
    warning: str = ""  # what the user should know, although the integration is ready


class Seen(NamedTuple):
    """What a wait has seen of an integration."""

    last_synced_at: datetime | None = None  # the latest one after the baseline's
    successes: int = 0  # how often last_synced_at has moved since the baseline
    syncing: bool = False
    syncing_after_error: bool = False
    error_since: datetime | None = None  # server time
    looked: bool = False

    def after(self, now: Integration, receipt: SyncReceipt, at: datetime) -> Seen:
        """Return what has been seen after one more look, at this server time."""
        seen = self._replace(looked=True)
        if has_synced_since(now, receipt.baseline) and now.last_synced_at != self.last_synced_at:
            seen = seen._replace(last_synced_at=now.last_synced_at, successes=self.successes + 1)
        if now.status == IntegrationStatus.SYNCING:
            seen = seen._replace(syncing=True, syncing_after_error=self.error_since is not None)
        if now.status == IntegrationStatus.ERROR and self.error_since is None:
            # At the first look, the error may be as old as the request.
            seen = seen._replace(error_since=at if self.looked else receipt.triggered_at)
        return seen


def judge(  # noqa: C901 - one case for each row of the table
    now: Integration,
    at: datetime,
    receipt: SyncReceipt | None = None,
    *,
    synced_after: datetime | None = None,
    seen: Seen | None = None,
    start_timeout: float = START_TIMEOUT,
    fail_on_disconnected: bool = True,
    last: bool = False,
) -> Verdict:
    """
    Decide whether one integration is ready.

    ============== ====================== ================================= ===========================================
    status now     without a condition    ``synced_after``                  a receipt
    ============== ====================== ================================= ===========================================
    connected      ready                  ready if done, else wait          ready if done, else wait
    syncing        wait                   wait; the last look: as connected wait; the last look: as connected
    error          failed                 done: ready, with a warning;      done: ready, with a warning; the same error
                                          else failed                       as in the baseline: wait, until ``syncing``
                                                                            was seen or ``start_timeout`` is over; else
                                                                            failed
    disconnected   failed (wait, without  as error (wait, without           done: as error; else failed
                   fail_on_disconnected)  fail_on_disconnected)
    anything else  wait                   wait                              wait
    ============== ====================== ================================= ===========================================

    Done means: ``last_synced_at`` is at or after ``synced_after``; with a receipt, it has moved past the baseline's;
    with both, both. A receipt that says that no sync was needed is done.

    If a sync was running at the baseline and FloKit accepted another one, ours may be queued behind it, and the first
    success may be the other sync's. Then a first success counts only if the status is connected, and the success is
    30 s old (no sync was queued behind it) or this is the last look. An error before the first success belongs to the
    other sync: wait until ``syncing`` was seen again or ``start_timeout`` is over.

    :param at: Server time now.
    :param seen: What the wait has seen of the integration, including this look; None: nothing before this look.
    :param last: Whether this is the last look, at the deadline.
    """
    if receipt is not None and receipt.skipped:
        if synced_after is None:
            return Verdict(Readiness.READY, "was fresh enough, so no sync was needed")
        receipt = None
    seen = seen or (Seen() if receipt is None else Seen().after(now, receipt, at))
    unmet = _unmet(now, at, receipt, synced_after)
    conditional = receipt is not None or synced_after is not None
    done = conditional and not unmet
    queued = receipt is not None and _was_behind_another(receipt)
    first_of_two = queued and seen.successes < 2  # noqa: PLR2004 - the other's and ours
    match now.status:
        case IntegrationStatus.CONNECTED:
            if unmet:
                return Verdict(Readiness.WAIT, f"is connected, but {unmet}")
            age = QUIET if now.last_synced_at is None else (at - now.last_synced_at).total_seconds()
            if first_of_two and age < QUIET and not last:
                when = ago(now.last_synced_at, at)
                return Verdict(Readiness.WAIT, f"has synced {when}, but the requested sync may only begin now")
            return Verdict(Readiness.READY, "is connected")
        case IntegrationStatus.SYNCING:
            if last and done and not first_of_two:
                return Verdict(Readiness.READY, "has synced, and is syncing again")
            return Verdict(Readiness.WAIT, f"is syncing, {f'and {unmet}' if unmet else last_synced(now, at)}")
        case IntegrationStatus.ERROR | IntegrationStatus.DISCONNECTED:
            is_error = now.status == IntegrationStatus.ERROR
            what = f"is {status_of(now)}"
            if done and not first_of_two:
                return Verdict(Readiness.READY, "has synced", warning=_warning(now, at, receipt, what))
            if not is_error and receipt is None and not fail_on_disconnected:
                return Verdict(Readiness.WAIT, what)
            if is_error and receipt is not None and _is_forgiven(now, at, receipt, seen, start_timeout, queued=queued):
                return Verdict(Readiness.WAIT, f"{what}, but that is from before this sync; {unmet}")
            return Verdict(Readiness.FAILED, what)
        case _:
            why = unmet or last_synced(now, at)
            return Verdict(Readiness.WAIT, f"has the unknown status {shown(now.status)!r}, which is never ready; {why}")


def depends_on_time(receipt: SyncReceipt) -> bool:
    """Tell whether time alone may change the verdict: a sync was running, or had failed, before this one."""
    return receipt.baseline.status in (IntegrationStatus.SYNCING, IntegrationStatus.ERROR)


def has_synced_since(now: Integration, baseline: Integration) -> bool:
    """Tell whether a sync has succeeded since the baseline: ``last_synced_at`` has moved, or is newly set."""
    if now.last_synced_at is None:
        return False
    return baseline.last_synced_at is None or now.last_synced_at > baseline.last_synced_at


def is_fresh(now: Integration, at: datetime, within: float) -> bool:
    """Tell whether no sync is needed: the integration is connected and has synced within these seconds."""
    if now.status != IntegrationStatus.CONNECTED or now.last_synced_at is None:
        return False
    return (at - now.last_synced_at).total_seconds() <= within


def _was_behind_another(receipt: SyncReceipt) -> bool:
    """Tell whether FloKit accepted a sync while another was running."""
    return receipt.sync_id is not None and receipt.baseline.status == IntegrationStatus.SYNCING


def _unmet(now: Integration, at: datetime, receipt: SyncReceipt | None, synced_after: datetime | None) -> str:
    """Return the condition that is not met, "" if all are met."""
    last = last_synced(now, at)
    if receipt is not None and not has_synced_since(now, receipt.baseline):
        return f"has not finished {sync_of(receipt)}, {last}"
    if synced_after is not None and (now.last_synced_at is None or now.last_synced_at < synced_after):
        return f"has to sync at or after {moment(synced_after, at)}, {last}"
    return ""


def _is_forgiven(
    now: Integration, at: datetime, receipt: SyncReceipt, seen: Seen, start_timeout: float, *, queued: bool
) -> bool:
    """Tell whether an error may be from before the sync that the task waits for."""
    before = receipt.baseline
    if queued:
        since = seen.error_since or receipt.triggered_at
        return seen.successes == 0 and not seen.syncing_after_error and (at - since).total_seconds() < start_timeout
    is_the_same = (
        before.status == IntegrationStatus.ERROR
        and now.error_message == before.error_message
        and now.last_synced_at == before.last_synced_at
    )
    return is_the_same and not seen.syncing and (at - receipt.triggered_at).total_seconds() < start_timeout


def _warning(now: Integration, at: datetime, receipt: SyncReceipt | None, what: str) -> str:
    success = ago(now.last_synced_at, at)
    if receipt is None:
        return f"the data is there, last synced {success}; but by now the integration {what}"
    failed = now.status == IntegrationStatus.ERROR
    by_now = f"the latest one failed: {error_of(now)}" if failed else f"by now the integration {what}"
    return f"a sync that began after the request succeeded at {success}; {by_now}"
