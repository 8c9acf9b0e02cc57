"""What the versions of Airflow do at the beginning and at the end of a deferral."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

BACKSTOP: Final = 120.0
"""
Seconds after a deferred wait's own deadline at which Airflow ends it. The trigger keeps the deadline itself; this is
for the case that no triggerer is alive to do so.
"""

_TEMPLATE = re.compile(r"\{[{%]")
_NEEDS_A_WORKER = re.compile(r"\b(ti|task_instance|task|var|conn|xcom_pull|inlet_events|outlet_events|macros)\b")


def ended_by_airflow(next_method: str, next_kwargs: dict[str, Any] | None) -> bool:
    """
    Tell whether Airflow resumes a task because its deferral took too long, not because a trigger fired.

    Airflow then names the pseudo method ``__fail__`` and says in ``error`` that a timeout is the reason: "Trigger
    timeout" (3.x) or "Trigger/execution timeout" (2.11). Any other failure of a trigger is not meant.

    :param next_method: As Airflow passes it to ``resume_execution``.
    :param next_kwargs: As Airflow passes it to ``resume_execution``.
    """
    return next_method == "__fail__" and "timeout" in str((next_kwargs or {}).get("error", "")).lower()


def raise_if_execution_timeout(execution_timeout: timedelta | None, timeout: float) -> None:
    """
    Tell a deferral that Airflow 2.11 ended for ``execution_timeout`` from one that outlived the wait's own timeout.

    There the shorter of both ends a deferral; from Airflow 3 on ``execution_timeout`` counts in workers only.

    :param execution_timeout: The task's.
    :param timeout: Seconds the wait was given.
    :raises AirflowTaskTimeout: as in a worker, if ``execution_timeout`` is what was over
    """
    if execution_timeout is not None and execution_timeout.total_seconds() < timeout:
        raise AirflowTaskTimeout(f"The task's execution_timeout of {execution_timeout} is over.")


def can_start_from_trigger(arguments: Mapping[str, Any]) -> bool:
    """
    Tell whether this Airflow can start a trigger with these arguments without a worker.

    Airflow 3.3 renders templates in the triggerer, but hangs on what needs the supervisor of a task, and hands an
    XComArg over as it is; 2.11 renders nothing; the versions between ignore ``start_from_trigger``.

    :param arguments: The trigger's templated arguments, unrendered.
    """
    if AIRFLOW_V_3_0_PLUS and not AIRFLOW_V_3_3_PLUS:
        return False
    return all(_is_plain(value) for value in arguments.values())


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        if not _TEMPLATE.search(value):
            return True
        return AIRFLOW_V_3_3_PLUS and not _NEEDS_A_WORKER.search(value)
    if isinstance(value, dict):
        return all(_is_plain(each) for each in (*value, *value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float)
