"""Triggers: waiting for FloKit in the triggerer, and watching it for assets."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_flokit.arguments import conditions_of, connection_id, seconds
from airflow_provider_flokit.deferral import BACKSTOP
from airflow_provider_flokit.errors import FlokitError, FlokitPermanentError
from airflow_provider_flokit.events import checked_on
from airflow_provider_flokit.models import checked_id
from airflow_provider_flokit.models import as_utc
from airflow_provider_flokit.outcome import Outcome
from airflow_provider_flokit.triggers._poller import Poller
from airflow_provider_flokit.triggers._turns import Turns
from airflow_provider_flokit.triggers._watcher import Store, Watcher, answers
from airflow_provider_flokit.wait import Wait
from airflow_provider_flokit.watch import GRACE, Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from logging import Logger

    from airflow_provider_flokit.triggers._stream import Delivery, WorkspaceStream

_RECHECK: Final = 1.0
"""Seconds at least between two looks for which only time is the reason; the server tells it in whole seconds."""


class FlokitIntegrationTrigger(BaseTrigger):
    """
    Wait until integrations are ready, have failed, or the time is over; then fire once.

    All triggers of one triggerer that wait on the same connection share one poll. Everything the wait needs is in the
    arguments, so a restart of the triggerer loses nothing. The event is what
    :class:`airflow_provider_flokit.outcome.Outcome` writes, and the receipt.

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
    :param try_number: The try that waits; the event repeats it. Default: None, not told.
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
        flokit_conn_id: str = "flokit_default",
        poll_interval: float = 30.0,
        timeout: float = 3600.0,
        deadline: float | None = None,
        start_timeout: float = 300.0,
        fail_on_disconnected: bool = True,
        tolerate_failures: bool = False,
        try_number: int | None = None,
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
        self.try_number = try_number
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
                "try_number": self.try_number,
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
        event = {**outcome.to_event(), "receipt": self.receipt, "try_number": self.try_number}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    def _seconds_left(self, timeout: float) -> float:
        if self.deadline is not None:
            return seconds(self.deadline, "deadline", zero=True) - time.time()
        # Started by the scheduler, not by a worker: the triggerer says when Airflow will end the deferral, which holds
        # through restarts.
        ends: datetime | None = getattr(self, "timeout_after", None)
        if ends is None:
            return timeout
        return min(timeout, as_utc(ends).timestamp() - BACKSTOP - time.time())

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
        left = self._seconds_left(timeout)
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


class FlokitSyncedTrigger(BaseEventTrigger):
    """
    Tell an asset's watcher each time an integration has synced; it never ends.

    For ``Asset(..., watchers=[AssetWatcher(name=..., trigger=FlokitSyncedTrigger(integration_id=...))])``: a DAG that
    is scheduled on the asset starts when FloKit has synced. What an event tells says
    :func:`airflow_provider_flokit.events.payload`. All watchers and waits of one triggerer on the same connection
    share one poll; failures of the API are sat out with growing pauses and make no event.

    On Airflow 3.3 and later the asset state store keeps what was seen: a restart of the triggerer, also a kill, loses
    no event, and repeats one only if it was killed within the second or two in which Airflow confirms it. What happens
    while no triggerer runs, or while all DAGs of the asset are paused, makes one event afterwards. On Airflow 3.0 to
    3.2 there is no such store, and what happens between two runs of the triggerer is not seen.

    :param integration_id: Id of the integration, e.g. ``int_01hx4j7stripe``.
    :param flokit_conn_id: Airflow connection of type ``flokit``; a read-only key is enough.
    :param poll_interval: Seconds between polls; the shortest one asked for on the connection counts. Several syncs
        between two polls make one event. Default 30.
    :param on: ``"synced"`` (default): ``last_synced_at`` has moved. ``"error"``: the integration went into error.
        ``"any"``: both.
    :raises FlokitPermanentError: on Airflow 2, which has no asset watchers
    """

    def __init__(
        self,
        integration_id: str,
        *,
        flokit_conn_id: str = "flokit_default",
        poll_interval: float = 30.0,
        on: str = "synced",
    ) -> None:
        if not AIRFLOW_V_3_0_PLUS:
            raise FlokitPermanentError(
                "FlokitSyncedTrigger needs Airflow 3: older versions have no asset watchers. Upgrade Airflow, or wait "
                "with FlokitIntegrationSensor."
            )
        super().__init__()  # type: ignore[no-untyped-call]
        self.integration_id = checked_id(integration_id)
        self.flokit_conn_id = connection_id(flokit_conn_id)
        self.poll_interval = seconds(poll_interval, "poll_interval")
        self.on = checked_on(on)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, for the trigger table; equal ones share a row."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "integration_id": self.integration_id,
                "flokit_conn_id": self.flokit_conn_id,
                "poll_interval": self.poll_interval,
                "on": self.on,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll and yield events, where Airflow has no shared streams (before 3.3)."""
        watcher = Watcher(self.integration_id, self.flokit_conn_id, self.on)
        async for snapshot in answers(self.flokit_conn_id, self.poll_interval):
            for payload in await watcher.look(snapshot):
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]

    def shared_stream_key(self) -> tuple[str, ...]:
        """Return what the poll depends on: watchers with the same key share a stream (Airflow 3.3 and later)."""
        return ("flokit", self.flokit_conn_id, str(self.poll_interval))

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> WorkspaceStream:
        """
        Make the stream for all watchers with the same key.

        :param kwargs: The arguments of one of them.
        """
        from airflow_provider_flokit.triggers._stream import WorkspaceStream

        return WorkspaceStream(kwargs["flokit_conn_id"], kwargs["poll_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Delivery]) -> AsyncIterator[TriggerEvent]:
        """
        Yield the events of this watcher's integration.

        :param shared_stream: The answers of the shared poll.
        """
        accessors = getattr(self, "asset_state_store", None)
        key = f"flokit/{self.on}/{self.flokit_conn_id}/{self.integration_id}"
        store = None if accessors is None else Store(accessors, key)
        watcher = Watcher(self.integration_id, self.flokit_conn_id, self.on, store)
        async for delivery in shared_stream:
            for payload in await watcher.look(delivery.snapshot):
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
            if (memory := watcher.unsaved) is not None:
                delivery.saves.append((watcher, memory))
