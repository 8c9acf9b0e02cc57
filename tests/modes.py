"""
Runs one task in each mode of waiting, the way Airflow does, and says how it ended.

* ``worker``: ``execute()`` in one process.
* ``reschedule``: ``execute()`` anew for every poke, each on a fresh copy of the task, as each is a process of its own.
* ``deferred``: ``execute()`` defers; the trigger is rebuilt from its serialised row and run in an event loop; the task
  resumes, on a fresh copy, with the event as it comes out of the database.
* ``abandoned``: as deferred, but no triggerer is alive, and Airflow itself ends the deferral when its time is over.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pendulum
import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    TaskDeferred,
    timezone,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_flokit.simulator import Simulator

WORKER, RESCHEDULE, DEFERRED, ABANDONED = "worker", "reschedule", "deferred", "abandoned"
AIRFLOW_ENDS_A_DEFERRAL = {"error": "Trigger/execution timeout"}

STRIPE, ADJUST, ADAPTY = "int_01hx4j7stripe", "int_01hx4j7adjust", "int_01hx4j7adapty"
LIST = "/v1/integrations"
BEFORE, AFTER = "2024-03-15T12:00:00Z", "2024-03-15T13:00:00Z"

SENSORS = pytest.mark.parametrize("mode", [WORKER, RESCHEDULE, DEFERRED])
"""For what a sensor does in each of its modes."""

EACH_FORM = [
    ("sensor", WORKER),
    ("sensor", RESCHEDULE),
    ("sensor", DEFERRED),
    ("operator", WORKER),
    ("operator", DEFERRED),
]
FORMS = pytest.mark.parametrize("form", EACH_FORM, ids=" ".join)
"""For a wait for a sync in each of its forms; see :func:`sync_and_wait`."""


class TaskStateStore(dict[str, Any]):
    """What Airflow 3.3 offers as ``context["task_state_store"]``; values pass through JSON there too."""

    def set(self, key: str, value: Any) -> None:
        """Write a value."""
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        """Forget a value."""
        self.pop(key, None)


@dataclass
class TaskInstance:
    """What a task sees of its task instance."""

    task: BaseOperator
    xcoms: dict[str, Any] = field(default_factory=dict)
    first_reschedule: datetime | None = None
    try_number: int = 1
    max_tries: int = 0
    start_date: datetime = field(default_factory=lambda: datetime.now(tz=UTC))

    def xcom_push(self, key: str, value: Any) -> None:
        """Store an XCom, through JSON as Airflow does."""
        self.xcoms[key] = json.loads(json.dumps(value))

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        """Tell when the task was first rescheduled."""
        return self.first_reschedule


@dataclass(frozen=True)
class End:
    """How a task ended."""

    state: str  # success, failed or skipped
    error: str  # the exception's class
    message: str  # and what it says
    task: Any  # as it was when it ended
    xcoms: dict[str, Any]  # the return value among them
    extras: dict[str, Any] = field(default_factory=dict)  # of the asset events of its outlets, by the asset's URI

    @property
    def value(self) -> Any:
        """The return value."""
        return self.xcoms.get("return_value")

    @property
    def last_seen(self) -> dict[str, Any]:
        """The integration as a wait that succeeded saw it last."""
        assert self.state == "success", self.message
        state: dict[str, Any] = self.xcoms.get("integration") or self.value
        return state


def sense(mode: str = WORKER, *, settle: float = 0.0, **arguments: Any) -> End:
    """Wait with a sensor that looks often."""
    settings: dict[str, Any] = {
        "poke_interval": 0.05,
        "timeout": 60,
        "deferrable": mode in (DEFERRED, ABANDONED),
        "mode": "reschedule" if mode == RESCHEDULE else "poke",
        **arguments,
    }
    return run(lambda: FlokitIntegrationSensor(task_id="wait", **settings), mode, settle=settle)


def operate(mode: str = WORKER, *, settle: float = 0.0, **arguments: Any) -> End:
    """Start a sync, and wait for it, looking often, if asked to."""
    settings: dict[str, Any] = {
        "integration_id": STRIPE,
        "poll_interval": 0.05,
        "timeout": 60,
        "deferrable": mode in (DEFERRED, ABANDONED),
        **arguments,
    }
    return run(lambda: FlokitTriggerSyncOperator(task_id="sync", **settings), mode, settle=settle)


def sync_and_wait(form: tuple[str, str], *, interval: float = 0.05, **settings: Any) -> End:
    """Start a sync and wait for it, as one task or as two."""
    kind, mode = form
    if kind == "operator":
        return operate(mode, wait_for_completion=True, poll_interval=interval, **settings)
    return sense(mode, receipt=operate().value, poke_interval=interval, **settings)


def run(make: Callable[[], BaseOperator], mode: str, *, settle: float = 0.0) -> End:
    """Run a task, made with ``deferrable`` and ``mode`` as its mode needs, to its end; ``settle`` is its SETTLE."""
    ti = TaskInstance(make())
    events = _outlet_events()
    context: Any = {"ti": ti, "task_instance": ti, "outlet_events": events}
    try:
        with patch.object(FlokitIntegrationTrigger, "SETTLE", settle):
            value = (_rescheduled if mode == RESCHEDULE else _resumed)(make, ti, context, mode)
    except (Exception, AirflowTaskTimeout) as error:
        state = "skipped" if isinstance(error, AirflowSkipException) else "failed"
        return End(state, type(error).__name__, str(error), ti.task, ti.xcoms)
    if value is not None:
        ti.xcom_push("return_value", value)
    extras = {outlet.uri: json.loads(json.dumps(events[outlet].extra)) for outlet in ti.task.outlets}
    return End("success", "", "", ti.task, ti.xcoms, extras)


def _outlet_events() -> Any:
    """Return what Airflow gives a task as ``context["outlet_events"]``."""
    if not AIRFLOW_V_3_0_PLUS:
        return importlib.import_module("airflow.utils.context").OutletEventAccessors()
    return importlib.import_module("airflow.sdk.execution_time.context").OutletEventAccessors()


def _rescheduled(make: Callable[[], BaseOperator], ti: TaskInstance, context: Any, _: str) -> Any:
    started = datetime.now(tz=UTC)
    # Airflow 2 is asked in its database; there is none here.
    with patch("airflow_provider_flokit.sensors.flokit.first_poke_at", lambda *_: ti.first_reschedule):
        while True:
            ti.task = make()
            try:
                return ti.task.execute(context)
            except AirflowRescheduleException as again:
                ti.first_reschedule = ti.first_reschedule or started
                time.sleep(max((again.reschedule_date - datetime.now(tz=UTC)).total_seconds(), 0))


def _resumed(make: Callable[[], BaseOperator], ti: TaskInstance, context: Any, mode: str) -> Any:
    try:
        return ti.task.execute(context)
    except TaskDeferred as deferred:
        if mode not in (DEFERRED, ABANDONED) or deferred.timeout is None:
            raise AssertionError("the task deferred, but was not to, or without a timeout") from deferred
        ti.task = make()
        if mode == ABANDONED:
            return ti.task.resume_execution("__fail__", AIRFLOW_ENDS_A_DEFERRAL, context)
        arguments = {**(deferred.kwargs or {}), "event": event_of(deferred)}
        return ti.task.resume_execution(deferred.method_name, arguments, context)


def event_of(deferred: TaskDeferred) -> Any:
    """Run a deferral's trigger, rebuilt from its row, and return the event as it comes out of the database."""
    path, arguments = deferred.trigger.serialize()
    module, _, name = path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))
    return json.loads(json.dumps(asyncio.run(first_event(trigger))))


async def first_event(trigger: Any) -> Any:
    """Run a trigger to its first event, and return what that carries."""
    events = trigger.run()
    try:
        return (await anext(events)).payload
    finally:
        await events.aclose()
        await asyncio.sleep(0)


@contextmanager
def airflow_in(zone: str) -> Iterator[None]:
    """Let ``[core] default_timezone``, which Airflow reads when it starts, be another one."""
    module: Any = timezone
    if hasattr(module, "initialize"):  # Airflow 3.2 and later
        module.initialize(zone)
    with patch("airflow.settings.TIMEZONE", pendulum.timezone(zone)):
        yield
    if hasattr(module, "initialize"):
        module.initialize("UTC")


@contextmanager
def staged(flokit: Simulator, *acts: Callable[[], object]) -> Iterator[None]:
    """Do one thing after the other while the block waits, each when two looks have shown how it was before."""
    failures: list[BaseException] = []

    def play() -> None:
        try:
            for act in acts:
                until, seen = time.monotonic() + 50, looks(flokit)
                while looks(flokit) < seen + 2:
                    assert time.monotonic() < until, "nobody looks"
                    time.sleep(0.005)
                act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert failures == []


def looks(flokit: Simulator, status: int | None = None) -> int:
    """Count the requests for the list, which waits alone make; or its answers of one status."""
    return sum(r.path == LIST and status in (None, r.status) for r in flokit.requests)


def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which tasks and triggers log from now on, each line with its level."""
    lines: list[str] = []
    log = logging.Logger("logged")  # noqa: LOG001 - apart from everybody else's logging
    log.addFilter(lambda r: lines.append(f"{r.levelname} {r.getMessage()}"))  # type: ignore[arg-type,func-returns-value]
    for kind in (FlokitTriggerSyncOperator, FlokitIntegrationSensor, FlokitIntegrationTrigger):
        monkeypatch.setattr(kind, "log", log)
    return lines
