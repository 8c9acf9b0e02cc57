"""Triggers that wait for FloKit in the triggerer, or watch it for assets."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import timezone
from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_flokit._airflow import BACKSTOP, execution_left, this_try
from airflow_provider_flokit.errors import FlokitArgumentError, FlokitError, FlokitPermanentError, shown
from airflow_provider_flokit.gate.conditions import ARGUMENTS, START_TIMEOUT, Checker, Conditions
from airflow_provider_flokit.gate.wait import Ending, Outcome, Wait
from airflow_provider_flokit.models import checked_id
from airflow_provider_flokit.triggers._asset_events import WATCHED, Watcher, WorkspaceStream
from airflow_provider_flokit.triggers._poller import Poller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_flokit.triggers._asset_events import Delivery


@dataclass(kw_only=True, eq=False, repr=False)
class FlokitIntegrationTrigger(BaseTrigger):
    """
    Wait until integrations are ready, have failed, or the time is over; then send one event.

    In one triggerer, all triggers that wait on the same connection share one poll. The arguments hold everything that
    the wait needs, so a restart of the triggerer loses nothing. The event is an
    :class:`airflow_provider_flokit.gate.wait.Outcome`, with the receipt and the number of the try.

    :param integration_id: Id of the integration, or a list of ids that must all be ready.
    :param integration_type: Type of the integration, or a list of types; exactly one integration must have each type.
    :param receipt: Receipt of the sync to wait for, as JSON, or a list of receipts.
    :param synced_after: ISO 8601 time that ``last_synced_at`` must reach.
    :param flokit_conn_id: Airflow connection of type ``flokit``.
    :param poll_interval: Seconds between polls; the shortest interval on the connection counts. Default 30.
    :param timeout: Seconds that the whole wait may take. Default 3600.
    :param deadline: When the wait ends, in seconds since the epoch. Default: ``timeout`` after the trigger's start.
    :param execution_deadline: When the task's ``execution_timeout`` is over, in seconds since the epoch. Default:
        never.
    :param start_timeout: Seconds for which an error older than the receipt's sync is ignored. Default 300.
    :param fail_on_disconnected: Whether a disconnected integration ends the wait. Default True.
    :param tolerate_failures: Only log failures and go on waiting. Default False.
    :param try_number: The number of the task's try; the event repeats it. Default: None, unknown.
    """

    log: ClassVar[logging.Logger] = logging.getLogger(f"{__name__}.FlokitIntegrationTrigger")  # type: ignore[assignment]
    """One for all triggers: Airflow's own logger takes a kilobyte for each. The context selects the task's log."""

    SETTLE: ClassVar[float] = 10.0
    """
    Least seconds between the start of a trigger that a worker deferred and its event. If a task resumes before a busy
    scheduler has noticed the deferral, the scheduler takes it for dead and fails it ("finished with state success, but
    the task instance's state attribute is queued"): airflow#71172, seen after 7 s on two overloaded cores.
    """

    integration_id: str | list[str] | None = None
    integration_type: str | list[str] | None = None
    receipt: dict[str, Any] | list[dict[str, Any]] | None = None
    synced_after: str | None = None
    flokit_conn_id: str = "flokit_default"
    poll_interval: float = 30.0
    timeout: float = 3600.0
    deadline: float | None = None
    execution_deadline: float | None = None
    start_timeout: float = START_TIMEOUT
    fail_on_disconnected: bool = True
    tolerate_failures: bool = False
    try_number: int | None = None

    def __post_init__(self) -> None:
        """Begin as Airflow's triggers do."""
        super().__init__()  # type: ignore[no-untyped-call]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, for the trigger table."""
        return classpath(type(self)), {each.name: getattr(self, each.name) for each in fields(self)}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the event."""
        started, deferred_by_a_worker = time.monotonic(), self.deadline is not None
        try:
            wait = self._wait()
            poller = Poller.of(wait.conditions.conn_id)
            place = poller.join(wait, self.poll_interval, hurry=not deferred_by_a_worker)
            try:
                outcome = await place.future
            finally:
                poller.leave(place)
        except FlokitError as error:
            outcome = Outcome(Ending.FAILED, message=str(error), error=type(error).__name__)
        if deferred_by_a_worker and self.task_instance is not None:
            await asyncio.sleep(max(self.SETTLE - (time.monotonic() - started), 0.0))
        event = {**outcome.to_event(), "receipt": self.receipt, "try_number": self.try_number}
        yield TriggerEvent(event)

    def _wait(self) -> Wait:
        task_id = getattr(self.task_instance, "task_id", None)
        conditions = Conditions.of(
            {name: getattr(self, name) for name in ARGUMENTS},
            owner=f"{type(self).__name__} {task_id!r}" if task_id else type(self).__name__,
            to_utc=timezone.convert_to_utc,
        )
        elapsed = self.timeout - self._seconds_left()
        execution_left = None if self.execution_deadline is None else self.execution_deadline - time.time()
        # A worker that deferred the task has looked once, and logged the beginning.
        before = self.deadline is not None
        return Wait(conditions, self.log, self.timeout, elapsed, execution_left, answered=before, announced=before)

    def _seconds_left(self) -> float:
        if self.deadline is not None:
            return self.deadline - time.time()
        # Started by the scheduler, not by a worker: use the end of the deferral, which a restart does not change.
        ends: datetime | None = getattr(self, "timeout_after", None)
        if ends is None:  # Airflow 2.11
            ends = getattr(self.task_instance, "trigger_timeout", None)
        if ends is None:
            return self.timeout
        return min(self.timeout, timezone.convert_to_utc(ends).timestamp() - BACKSTOP - time.time())


def defer(task: Any, wait: Wait, context: Context, poll_interval: float) -> None:
    """Defer a task until its wait is over; return if so little time is left that the worker should wait itself."""
    now, limit = time.time(), execution_left(task, context)
    deadline = now + wait.deadline - time.monotonic()
    execution_deadline = None if limit is None else now + limit
    if min(deadline, execution_deadline or deadline) - now < FlokitIntegrationTrigger.SETTLE:
        return
    task.defer(
        trigger=FlokitIntegrationTrigger(
            **wait.conditions.to_arguments(),
            poll_interval=poll_interval,
            timeout=task.timeout,
            deadline=deadline,
            execution_deadline=execution_deadline,
            try_number=this_try(context),
        ),
        method_name="execute_complete",
        timeout=timedelta(seconds=task.timeout + BACKSTOP),
    )


class FlokitSyncedTrigger(BaseEventTrigger):
    """
    Send an asset's watcher an event each time an integration has synced; it never ends.

    For ``Asset(..., watchers=[AssetWatcher(name=..., trigger=FlokitSyncedTrigger(integration_id=...))])``: a DAG that
    is scheduled on the asset starts when FloKit has synced. The event's payload is ``event`` (``synced`` or ``error``),
    ``integration_id``, ``last_synced_at``, ``previous_synced_at``, ``error_message`` and the whole ``integration``. All
    watchers and waits of one triggerer on the same connection share one poll. A failure of the API makes no event; the
    poll goes on with longer pauses.

    From Airflow 3.3 the watcher's memory is in the asset state store. A restart or a kill of the triggerer loses no
    event. It repeats an event only if the kill comes in the second or two in which Airflow confirms the event. Syncs
    while no triggerer runs, or while all DAGs of the asset are paused, make one event afterwards. Airflow 3.0 to 3.2
    has no such store: what happens between two runs of the triggerer makes no event.

    :param integration_id: Id of the integration, e.g. ``int_01hx4j7stripe``.
    :param flokit_conn_id: Airflow connection of type ``flokit``; a read-only key is enough.
    :param poll_interval: Seconds between polls; the shortest interval on the connection counts. Several syncs between
        two polls make one event. Default 30.
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
        check = Checker(type(self).__name__)
        if not AIRFLOW_V_3_0_PLUS:
            raise FlokitPermanentError(
                f"{check.owner} needs Airflow 3: older versions have no asset watchers. Upgrade Airflow, or wait with "
                f"FlokitIntegrationSensor."
            )
        super().__init__()  # type: ignore[no-untyped-call]
        self.integration_id = checked_id(integration_id, f"{check.owner}: integration_id")
        self.flokit_conn_id = check.text("flokit_conn_id", flokit_conn_id)
        self.poll_interval = check.seconds("poll_interval", poll_interval)
        if on not in WATCHED:
            raise check.wrong("on", f"is {shown(repr(on))}", "give 'synced', 'error' or 'any'")
        self.on = on

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, for the trigger table; equal triggers share a row."""
        return classpath(type(self)), {
            "integration_id": self.integration_id,
            "flokit_conn_id": self.flokit_conn_id,
            "poll_interval": self.poll_interval,
            "on": self.on,
        }

    @property
    def name(self) -> str:
        """Raise an error: Airflow reads this name if the trigger is given where a watcher is expected."""
        raise FlokitArgumentError(
            "FlokitSyncedTrigger is a trigger, not a watcher: write "
            "watchers=[AssetWatcher(name=..., trigger=FlokitSyncedTrigger(...))]."
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll and yield events; used before Airflow 3.3, which has shared streams."""
        watcher = Watcher(self.integration_id, self.flokit_conn_id, self.on)
        poller = Poller.of(self.flokit_conn_id)
        with poller.reading([self.integration_id]):
            async for result in poller.results(self.poll_interval):
                for payload in await watcher.look(result):
                    yield TriggerEvent(payload)

    def shared_stream_key(self) -> tuple[str, ...]:
        """Return the key of the poll: watchers with the same key share a stream (Airflow 3.3 and later)."""
        return ("flokit", self.flokit_conn_id, str(self.poll_interval))

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> WorkspaceStream:
        """Make the stream for all watchers with the same key, from the arguments of one of them."""
        return WorkspaceStream(kwargs["flokit_conn_id"], kwargs["poll_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Delivery]) -> AsyncIterator[TriggerEvent]:
        """Yield the events of this watcher's integration from the results of the shared poll."""
        store = getattr(self, "asset_state_store", None)
        watcher = Watcher(self.integration_id, self.flokit_conn_id, self.on, store)
        with Poller.of(self.flokit_conn_id).reading([self.integration_id]):
            async for delivery in shared_stream:
                for payload in await watcher.look(delivery.result):
                    yield TriggerEvent(payload)
                delivery.memories[watcher] = watcher.memory


def classpath(trigger: type) -> str:
    """Return a class's path as in the trigger table."""
    return f"{trigger.__module__}.{trigger.__qualname__}"
