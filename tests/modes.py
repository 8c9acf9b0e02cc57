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
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pendulum
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    TaskDeferred,
    timezone,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.triggers.base import TriggerEvent

WORKER, RESCHEDULE, DEFERRED, ABANDONED = "worker", "reschedule", "deferred", "abandoned"
AIRFLOW_ENDS_A_DEFERRAL = {"error": "Trigger/execution timeout"}


class TaskStateStore:
    """What Airflow 3.3 offers as ``context["task_state_store"]``; values pass through JSON there too."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        """Read a value."""
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any) -> None:
        """Write a value."""
        self.values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        """Forget a value."""
        self.values.pop(key, None)


@dataclass
class TaskInstance:
    """What a task sees of its task instance."""

    task: BaseOperator
    xcoms: dict[str, Any] = field(default_factory=dict)
    traces: list[Any] = field(default_factory=list)
    first_reschedule: datetime | None = None
    dag_id: str = "dag"
    run_id: str = "run"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    start_date: datetime = field(default_factory=lambda: datetime.now(tz=UTC))

    @property
    def task_id(self) -> str:
        """Id of the task."""
        return self.task.task_id

    def xcom_push(self, key: str, value: Any) -> None:
        """Store an XCom, through JSON as Airflow does."""
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str = "return_value", map_indexes: int = -1) -> Any:
        """Read an XCom of this task."""
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        """Tell when the task was first rescheduled."""
        return self.first_reschedule


@dataclass(frozen=True)
class End:
    """
    How a task ended.

    :param state: success, failed or skipped.
    :param error: The exception's class.
    :param message: Its message.
    :param xcoms: All XComs, the return value among them.
    :param extras: What the asset events of the task's outlets carry, by the asset's URI.
    :param traces: What else it left: its exception, its trigger's row and event, its rendered fields.
    """

    state: str
    error: str
    message: str
    xcoms: dict[str, Any]
    extras: dict[str, Any] = field(default_factory=dict)
    traces: list[Any] = field(default_factory=list, compare=False, repr=False)

    @property
    def value(self) -> Any:
        """The return value."""
        return self.xcoms.get("return_value")


def run(make: Callable[[], BaseOperator], mode: str, monkeypatch: Any = None, *, settle: float = 0.0) -> End:
    """
    Run a task to its end.

    :param make: Makes the task, with ``deferrable`` and ``mode`` set as the mode needs.
    :param mode: One of the four.
    :param monkeypatch: Ignored; some callers pass it.
    :param settle: Seconds below which a task polls on in the worker instead of leaving it.
    """
    ti = TaskInstance(make())
    events = _outlet_events()
    context: Any = {"ti": ti, "task_instance": ti, "outlet_events": events}
    try:
        with patch.object(FlokitIntegrationTrigger, "SETTLE", settle):
            value = (_rescheduled if mode == RESCHEDULE else _resumed)(make, ti, context, mode)
    except (Exception, AirflowTaskTimeout) as error:
        state = "skipped" if isinstance(error, AirflowSkipException) else "failed"
        return End(state, type(error).__name__, str(error), ti.xcoms, traces=[error, *_traces(ti)])
    if value is not None:
        ti.xcom_push("return_value", value)
    extras = {outlet.uri: json.loads(json.dumps(events[outlet].extra)) for outlet in ti.task.outlets}
    return End("success", "", "", ti.xcoms, extras, _traces(ti))


def _traces(ti: TaskInstance) -> list[Any]:
    return [*ti.traces, *(getattr(ti.task, name) for name in ti.task.template_fields)]


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
                ti.traces.append(again)
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
        path, arguments, event, trigger = fired(deferred)
        ti.traces += [path, arguments, event, trigger]
        return ti.task.resume_execution(deferred.method_name, {**(deferred.kwargs or {}), "event": event}, context)


def event_of(deferred: TaskDeferred) -> Any:
    """Run a deferral's trigger, rebuilt from its row, and return the event as it comes out of the database."""
    return fired(deferred)[2]


def fired(deferred: TaskDeferred) -> tuple[str, dict[str, Any], Any, Any]:
    """Run a deferral's trigger, rebuilt from its row; return the row, the event as the database has it, the trigger."""
    path, arguments = deferred.trigger.serialize()
    module, _, name = path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))
    return path, arguments, json.loads(json.dumps(asyncio.run(_first_event(trigger)).payload)), trigger


async def _first_event(trigger: Any) -> TriggerEvent:
    events = trigger.run()
    try:
        return await anext(events)
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
