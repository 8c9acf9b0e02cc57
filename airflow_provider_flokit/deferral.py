"""What the versions of Airflow do at the beginning and at the end of a deferral."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS
from jinja2 import Environment, TemplateSyntaxError, meta, nodes

from airflow_provider_flokit.arguments import TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

BACKSTOP: Final = 120.0
"""
Seconds after a deferred wait's own deadline at which Airflow ends it. The trigger keeps the deadline itself; this is
for the case that no triggerer is alive to do so.
"""

_PLAIN_NAMES: Final = frozenset(
    {
        "dag_run",
        "data_interval_end",
        "data_interval_start",
        "ds",
        "ds_nodash",
        "logical_date",
        "params",
        "partition_date",
        "partition_key",
        "run_id",
        "task_instance_key_str",
        "ts",
        "ts_nodash",
        "ts_nodash_with_tz",
    }
)
"""
What a template may use in the triggerer: plain values of the run. All else asks the supervisor of a task (``ti``,
``var``, ``conn``, ``prev_start_date_success`` ...), which hangs there, or comes with the DAG (macros and filters of the
user's), which is not there.
"""

_JINJA: Final = Environment()  # noqa: S701 - it reads templates and renders none
_JINJA.filters.update(dict.fromkeys(("ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz"), str))  # Airflow's


def ended_by_airflow(next_method: str, next_kwargs: dict[str, Any] | None) -> bool:
    """
    Tell whether Airflow resumes a task because its deferral took too long, not because a trigger fired.

    Airflow then names the pseudo method ``__fail__`` and says in ``error`` that a timeout is the reason: "Trigger
    timeout" (3.x) or "Trigger/execution timeout" (2.11). Any other failure of a trigger is not meant.

    :param next_method: As Airflow passes it to ``resume_execution``.
    :param next_kwargs: As Airflow passes it to ``resume_execution``.
    """
    return next_method == "__fail__" and "timeout" in str((next_kwargs or {}).get("error", "")).lower()


def this_try(context: Context) -> int | None:
    """
    Return the number of the try that runs, None where there is no task instance.

    :param context: The task's context.
    """
    number = getattr(context.get("ti"), "try_number", None)
    return number if isinstance(number, int) else None


def is_of_another_try(next_kwargs: dict[str, Any] | None, context: Context) -> bool:
    """
    Tell whether a task is resumed with the event of an earlier try.

    Airflow 3.0 does not forget a deferral when its try fails, and would resume every retry with the same old event.

    :param next_kwargs: As Airflow passes it to ``resume_execution``.
    :param context: The context of the try that is resumed.
    """
    event = (next_kwargs or {}).get("event")
    number = event.get("try_number") if isinstance(event, dict) else None
    return number is not None and number != this_try(context)


def raise_if_execution_timeout(execution_timeout: timedelta | None, timeout: float) -> None:
    """
    Tell a deferral that Airflow 2.11 ended for ``execution_timeout`` from one that outlived the wait's own timeout.

    There the shorter of both ends a deferral; from Airflow 3 on ``execution_timeout`` counts in workers only.

    :param execution_timeout: The task's.
    :param timeout: Seconds the wait was given.
    :raises AirflowTaskTimeout: as in a worker, if ``execution_timeout`` is what was over
    """
    if AIRFLOW_V_3_0_PLUS or execution_timeout is None:
        return
    if execution_timeout.total_seconds() < timeout:
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
        return not TEMPLATE.search(value) or (AIRFLOW_V_3_3_PLUS and _uses_plain_values_only(value))
    if isinstance(value, dict):
        return all(_is_plain(each) for each in (*value, *value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float)


def _uses_plain_values_only(template: str) -> bool:
    try:
        tree = _JINJA.parse(template)
        names = meta.find_undeclared_variables(tree)
    except TemplateSyntaxError:
        return False
    filters = {node.name for node in tree.find_all(nodes.Filter)}
    tests = {node.name for node in tree.find_all(nodes.Test)}
    return names <= _PLAIN_NAMES and filters <= _JINJA.filters.keys() and tests <= _JINJA.tests.keys()
