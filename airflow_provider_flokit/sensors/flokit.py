"""Sensors: waiting until FloKit's integrations are ready."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_flokit.arguments import CONDITIONS, conditions_of, flag, seconds
from airflow_provider_flokit.errors import FlokitArgumentError, FlokitError
from airflow_provider_flokit.literals import check_connection_id, check_ids, check_moment, check_receipt, check_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from logging import Logger
    from typing import NoReturn

    from airflow.providers.common.compat.sdk import Context, XComArg
    from jinja2 import Environment

    from airflow_provider_flokit.hooks.flokit import FlokitHook
    from airflow_provider_flokit.outcome import Outcome
    from airflow_provider_flokit.wait import Wait
    from airflow_provider_flokit.watch import Watch

_DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)

_CLOCK_GRAIN = 0.01
"""Seconds by which the last poke comes after the deadline rather than before it."""

_poke_loop = inspect.unwrap(BaseSensorOperator.execute)
"""
Airflow's own. What Airflow 2 wraps around it takes a subclass's call for one from outside the task: it warns, and
raises if ``allow_nested_operators`` is False.
"""


class FlokitIntegrationSensor(BaseSensorOperator):
    """
    Wait until FloKit integrations are connected, or that very sync has succeeded; fail if one is in error.

    The outcome, the exception and its message are the same whether the wait runs in the worker (``mode="poke"``),
    rescheduled (``mode="reschedule"``) or deferred (``deferrable=True``). Deferred, all waits on one connection share
    one request per interval. ``soft_fail`` and ``never_fail`` turn every failure and the timeout into a skip,
    ``silent_fail`` logs failures of syncs and goes on waiting; ``exponential_backoff`` and ``max_wait`` stretch the
    polls of a worker only.

    The return value is the integration's state as JSON, or a list of them if a list was given. The asset events of its
    outlets for the integrations (:func:`~airflow_provider_flokit.assets.flokit.flokit_asset`) carry ``last_synced_at``
    and ``events_total``, and with a receipt also ``sync_id``, ``previous_synced_at`` and ``events_brought``.

    :param integration_id: Id of the integration, or a list of ids that must all be ready (templated).
    :param integration_type: Type of the integration, or a list of types; exactly one integration must have it
        (templated).
    :param receipt: XCom ``receipt`` of a :class:`~airflow_provider_flokit.operators.flokit.FlokitTriggerSyncOperator`,
        or a list of receipts: wait for that sync and no other (templated).
    :param synced_after: Datetime or ISO 8601 text: ``last_synced_at`` must be at or after it (templated).
    :param flokit_conn_id: Airflow connection of type ``flokit``; a read-only key is enough (templated).
    :param deferrable: Wait in the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param start_timeout: Seconds for which an error older than the receipt's sync is forgiven. Default 300.
    :param fail_on_disconnected: False waits for a disconnected integration to come back; without a receipt only.
        Default True.
    :param start_from_trigger: Begin the wait in the triggerer, without a worker; implies ``deferrable``. Works on
        Airflow 3.3, and on 2.11 without templates. On other versions, for mapped sensors, with an
        ``execution_timeout``, and for values that the triggerer cannot render (XComs, ``ti``, ``var``, ``conn``), a
        worker defers the sensor, with the same outcome. Default False.
    :param kwargs: As every sensor has: ``poke_interval`` (seconds, default 60), ``timeout`` (seconds, default
        ``[sensors] default_timeout``), ``mode``, ``soft_fail`` ...
    :raises FlokitSyncFailedError: if an integration is in error or disconnected
    :raises AirflowSensorTimeout: if the time ran out
    """

    template_fields: Sequence[str] = (
        "integration_id",
        "integration_type",
        "receipt",
        "synced_after",
        "flokit_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"receipt": "json"}
    # Both are said: the text on the node has to be readable in Airflow's light and dark.
    ui_color = "#d9ecff"
    ui_fgcolor = "#10243a"

    def __init__(
        self,
        *,
        integration_id: str | XComArg | Sequence[str | XComArg] | None = None,
        integration_type: str | XComArg | Sequence[str | XComArg] | None = None,
        receipt: Any = None,
        synced_after: datetime | str | XComArg | None = None,
        flokit_conn_id: str | XComArg = "flokit_default",
        deferrable: bool = _DEFERRABLE,
        start_timeout: float = 300.0,
        fail_on_disconnected: bool = True,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        # Before Airflow's own checks, which let some numbers pass and name no parameter for others.
        given = (kwargs.get("default_args") or {}) | kwargs
        for name in ("poke_interval", "timeout"):
            if name in given:
                seconds(given[name], name, zero=True)
        super().__init__(**kwargs)
        # Of the types that they have once Airflow has rendered them.
        self.integration_id = cast("str | Sequence[str] | None", integration_id)
        self.integration_type = cast("str | Sequence[str] | None", integration_type)
        self.receipt = receipt
        self.synced_after = cast("datetime | str | None", synced_after)
        self.flokit_conn_id = cast("str", flokit_conn_id)
        self.deferrable = flag(deferrable, "deferrable")
        self.start_timeout = seconds(start_timeout, "start_timeout", zero=True)
        self.fail_on_disconnected = flag(fail_on_disconnected, "fail_on_disconnected")
        if integration_id is not None and integration_type is not None:
            raise FlokitArgumentError("Give integration_id or integration_type, not both.")
        if integration_id is None and integration_type is None and receipt is None:
            raise FlokitArgumentError("Say what to wait for: give integration_id, integration_type or receipt.")
        check_ids(integration_id, many=True)
        check_types(integration_type, many=True)
        check_receipt(receipt)
        check_moment(synced_after)
        check_connection_id(flokit_conn_id)
        self._conditions = conditions_of(self)
        if flag(start_from_trigger, "start_from_trigger"):
            self._start_from_trigger()
        self._watch: Watch | None = None
        self._hook: FlokitHook | None = None

    def render_template_fields(self, context: Context, jinja_env: Environment | None = None) -> None:
        """
        Render, and read the outputs of a mapped task, which the list of rendered fields would show as "lazy sequence".

        :param context: The task's context.
        :param jinja_env: Airflow's environment for templates.
        """
        super().render_template_fields(context, jinja_env)
        for name in CONDITIONS:
            value = getattr(self, name)
            if isinstance(value, Sequence) and not isinstance(value, str | list | tuple):
                setattr(self, name, list(value))

    def execute(self, context: Context) -> Any:
        """Wait, or defer."""
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        with self._ending():
            watch = self._watch = self._new_watch()
        if self.deferrable:
            self._defer(watch.wait, context)
        with self._ending(), FlokitHook(self.flokit_conn_id) as self._hook:
            try:
                return _poke_loop(self, context)
            except AirflowSensorTimeout:
                return self._last_look(context, watch)
            except AirflowSkipException as skip:
                # Airflow's own soft_fail and never_fail: raised from the failure, or from nothing at the timeout.
                if skip.__cause__ is None:
                    return self._last_look(context, watch)
                if isinstance(skip.__cause__, FlokitError):
                    raise skip.__cause__ from None
                raise

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """
        Look once.

        :param context: The task's context.
        :return: False to go on waiting, else the states
        :raises FlokitSyncFailedError: if an integration is in error or disconnected
        """
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        if self._watch is None:
            self._watch = self._new_watch()
        outcome = self._watch.ask(self._hook or FlokitHook(self.flokit_conn_id))
        self._watch.heartbeat_if_due()
        if outcome is None:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, outcome, self._watch.wait))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """
        Go on after the trigger fired.

        :param context: The task's context.
        :param event: The trigger's event.
        """
        from airflow_provider_flokit.outcome import Outcome

        with self._ending():
            return self._conclude(context, Outcome.from_event(event), self._new_watch().wait)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """
        Go on after the deferral; if Airflow ended it because no triggerer did, look once more before giving up.

        :param next_method: The method to call.
        :param next_kwargs: Its arguments.
        :param context: The task's context.
        """
        from airflow_provider_flokit.deferral import ended_by_airflow, is_of_another_try, raise_if_execution_timeout

        if is_of_another_try(next_kwargs, context):
            return self.execute(context)
        if ended_by_airflow(next_method, next_kwargs):
            raise_if_execution_timeout(self.execution_timeout, self.timeout)
            with self._ending():
                return self._last_look(context, self._new_watch())
        if next_method == "execute_complete":
            # Not through BaseSensorOperator's, which replaces the reason of a skip by a sentence of its own.
            return self.execute_complete(context, **(next_kwargs or {}))
        return super().resume_execution(next_method, next_kwargs, context)

    def _start_from_trigger(self) -> None:
        """Have the scheduler start the trigger, if this Airflow can do so with these arguments."""
        from airflow_provider_flokit.deferral import BACKSTOP, can_start_from_trigger

        self.deferrable = True
        arguments: dict[str, Any] = {
            "integration_id": self.integration_id,
            "integration_type": self.integration_type,
            "receipt": self.receipt,
            "synced_after": self.synced_after,
            "flokit_conn_id": self.flokit_conn_id,
        }
        if isinstance(self.synced_after, datetime):
            arguments["synced_after"] = self.synced_after.isoformat()
        # With an execution_timeout, Airflow would end the deferral earlier than the trigger could tell from it.
        if self.execution_timeout is not None or not can_start_from_trigger(arguments):
            return
        from airflow.triggers.base import StartTriggerArgs

        # On the instance, not the class: a mapped sensor would start with the defaults.
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="airflow_provider_flokit.triggers.flokit.FlokitIntegrationTrigger",
            trigger_kwargs={
                **arguments,
                "poll_interval": self.poke_interval,
                "timeout": self.timeout,
                "start_timeout": self.start_timeout,
                "fail_on_disconnected": self.fail_on_disconnected,
                "tolerate_failures": self.silent_fail,
            },
            next_method="execute_complete",
            next_kwargs=None,
            timeout=timedelta(seconds=self.timeout + BACKSTOP),
        )

    def _new_watch(self) -> Watch:
        from airflow_provider_flokit.wait import Wait
        from airflow_provider_flokit.watch import Watch

        wait = Wait.of(
            flokit_conn_id=self.flokit_conn_id,
            integration_id=self.integration_id,
            integration_type=self.integration_type,
            receipt=self.receipt,
            synced_after=self.synced_after,
            start_timeout=self.start_timeout,
            fail_on_disconnected=self.fail_on_disconnected,
            tolerate_failures=self.silent_fail,
            required=self._conditions,
        )
        return Watch(wait, cast("Logger", self.log))

    def _last_look(self, context: Context, watch: Watch) -> Any:
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        hook = self._hook or FlokitHook(self.flokit_conn_id)
        return self._conclude(context, watch.ask_at_the_end(hook, self.timeout), watch.wait)

    def _defer(self, wait: Wait, context: Context) -> NoReturn:
        from airflow_provider_flokit.deferral import BACKSTOP, this_try
        from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

        self.log.info("Waiting in the triggerer for %s, at most %g s", wait.subject, self.timeout)
        self.defer(
            trigger=FlokitIntegrationTrigger(
                **wait.to_arguments(),
                poll_interval=self.poke_interval,
                timeout=self.timeout,
                deadline=time.time() + self.timeout,
                try_number=this_try(context),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + BACKSTOP),
        )

    def _conclude(self, context: Context, outcome: Outcome, wait: Wait) -> Any:
        from airflow_provider_flokit.outcome import Ending
        from airflow_provider_flokit.outlets import tell
        from airflow_provider_flokit.report import SyncReport

        match outcome.ending:
            case Ending.READY:
                reports = [SyncReport.of(each, wait.receipts.get(each.id)) for each in outcome.integrations]
                tell(context, self.outlets, reports, self.flokit_conn_id, cast("Logger", self.log))
                self.log.info("%s: ready", wait.subject)
                states = [integration.to_json() for integration in outcome.integrations]
                return states[0] if wait.single else states
            case Ending.TIMED_OUT:
                raise AirflowSensorTimeout(outcome.message)
            case Ending.FAILED:
                raise outcome.exception()

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Turn a failure into a skip where ``soft_fail`` or ``never_fail`` asks for it, in the same words."""
        try:
            yield
        except (FlokitError, AirflowSensorTimeout) as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Stretch Airflow's interval to what FloKit asked for, and cut it at the deadline, so that it is met."""
        interval = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        if self._watch is not None:
            interval = self._watch.pause(interval)
        return max(min(interval, self.timeout - run_duration()), 0.0) + _CLOCK_GRAIN
