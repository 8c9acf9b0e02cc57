"""What the operator and the sensor share, and what Airflow's versions do differently around a deferral."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, conf, timezone
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_provider_flokit.assets.flokit import integration_of
from airflow_provider_flokit.gate.conditions import Checker
from airflow_provider_flokit.gate.wait import Ending
from airflow_provider_flokit.lineage import SyncReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_flokit.gate.wait import Outcome, Wait
    from airflow_provider_flokit.models import Integration, SyncReceipt

DEFERRABLE: Final = conf.getboolean("operators", "default_deferrable", fallback=False)

BACKSTOP: Final = 120.0
"""
Seconds after a deferred wait's own deadline at which Airflow ends the deferral. Normally the trigger ends it at the
deadline; this is only needed if no triggerer runs.
"""

_TEMPLATE: Final = re.compile(
    r"\{\{\s*(?:dag_run|data_interval_(?:start|end)|ds|logical_date|params|partition_(?:date|key)|run_id|ts)"
    r"(?:\.\w+|\[['\"]\w+['\"]\])*"  # an attribute or item of it
    r"(?:\s*\|\s*(?:ds|ts))?\s*\}\}"  # Airflow's filters for times
)
"""
A template that the triggerer of Airflow 3.3 can render: plain values of the run. ``ti``, ``var``, ``conn`` and others
ask the supervisor of a task, which hangs in the triggerer. The user's own macros and filters are missing there.
"""


class DeferredTask:
    """The part that the operator and the sensor share: the end of a wait, and resuming after a deferral."""

    try_began: datetime | None = None  # if Airflow's start_date is that of an earlier try

    @property
    def _check(self: Any) -> Checker:
        return Checker(f"{type(self).__name__} {self.task_id!r}")

    def resume_execution(self: Any, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the deferral; if Airflow ended it because no triggerer did, take one last look."""
        arguments = next_kwargs or {}
        event = arguments.get("event")
        number = event.get("try_number") if isinstance(event, dict) else None
        if number is not None and number != this_try(context):
            # Airflow 3.0 keeps the deferral when its try fails, and resumes every retry with the same event.
            self.try_began = datetime.now(tz=UTC)
            return self.execute(context)
        # Airflow gives a pseudo method, and "Trigger timeout" (3.x) or "Trigger/execution timeout" (2.11) as the error.
        if next_method == "__fail__" and "timeout" in str(arguments.get("error", "")).lower():
            # Airflow 3 does not count the execution_timeout while a task is deferred.
            left, limit = execution_left(self, context), self.execution_timeout
            if left is not None and left <= 0 and limit.total_seconds() < self.timeout:
                raise AirflowTaskTimeout(f"{self._check.owner}: the execution_timeout of {limit} is over.")
            return self._last_look(context)
        if next_method == "execute_complete":
            # Called directly: BaseSensorOperator would replace the reason of a skip by its own sentence.
            return self.execute_complete(context, **arguments)
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]

    def _ask_last(self: Any, wait: Wait) -> Outcome:
        """Look once more for a wait whose deferral Airflow has ended."""
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        wait.answered = wait.announced = True  # before the deferral
        return FlokitHook(wait.conditions.conn_id).ask(wait, last=True) or wait.timed_out()

    def _check_ready(self, outcome: Outcome) -> None:
        """Raise the exception of an outcome that is not ready."""
        if outcome.ending is Ending.EXECUTION_TIMED_OUT:
            raise AirflowTaskTimeout(outcome.message)
        if outcome.ending is not Ending.READY:
            raise outcome.exception()

    def _tell_outlets(self: Any, context: Context, now: Integration, receipt: SyncReceipt | None) -> SyncReport:
        """Add to the asset events of an integration's outlets what a sync has brought, and return the report of it."""
        report = SyncReport(now, receipt, self._statistics)
        for outlet in self.outlets:
            if integration_of(outlet) == now.id:
                context["outlet_events"][outlet].extra.update(report.extra)
        return report

    def _statistics(self: Any, integration_id: str) -> Integration | None:
        # Only a report that somebody wants needs the hook: a resumed task without outlets does not import requests.
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        return FlokitHook(self.flokit_conn_id).statistics(integration_id)


def this_try(context: Context) -> Any:
    """Return the number of the running try; None if there is no task instance."""
    return getattr(context.get("ti"), "try_number", None)


def execution_left(task: Any, context: Context) -> float | None:
    """
    Return the seconds until a task's ``execution_timeout``, counted from the start of the try; None if it has none.

    Airflow 3 itself does not count the time of a deferral (airflow#64048), and 3.3 gives a resumed task all of it anew.
    """
    if task.execution_timeout is None:
        return None
    now, ti = datetime.now(tz=UTC), cast("Any", context["ti"])
    started = task.try_began or ti.start_date or now  # dag.test() of Airflow 2 gives no start_date
    return float((started + task.execution_timeout - now).total_seconds())


def first_poke_at(context: Context, retries: int) -> datetime | None:
    """Return when a rescheduled sensor looked first in this series of tries; None if this is the first time."""
    ti: Any = context["ti"]
    if AIRFLOW_V_3_0_PLUS:
        found: datetime | str | None = ti.get_first_reschedule_date(context)
        return timezone.parse(found) if isinstance(found, str) else found  # Airflow 3.0 gives a text
    from airflow.models.taskreschedule import TaskReschedule
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    # Same query as in BaseSensorOperator: a cleared task gets a higher max_tries, and begins a new series.
    query = select(func.min(TaskReschedule.start_date)).where(
        TaskReschedule.dag_id == ti.dag_id,
        TaskReschedule.task_id == ti.task_id,
        TaskReschedule.run_id == ti.run_id,
        TaskReschedule.map_index == ti.map_index,
        TaskReschedule.try_number >= ti.max_tries - retries + 1,
    )
    with create_session() as session:
        first: datetime | None = session.scalar(query)
        return first


def can_start_from_trigger(arguments: Mapping[str, Any]) -> bool:
    """Tell whether this Airflow can start a trigger with these arguments without a worker."""
    # Only 3.3 renders templates in the triggerer. The versions between 2.11 and 3.3 ignore start_from_trigger.
    if AIRFLOW_V_3_0_PLUS and not AIRFLOW_V_3_3_PLUS:
        return False
    try:
        text = json.dumps(arguments, ensure_ascii=False).replace('\\"', '"')  # as templates have it
    except TypeError:  # an XComArg
        return False
    return not re.search(r"\{[{%#]", _TEMPLATE.sub("", text) if AIRFLOW_V_3_3_PLUS else text)
