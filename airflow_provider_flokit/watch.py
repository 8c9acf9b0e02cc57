"""
A wait in progress, the same in every mode.

The worker's loop, a rescheduled sensor and the trigger feed snapshots of the workspace to a :class:`Watch`, which
remembers what was seen, has each snapshot judged, and logs what changed.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.decision import Readiness, Verdict, judge
from airflow_provider_flokit.errors import (
    FlokitAPIError,
    FlokitDisconnectedError,
    FlokitError,
    FlokitNotFoundError,
    FlokitSyncFailedError,
    shown,
)
from airflow_provider_flokit.models import Integration, IntegrationStatus
from airflow_provider_flokit.outcome import Ending, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from logging import Logger

    from airflow_provider_flokit.hooks.flokit import FlokitHook
    from airflow_provider_flokit.gate.snapshot import Snapshot
    from airflow_provider_flokit.wait import Wait

GRACE: Final = 30.0
"""Seconds past its deadline in which a wait may still get the answer that a failing API owes it."""

HEARTBEAT: Final = 300.0
"""Seconds between two log lines of a wait in which nothing changes."""


class Watch:
    """
    A wait in progress: remembers what was seen, judges each snapshot, and logs what changed.

    :param wait: What is waited for.
    :param log: Where changes of status go.
    :param elapsed: Seconds that the wait has lasted already.
    """

    # A triggerer holds thousands of these.
    __slots__ = (
        "_begun",
        "_failures",
        "_log",
        "_not_before",
        "_seen",
        "_syncing_seen",
        "_told",
        "_trouble",
        "_warned",
        "next_heartbeat",
        "recheck_after",
        "wait",
    )

    def __init__(self, wait: Wait, log: Logger, elapsed: float = 0.0) -> None:
        self.wait = wait
        self.recheck_after: float | None = None
        now = time.monotonic()
        self._begun = now - elapsed
        self.next_heartbeat = now + HEARTBEAT
        self._log = log
        self._seen: tuple[Integration, ...] = ()
        self._told: dict[str, tuple[str, str, str | None]] = {}
        self._syncing_seen: frozenset[str] = frozenset()
        self._warned: frozenset[tuple[str, str]] = frozenset()
        self._trouble: FlokitAPIError | None = None
        self._failures = 0
        self._not_before = 0.0  # FloKit asked to be left alone until then

    def look(self, snapshot: Snapshot, *, stale: bool = False) -> Outcome | None:
        """
        Judge a snapshot of the workspace.

        :param snapshot: All integrations at one moment.
        :param stale: Whether that moment may be before the baseline of a receipt. Then only a success counts, as
            ``last_synced_at`` never goes back; an error or ``syncing`` may be older than the sync waited for. Without
            a receipt, that something does not exist does not count.
        :return: the outcome if the wait is over, else None; :attr:`recheck_after` then says after how many seconds
            the same snapshot may be judged differently
        """
        if stale and self.wait.receipts:
            return self._ready(snapshot)
        trouble, self._trouble = self._trouble, None
        try:
            self._seen = self._resolve(snapshot)
        except FlokitAPIError as error:
            self._trouble = trouble
            self.trouble(error)
            return None
        except FlokitError as error:
            return None if stale else self.failed(error)
        self._syncing_seen |= {i.id for i in self._seen if i.status == IntegrationStatus.SYNCING}
        verdicts = [self._judge(integration, snapshot.at) for integration in self._seen]
        self.recheck_after = min((v.recheck_after for v in verdicts if v.recheck_after is not None), default=None)
        for integration, verdict in zip(self._seen, verdicts, strict=True):
            self._tell(integration, verdict)
        pending = [(i, v) for i, v in zip(self._seen, verdicts, strict=True) if v.readiness is not Readiness.READY]
        if not pending:
            return Outcome(Ending.READY, self._seen)
        if not any(v.readiness is Readiness.FAILED for _, v in pending):
            return None
        failure = self._failure(pending)
        if self.wait.tolerate_failures:
            self._log.error("%s", failure)
            return None
        return Outcome.of_error(failure, self._seen)

    def failed(self, error: FlokitError) -> Outcome:
        """
        End the wait with an error.

        :param error: Why it cannot go on.
        """
        outcome = Outcome.of_error(error, self._seen)
        return replace(outcome, message=f"Waiting for {self.wait.subject} failed. {error}")

    def ask(self, hook: FlokitHook, *, retries: int = 0, patience: float | None = None) -> Outcome | None:
        """
        Look at the workspace through a hook and judge what it shows.

        :param hook: How to ask FloKit.
        :param retries: Attempts after the first if the API cannot be asked.
        :param patience: Seconds after which no further attempt is made; None for no limit.
        :return: the outcome if the wait is over, else None, also if the API could not be asked or does not want to be
        """
        if time.monotonic() < self._not_before:
            return None
        try:
            snapshot = hook.observe(self.wait.ids, retries=retries, patience=patience)
        except FlokitAPIError as error:
            self.trouble(error)
            return None
        except FlokitError as error:
            return self.failed(error)
        return self.look(snapshot)

    def ask_at_the_end(self, hook: FlokitHook, timeout: float) -> Outcome:
        """
        End a wait whose time is over: if the last attempt to ask failed, ask once more, with retries, unless FloKit
        asked for a longer pause than that is worth.

        :param hook: How to ask FloKit.
        :param timeout: Seconds the wait was given.
        """
        outcome = None
        left = self._not_before - time.monotonic()
        if left <= GRACE and (self._trouble is not None or not self._seen):
            time.sleep(max(left, 0.0))
            outcome = self.ask(hook, retries=hook.retry_limit, patience=GRACE)
        return outcome or self.timed_out(timeout)

    def trouble(self, error: FlokitAPIError) -> None:
        """
        Note that the API could not be asked; the wait goes on.

        :param error: Why.
        """
        if str(error) != str(self._trouble):
            self._log.warning("%s The wait goes on.", error)
        self._failures = self._failures + 1 if self._trouble else 1
        self._trouble = error
        self._not_before = time.monotonic() + (error.retry_after or 0.0)

    def pause(self, interval: float) -> float:
        """
        Return the seconds until the next look makes sense.

        :param interval: Seconds between looks that the user asked for.
        """
        if self._trouble is not None:
            return max(interval, retry.delay(self._failures, random.random(), self._trouble.retry_after))  # noqa: S311
        return interval if self.recheck_after is None else min(interval, max(self.recheck_after, 1.0))

    def heartbeat_if_due(self) -> None:
        """Log now and then that the wait goes on."""
        now = time.monotonic()
        if now >= self.next_heartbeat:
            self.next_heartbeat = now + HEARTBEAT
            states = ", ".join(f"{i.id}: {shown(i.status)}" for i in self._seen) or "nothing seen yet"
            elapsed = now - self._begun
            self._log.info("Still waiting for %s after %.0f s (%s)", self.wait.subject, elapsed, shown(states))

    def timed_out(self, timeout: float) -> Outcome:
        """
        End the wait because its time is over.

        :param timeout: Seconds it was given.
        """
        why = ""
        if self._trouble is not None:
            why = f"The last attempt to ask failed: {self._trouble} "
        elif self._seen:
            why = f"Last seen: {shown('; '.join(map(_state, self._seen)))}. "
        message = (
            f"{self.wait.subject} (connection {self.wait.conn_id!r}) not ready within {timeout:g} s. {why}"
            f"Look at the integration in FloKit, or give the wait more time with timeout."
        )
        return Outcome(Ending.TIMED_OUT, self._seen, message)

    def _ready(self, snapshot: Snapshot) -> Outcome | None:
        """Tell whether all are ready, remembering and logging nothing."""
        try:
            seen = self._resolve(snapshot)
        except FlokitError:
            return None
        ready = all(self._judge(i, snapshot.at).readiness is Readiness.READY for i in seen)
        return Outcome(Ending.READY, seen) if ready else None

    def _resolve(self, snapshot: Snapshot) -> tuple[Integration, ...]:
        for integration_id in self.wait.ids:
            if integration_id in snapshot.unread:
                raise snapshot.unread[integration_id]
        known = snapshot.integrations
        if lost := [i for i in self.wait.ids if i not in known]:
            raise FlokitNotFoundError(
                f"FloKit has no integration {shown(', '.join(lost))} (connection {self.wait.conn_id!r}, HTTP 404). "
                f"The workspace has: {snapshot.overview}. Check the id and that the key belongs to its workspace."
            )
        ids = [known[i] for i in self.wait.ids]
        return (*ids, *(snapshot.only_one(name, self.wait.conn_id) for name in self.wait.types))

    def _judge(self, integration: Integration, at: datetime) -> Verdict:
        receipt = self.wait.receipts.get(integration.id)
        return judge(
            integration,
            receipt.baseline if receipt else None,
            synced_after=self.wait.synced_after,
            syncing_seen=integration.id in self._syncing_seen,
            since_trigger=(at - receipt.triggered_at).total_seconds() if receipt else 0.0,
            start_timeout=self.wait.start_timeout,
            fail_on_disconnected=self.wait.fail_on_disconnected,
        )

    def _tell(self, integration: Integration, verdict: Verdict) -> None:
        state = (str(integration.status), verdict.reason, integration.error_message)
        if self._told.get(integration.id) == state:
            return
        self._told[integration.id] = state
        log = self._log.info
        status = (integration.id, str(integration.status))
        if not isinstance(integration.status, IntegrationStatus) and status not in self._warned:
            self._warned |= {status}
            log = self._log.warning
        said = f": {shown(integration.error_message)}" if integration.error_message else ""
        log("%s %s%s (last synced: %s)", _name(integration), verdict.reason, said, when(integration))

    def _failure(self, pending: Iterable[tuple[Integration, Verdict]]) -> FlokitSyncFailedError:
        reasons = []
        kinds: set[type[FlokitSyncFailedError]] = set()
        for integration, verdict in pending:
            said = ""
            if verdict.readiness is Readiness.FAILED:
                said = f": {shown(integration.error_message)}" if integration.error_message else ""
                gone = integration.status == IntegrationStatus.DISCONNECTED
                kinds.add(FlokitDisconnectedError if gone else FlokitSyncFailedError)
            reasons.append(f"{_name(integration)} {verdict.reason}{said}")
        kind = kinds.pop() if len(kinds) == 1 else FlokitSyncFailedError
        todo = "Connect it again" if kind is FlokitDisconnectedError else "Mend the cause"
        return kind(
            f"FloKit integration {'; '.join(reasons)} (connection {self.wait.conn_id!r}). {todo} in FloKit, then "
            f"run the task again."
        )


def _name(integration: Integration) -> str:
    return f"{shown(integration.id)} ({shown(integration.type)})"


def when(integration: Integration) -> str:
    """
    Return the time of the last success as messages and logs write it.

    :param integration: The integration.
    """
    return "never" if integration.last_synced_at is None else integration.last_synced_at.isoformat()


def _state(integration: Integration) -> str:
    return f"{_name(integration)} is {shown(integration.status)}, last synced: {when(integration)}"
