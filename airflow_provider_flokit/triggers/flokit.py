"""Triggers: waiting for FloKit in the triggerer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_flokit.arguments import conditions_of, seconds
from airflow_provider_flokit.connection import DEFAULT_CONN_ID
from airflow_provider_flokit.deferral import BACKSTOP
from airflow_provider_flokit.errors import FlokitError
from airflow_provider_flokit.models import as_utc
from airflow_provider_flokit.outcome import Outcome
from airflow_provider_flokit.triggers._poller import Poller
from airflow_provider_flokit.triggers._turns import Turns
from airflow_provider_flokit.wait import Wait
from airflow_provider_flokit.watch import GRACE, Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from logging import Logger


class FlokitIntegrationTrigger(BaseTrigger):
    """
    Wait until integrations are ready, have failed, or the time is over; then fire once.

    All triggers of one triggerer that wait on the same connection share one poll. Everything the wait needs is in the
    arguments, so a restart of the triggerer loses nothing. The event is what
    :class:`airflow_provider_flokit.wait.Outcome` writes, and the receipt.

    :param integration_id: Id of the integration, or a list of ids that must all be ready.
    :param integration_type: Type of the integration, or a list of types; exactly one integration must have it.
    :param receipt: Receipt of the sync to wait for, as JSON, or a list of receipts.
    :param synced_after: ISO 8601 time that ``last_synced_at`` has to reach.
    :param flokit_conn_id: Airflow connection of type ``flokit``.
    :param poll_interval: Seconds between polls; the shortest one asked for on the connection counts. Default 30.
    :param timeout: Seconds the wait was given in all. Default 3600.
    :param deadline: When it ends, in seconds since the epoch. Default: ``timeout`` from when the trigger starts.
    :param start_timeout: Seconds for which an error older than the receipt's sync is forgiven. Default 300.
    :param fail_on_disconnected: Whether a disconnected integration ends the wait. Default True.
    :param tolerate_failures: Only log failures and go on waiting. Default False.
    """

    SETTLE: ClassVar[float] = 10.0
    """
    Seconds between the start of a task's trigger and its event, at least. A task that resumes while a busy scheduler
    has not yet heard that its worker deferred it is taken for one that died ("finished with state success, but the
    task instance's state attribute is queued") and failed. On two overloaded cores that was seen after 7 s.
    """

    def __init__(
        self,
        *,
        integration_id: str | list[str] | None = None,
        integration_type: str | list[str] | None = None,
        receipt: dict[str, Any] | list[dict[str, Any]] | None = None,
        synced_after: str | None = None,
        flokit_conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float = 30.0,
        timeout: float = 3600.0,
        deadline: float | None = None,
        start_timeout: float = 300.0,
        fail_on_disconnected: bool = True,
        tolerate_failures: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.integration_id = integration_id
        self.integration_type = integration_type
        self.receipt = receipt
        self.synced_after = synced_after
        self.flokit_conn_id = flokit_conn_id
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.deadline = deadline
        self.start_timeout = start_timeout
        self.fail_on_disconnected = fail_on_disconnected
        self.tolerate_failures = tolerate_failures
        self._conditions = conditions_of(self)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, for the trigger table."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "integration_id": self.integration_id,
                "integration_type": self.integration_type,
                "receipt": self.receipt,
                "synced_after": self.synced_after,
                "flokit_conn_id": self.flokit_conn_id,
                "poll_interval": self.poll_interval,
                "timeout": self.timeout,
                "deadline": self.deadline,
                "start_timeout": self.start_timeout,
                "fail_on_disconnected": self.fail_on_disconnected,
                "tolerate_failures": self.tolerate_failures,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event."""
        started = time.monotonic()
        try:
            outcome = await self._wait()
        except FlokitError as error:
            outcome = Outcome.of_error(error)
        deferred_by_a_worker = self.task_instance is not None and self.deadline is not None
        if deferred_by_a_worker:
            await asyncio.sleep(max(self.SETTLE - (time.monotonic() - started), 0.0))
        yield TriggerEvent({**outcome.to_event(), "receipt": self.receipt})  # type: ignore[no-untyped-call]

    def _seconds_left(self) -> float:
        if self.deadline is not None:
            return self.deadline - time.time()
        # Started by the scheduler, not by a worker: the triggerer says when Airflow will end the deferral, which holds
        # through restarts.
        ends: datetime | None = getattr(self, "timeout_after", None)
        if ends is None:
            return self.timeout
        return min(self.timeout, as_utc(ends).timestamp() - BACKSTOP - time.time())

    async def _wait(self) -> Outcome:
        await Turns.here().wait()
        wait = Wait.of(
            flokit_conn_id=self.flokit_conn_id,
            integration_id=self.integration_id,
            integration_type=self.integration_type,
            receipt=self.receipt,
            synced_after=self.synced_after,
            start_timeout=self.start_timeout,
            fail_on_disconnected=self.fail_on_disconnected,
            tolerate_failures=self.tolerate_failures,
            required=self._conditions,
        )
        interval = seconds(self.poll_interval, "poll_interval", zero=True)
        timeout = seconds(self.timeout, "timeout", zero=True)
        if self.deadline is not None:
            seconds(self.deadline, "deadline", zero=True)
        left = self._seconds_left()
        end = time.monotonic() + left
        watch = Watch(wait, cast("Logger", self.log), elapsed=timeout - left)
        recheck = float("inf")
        with Poller.of(self.flokit_conn_id).waiter(wait.ids, wait.types, interval) as waiter:
            while True:
                now = time.monotonic()
                if now >= min(end, recheck):
                    news = await waiter.refreshed(GRACE if now >= end else end - now)
                    recheck = now + _RECHECK
                else:
                    news = await waiter.next(min(end, recheck, watch.next_heartbeat) - now)
                if isinstance(news, FlokitError):
                    return watch.failed(news)
                if news is not None:
                    if outcome := watch.look(news, stale=waiter.stale):
                        return outcome
                    later = float("inf") if watch.recheck_after is None else watch.recheck_after
                    recheck = time.monotonic() + max(later, _RECHECK)
                elif waiter.trouble is not None and time.monotonic() >= min(end, watch.next_heartbeat):
                    watch.trouble(waiter.trouble)
                if now >= end and not (news is not None and waiter.stale):
                    undefined = waiter.undefined
                    return watch.timed_out(timeout) if undefined is None else watch.failed(undefined)
                watch.heartbeat_if_due()


_RECHECK = 1.0
"""Seconds at least between two looks for which only time is the reason; the server tells it in whole seconds."""
