"""
A wait in progress, the same in every mode, and its outcome.

The worker's loop and the triggerer's poller give a :class:`Wait` their snapshots of the workspace and their errors. It
has each snapshot judged, remembers what it needs, logs what changed, and ends in an :class:`Outcome`.
"""

from __future__ import annotations

import math
import time
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from airflow_provider_flokit import errors
from airflow_provider_flokit.errors import (
    FlokitAmbiguousTypeError,
    FlokitAPIError,
    FlokitDisconnectedError,
    FlokitError,
    FlokitNotFoundError,
    FlokitSyncFailedError,
    FlokitWaitTimeoutError,
    shown,
)
from airflow_provider_flokit.gate.decision import Readiness, Seen, Verdict, judge
from airflow_provider_flokit.gate.words import LISTED, ago, duration, listed, moment, short_name, state_of, status_of
from airflow_provider_flokit.models import Integration, IntegrationStatus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from logging import Logger

    from airflow_provider_flokit.gate.conditions import Conditions
    from airflow_provider_flokit.gate.snapshot import Snapshot

HEARTBEAT: Final = 300.0
"""Seconds between two log lines of a wait in which nothing changes."""

PATIENCE: Final = 900.0
"""Seconds for which a wait that has had an answer goes on after refusals, e.g. until somebody enters the new key."""


Judged: TypeAlias = list[tuple[Integration, Verdict]]
"""The integrations of a wait, each with the verdict about it."""


class Ending(StrEnum):
    """How a wait ended."""

    READY = "ready"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    EXECUTION_TIMED_OUT = "execution_timed_out"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a wait, as a value that the trigger sends to the task."""

    ending: Ending
    integrations: tuple[Integration, ...] = ()  # the last state of each, in the order in which they were asked for
    message: str = ""  # what to tell the user if they are not ready
    error: str = ""  # name of the exception class if the wait failed

    @classmethod
    def from_event(cls, event: object) -> Self:
        """Read the outcome from a trigger's event; raise a :class:`FlokitError` if this is not possible."""
        try:
            fields: dict[str, Any] = dict(event)  # type: ignore[call-overload]
            states = tuple(Integration.from_json(state) for state in fields["integrations"])
            return cls(Ending(fields["ending"]), states, fields["message"], fields["error"])
        except (KeyError, TypeError, ValueError) as error:
            raise FlokitError(f"The trigger sent an event that is not understood: {shown(repr(event))}") from error

    def to_event(self) -> dict[str, Any]:
        """Return the outcome as a trigger's event payload."""
        return {
            "ending": str(self.ending),
            "integrations": [integration.to_json() for integration in self.integrations],
            "message": self.message,
            "error": self.error,
        }

    def exception(self) -> FlokitError:
        """Return the exception for an outcome that is not ready."""
        if self.ending is not Ending.FAILED:
            return FlokitWaitTimeoutError(self.message)
        error: FlokitError = getattr(errors, self.error, FlokitError)(self.message)
        return error


@dataclass(eq=False, slots=True)  # small, as a triggerer may hold thousands
class Wait:
    """
    A wait in progress.

    A wait that has had an answer goes on for 15 minutes after refusals (a rotated key, a connection that cannot be
    looked up). Before the first answer, a refusal ends the wait.
    """

    conditions: Conditions
    log: Logger  # the task's
    timeout: float  # seconds that the whole wait may take
    elapsed: InitVar[float] = 0.0  # seconds of it that are over
    execution_left: InitVar[float | None] = None  # seconds left of the task's execution_timeout; None: do not check it
    answered: bool = False
    announced: bool = False  # whether the log has the first line
    begun: float = field(init=False)
    deadline: float = field(init=False)
    execution_deadline: float = field(init=False)
    heartbeat_at: float = field(init=False)
    _refused_since: float = field(default=0.0, init=False)  # the first refusal in a row
    _trouble: FlokitError | None = field(default=None, init=False)
    _now: tuple[Integration, ...] = field(default=(), init=False)
    _server_ahead: timedelta = field(default=timedelta(), init=False)  # server time minus our time
    _seen: dict[str, Seen] | None = field(default=None, init=False)
    _done: frozenset[str] = field(default=frozenset(), init=False)
    _failing: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self, elapsed: float, execution_left: float | None) -> None:
        """Set the times, in seconds of the monotonic clock."""
        now = time.monotonic()
        self.begun = now - elapsed
        self.execution_deadline = math.inf if execution_left is None else now + execution_left
        self.deadline = min(self.begun + self.timeout, self.execution_deadline)
        self.heartbeat_at = now + HEARTBEAT

    def announce(self, there: Iterable[Integration] = (), at: datetime | None = None) -> None:
        """Log once, at the beginning: what the task waits for, and the integrations at this server time."""
        if not self.announced:
            self.announced, now = True, _utcnow()
            until = moment(now + timedelta(seconds=self.deadline - time.monotonic()), now)
            states = listed((state_of(each, at or now) for each in there), "; ") or "not known yet"
            what, most = self.conditions.describe(now), duration(self.timeout)
            self.log.info("Waiting for %s. Now: %s. Waits at most %s, until %s.", what, states, most, until)

    def look(self, snapshot: Snapshot, *, last: bool = False) -> Outcome | None:
        """Judge a snapshot from after the wait began (``last``: at the deadline); return the outcome if it is over."""
        before = self._now
        try:
            self._now, unread = self._find(snapshot)
        except (FlokitNotFoundError, FlokitAmbiguousTypeError) as error:
            return self._failed(error)
        if not unread:
            self._recovered(snapshot.at)
            self.answered = True
        elif outcome := self.trouble(min(unread.values(), key=lambda error: isinstance(error, FlokitAPIError))):
            return outcome
        self._server_ahead = snapshot.at - _utcnow()
        self._see(snapshot.at)
        judged = self._judge(snapshot.at, last=last)
        self._tell(before, judged, snapshot.at)
        self._remember(judged)
        readiness = {verdict.readiness for _, verdict in judged}
        if not unread and readiness == {Readiness.READY}:
            return Outcome(Ending.READY, self._now)
        if Readiness.FAILED in readiness and not self.conditions.tolerate_failures:
            return self._failed(self._failure(judged, snapshot.at))
        # Keep the last state of what could not be read.
        self._now += tuple(i for i in before if (i.id in unread or i.type in unread) and i not in self._now)
        return self.timed_out() if last else None

    def trouble(self, error: FlokitError) -> Outcome | None:
        """Note that FloKit could not be asked; return the outcome if this ends the wait."""
        now = time.monotonic()
        if self._trouble is None or isinstance(self._trouble, FlokitAPIError):
            self._refused_since = now
        is_refusal = not isinstance(error, FlokitAPIError)
        if is_refusal and (not self.answered or now - self._refused_since >= PATIENCE):
            return self._failed(error)
        self._note(error)
        return None

    def heartbeat(self) -> None:
        """Log why the wait goes on, every five minutes."""
        now = time.monotonic()
        if now < self.heartbeat_at:
            return
        self.heartbeat_at = now + HEARTBEAT
        trouble = f" FloKit cannot be asked: {self._trouble}" if self._trouble else ""
        self.log.info("Still waiting after %s: %s.%s", duration(now - self.begun), self._why(), trouble)

    def timed_out(self) -> Outcome:
        """Return the outcome of a wait whose time is over."""
        by_task = self.execution_deadline <= self.begun + self.timeout
        limit = "the task's execution_timeout" if by_task else duration(self.timeout)
        end = f"not ready within {limit} (connection {self.conditions.conn_id!r})."
        if self._now:
            trouble = f" The last attempt to ask FloKit failed: {self._trouble}" if self._trouble else ""
            todo = "Look at the integration in FloKit, or give the wait more time."
            message = f"{self._why()}: {end}{trouble} {todo}"
        else:
            # The reason comes first, so that it is in the visible part of the line.
            why = self._trouble or "FloKit was not asked in time."
            message = f"{why} {self.conditions.describe(_utcnow())}: {end} FloKit never answered this wait."
        return Outcome(Ending.EXECUTION_TIMED_OUT if by_task else Ending.TIMED_OUT, self._now, message)

    def _failed(self, error: FlokitError) -> Outcome:
        return Outcome(Ending.FAILED, self._now, str(error), type(error).__name__)

    def _note(self, error: FlokitError) -> None:
        self.announce()
        if type(error) is not type(self._trouble):
            self.log.warning("%s The wait goes on.", error)
            self.heartbeat_at = time.monotonic() + HEARTBEAT  # this line says the same as a heartbeat
        self._trouble = error

    def _recovered(self, at: datetime) -> None:
        if self._trouble is not None:
            self._trouble = None
            self.log.info("FloKit answers again: %s.", listed((state_of(each, at) for each in self._now), "; "))

    def _find(self, snapshot: Snapshot) -> tuple[tuple[Integration, ...], dict[str, FlokitError]]:
        """Return the integrations that the task waits for, and by id or type why others could not be read."""
        found, unread, conditions = [], {}, self.conditions
        for find, names in ((snapshot.of_id, conditions.ids), (snapshot.of_type, conditions.types)):
            for name in names:
                try:
                    found.append(find(name, conditions.conn_id))
                except (FlokitNotFoundError, FlokitAmbiguousTypeError):
                    raise
                except FlokitError as error:
                    unread[name] = error
        return tuple(found), unread

    def _see(self, at: datetime) -> None:
        """Note what later verdicts need to know of this look."""
        for integration in self._now:
            if receipt := self.conditions.receipts.get(integration.id):
                self._seen = self._seen or {}
                seen = self._seen.get(integration.id, Seen())
                self._seen[integration.id] = seen.after(integration, receipt, at)

    def _judge(self, at: datetime, *, last: bool = False) -> Judged:
        """Judge the last states at this server time."""
        return [(integration, self._verdict(integration, at, last=last)) for integration in self._now]

    def _verdict(self, integration: Integration, at: datetime, *, last: bool) -> Verdict:
        """Judge one integration; if it was done and ready before, it stays ready."""
        if integration.id in self._done:
            return Verdict(Readiness.READY, "is done: it was ready before")
        conditions = self.conditions
        return judge(
            integration,
            at,
            conditions.receipts.get(integration.id),
            synced_after=conditions.synced_after,
            seen=(self._seen or {}).get(integration.id),
            start_timeout=conditions.start_timeout,
            fail_on_disconnected=conditions.fail_on_disconnected,
            last=last,
        )

    def _remember(self, judged: Judged) -> None:
        """Remember which integrations are done, and which have failed."""
        for integration, verdict in judged:
            this = {integration.id}
            conditional = self.conditions.synced_after or integration.id in self.conditions.receipts
            if conditional and verdict.readiness is Readiness.READY:
                self._done |= this
            self._failing = self._failing | this if verdict.readiness is Readiness.FAILED else self._failing - this

    def _tell(self, before: tuple[Integration, ...], judged: Judged, at: datetime) -> None:
        """Log the beginning, then every change of status."""
        known = {i.id: status_of(i) for i in before}
        if self.announced and not before:
            # Another process has logged the beginning, with the baselines.
            known = {i: status_of(receipt.baseline) for i, receipt in self.conditions.receipts.items()}
        self.announce(self._now, at)
        tolerated = self.conditions.tolerate_failures
        for integration, verdict in judged:
            was, is_ = known.get(integration.id), status_of(integration)
            if verdict.warning:
                self.log.warning("%s: %s.", short_name(integration), verdict.warning)
            elif tolerated and verdict.readiness is Readiness.FAILED and integration.id not in self._failing:
                self.log.error("%s %s. The wait goes on.", short_name(integration), verdict.reason)
            elif not isinstance(integration.status, IntegrationStatus) and (was != is_ or not before):
                self.log.warning("%s %s.", short_name(integration), verdict.reason)
            elif was is not None and was != is_:
                self.log.info("%s was %s, now %s.", short_name(integration), was, verdict.reason)

    def _why(self) -> str:
        """Return why the wait goes on, or at least what it waits for."""
        judged = self._judge(_utcnow() + self._server_ahead)
        return _reasons(judged, Readiness.FAILED, Readiness.WAIT) or self.conditions.describe(_utcnow())

    def _failure(self, judged: Judged, at: datetime) -> FlokitSyncFailedError:
        """Return the failure: first the failed integrations with FloKit's message, then other details."""
        failed = [integration for integration, verdict in judged if verdict.readiness is Readiness.FAILED]
        receipts = [self.conditions.receipts.get(i.id) for i in failed]
        syncs = "".join(f", sync {shown(r.sync_id)}" for r in receipts[:LISTED] if r is not None and r.sync_id)
        last = listed(f"{i.id + ' ' if len(failed) > 1 else ''}{ago(i.last_synced_at, at)}" for i in failed)
        waiting = _reasons(judged, Readiness.WAIT)
        kind, todo = FlokitSyncFailedError, "Fix the cause in FloKit"
        if all(i.status == IntegrationStatus.DISCONNECTED for i in failed):
            kind, todo = FlokitDisconnectedError, "Connect it again in FloKit"
        where = f"(connection {self.conditions.conn_id!r}{syncs})"
        rest = f"Last synced: {last}." + (f" Not ready either: {waiting}." if waiting else "")
        return kind(f"{_reasons(judged, Readiness.FAILED)} {where}. {rest} {todo}, then run the task again.")


def _reasons(judged: Judged, *readiness: Readiness) -> str:
    """Return the reasons for the integrations whose readiness is one of these."""
    wanted = (each for each in judged if each[1].readiness in readiness)
    return listed((f"{short_name(integration)} {verdict.reason}" for integration, verdict in wanted), "; ")


def _utcnow() -> datetime:
    return datetime.now(tz=UTC)
