"""Sensors that wait until FloKit's integrations are ready."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    timezone,
)

from airflow_provider_flokit._airflow import BACKSTOP, DEFERRABLE, DeferredTask, can_start_from_trigger, first_poke_at
from airflow_provider_flokit.errors import FlokitError
from airflow_provider_flokit.gate.conditions import ARGUMENTS, START_TIMEOUT, TEMPLATED, Conditions
from airflow_provider_flokit.gate.wait import Ending, Outcome, Wait
from airflow_provider_flokit.ui.link import LINKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from logging import Logger

    from airflow.providers.common.compat.sdk import Context, XComArg
    from jinja2 import Environment

# Hooks and triggers are imported where they are used: reading a DAG must not import requests.


class FlokitIntegrationSensor(DeferredTask, BaseSensorOperator):
    """
    Wait until FloKit integrations are ready, or until the sync of a receipt has succeeded; fail if one is in error.

    The outcome, the exception and its message are the same in the worker (``mode="poke"``), rescheduled
    (``mode="reschedule"``) and deferred (``deferrable=True``). A deferrable sensor looks once before it defers, and
    succeeds at once if all is ready. In the triggerer, all waits on one connection share one request per interval.
    ``soft_fail`` and ``never_fail`` turn every failure and the timeout into a skip. ``silent_fail`` logs failures of
    syncs, and the wait goes on. ``exponential_backoff`` and ``max_wait`` have an effect in a worker only.

    The return value is the integration's state as JSON, or a list of states if a list was given. The asset events of
    its outlets for the integrations (:func:`~airflow_provider_flokit.assets.flokit.flokit_asset`) have
    ``last_synced_at`` and ``events_total``, with a receipt also ``sync_id``, ``previous_synced_at`` and
    ``events_brought``.

    :param integration_id: Id of the integration, or a list of ids that must all be ready (templated).
    :param integration_type: Type of the integration, or a list of types; exactly one integration must have each type
        (templated).
    :param receipt: Return value of a :class:`~airflow_provider_flokit.operators.flokit.FlokitTriggerSyncOperator`
        (``receipt=sync.output``), or a list of receipts: wait for exactly these syncs (templated).
    :param synced_after: Datetime or ISO 8601 text: ``last_synced_at`` must be at or after it; a naive time is in
        Airflow's default timezone (templated).
    :param flokit_conn_id: Airflow connection of type ``flokit``; a read-only key is enough (templated).
    :param deferrable: Wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param start_timeout: Seconds for which an error older than the receipt's sync is ignored. Default 300.
    :param fail_on_disconnected: If False, wait until a disconnected integration is connected again. No effect with a
        receipt. Default True.
    :param start_from_trigger: Begin the wait in the triggerer, without a worker; implies ``deferrable``. Works on
        Airflow 3.3, and on 2.11 without templates. Otherwise a worker defers the sensor, with the same outcome: on
        other versions, for mapped sensors, with an ``execution_timeout``, with ``render_template_as_native_obj``, and
        for templates with more than plain values of the run (XComs, ``ti``, ``var``, ``conn``). Default False.
    :param kwargs: The arguments of every sensor: ``poke_interval`` (seconds, default 60), ``timeout`` (seconds, default
        ``[sensors] default_timeout``), ``mode``, ``soft_fail`` ...
    :raises FlokitSyncFailedError: if an integration has failed
    :raises AirflowSensorTimeout: if the wait timed out
    """

    template_fields: Sequence[str] = (*TEMPLATED, "flokit_conn_id")
    operator_extra_links = LINKS
    template_fields_renderers: ClassVar[dict[str, str]] = {"receipt": "json"}
    # Both colours are set, so that the text is readable in Airflow's light and dark themes.
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
        deferrable: bool = DEFERRABLE,
        start_timeout: float = START_TIMEOUT,
        fail_on_disconnected: bool = True,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check = self._check
        self.integration_id = integration_id
        self.integration_type = integration_type
        self.receipt = receipt
        self.synced_after = synced_after
        self.flokit_conn_id = flokit_conn_id
        self.deferrable = check.flag("deferrable", deferrable)
        self.start_timeout = check.seconds("start_timeout", start_timeout, zero=True)
        self.fail_on_disconnected = check.flag("fail_on_disconnected", fail_on_disconnected)
        self.tolerate_failures = self.silent_fail
        check.choice(integration_id, integration_type, receipt)
        if receipt is None and start_timeout != START_TIMEOUT:
            check.no_effect("start_timeout", "without a receipt")
        if receipt is not None and not fail_on_disconnected:
            check.no_effect("fail_on_disconnected", "beside a receipt")
        self._given = tuple(name for name in TEMPLATED if getattr(self, name) is not None)
        if check.flag("start_from_trigger", start_from_trigger):
            self._start_from_trigger()

    def render_template_fields(self, context: Context, jinja_env: Environment | None = None) -> None:
        """Render, and read all outputs of a mapped task in one request; its lazy sequence would send one for each."""
        super().render_template_fields(context, jinja_env)
        for name in TEMPLATED:
            value = getattr(self, name)
            if isinstance(value, Sequence) and not isinstance(value, str | list | tuple):
                setattr(self, name, list(value[:]))

    def execute(self, context: Context) -> Any:
        """Wait in the worker, or look once and defer or reschedule."""
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        with self._ending():
            wait = self._new_wait(context)
            with FlokitHook(wait.conditions.conn_id) as hook:
                outcome = None
                if (self.deferrable or self.reschedule) and time.monotonic() < wait.deadline:
                    outcome = hook.ask(wait)
                    if outcome is None:
                        self._leave(wait, context, hook.backoff.next_at)
                return self._conclude(context, outcome or hook.wait_for(wait, self._interval), wait.conditions)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once; return False if the wait goes on, else the states."""
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        wait = self._new_wait(context)
        outcome = FlokitHook(wait.conditions.conn_id).ask(wait)
        if outcome is None:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, outcome, wait.conditions))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the trigger fired."""
        with self._ending():
            return self._conclude(context, Outcome.from_event(event), self._conditions())

    def _last_look(self, context: Context) -> Any:
        """Look once more after Airflow ended the deferral."""
        with self._ending():
            wait = self._new_wait(context)
            return self._conclude(context, self._ask_last(wait), wait.conditions)

    def _start_from_trigger(self) -> None:
        """Let the scheduler start the trigger, if this Airflow can do so with these arguments."""
        self.deferrable = True
        arguments: dict[str, Any] = self._arguments()
        if isinstance(self.synced_after, datetime):
            arguments["synced_after"] = timezone.convert_to_utc(self.synced_after).isoformat()
        # Airflow would end the deferral at the execution_timeout, and the trigger would take that for its own timeout.
        # The triggerer renders to text, also where native objects are wanted: of the task (Airflow 3.3) or the DAG.
        native = getattr(self, "render_template_as_native_obj", None)
        if native is None:
            native = getattr(self.get_dag(), "render_template_as_native_obj", False)
        if native or self.execution_timeout is not None or not can_start_from_trigger(arguments):
            return
        from airflow.triggers.base import StartTriggerArgs

        # Set on the instance, not on the class: a mapped sensor would start with the defaults.
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="airflow_provider_flokit.triggers.flokit.FlokitIntegrationTrigger",
            trigger_kwargs={**arguments, "poll_interval": self.poke_interval, "timeout": self.timeout},
            next_method="execute_complete",
            next_kwargs=None,
            timeout=timedelta(seconds=self.timeout + BACKSTOP),
        )

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ARGUMENTS}

    def _conditions(self) -> Conditions:
        owner, to_utc = self._check.owner, timezone.convert_to_utc
        return Conditions.of(self._arguments(), owner=owner, to_utc=to_utc, required=self._given)

    def _new_wait(self, context: Context) -> Wait:
        """Begin the wait, or go on with the wait of earlier pokes."""
        conditions, log = self._conditions(), cast("Logger", self.log)
        first = first_poke_at(context, self.retries or 0) if self.reschedule else None
        if first is None:
            return Wait(conditions, log, self.timeout)
        elapsed = (timezone.utcnow() - first).total_seconds()
        wait = Wait(conditions, log, self.timeout, elapsed, answered=True, announced=True)
        wait.heartbeat_at = 0.0  # a poke does not know the lines before it, so each logs why the wait goes on
        return wait

    def _interval(self, elapsed: float) -> float:
        """Return the seconds until the next poke; ``exponential_backoff`` adds the time that the wait has lasted."""
        if not self.exponential_backoff:
            return float(self.poke_interval)
        longest = self.max_wait.total_seconds() if self.max_wait else float("inf")
        return min(float(self.poke_interval) + elapsed, longest)

    def _leave(self, wait: Wait, context: Context, not_before: float) -> None:
        """Defer or reschedule; return if so little time is left that Airflow could take the resumed task for lost."""
        from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger, defer

        if self.deferrable:
            defer(self, wait, context, self.poke_interval)
            return
        now, settle = time.monotonic(), FlokitIntegrationTrigger.SETTLE
        if (left := wait.deadline - now) < settle:
            return
        wait.heartbeat()
        pause = min(max(self._interval(now - wait.begun), settle, not_before - now), left)
        raise AirflowRescheduleException(timezone.utcnow() + timedelta(seconds=pause))

    def _conclude(self, context: Context, outcome: Outcome, conditions: Conditions) -> Any:
        if outcome.ending is Ending.TIMED_OUT:
            raise AirflowSensorTimeout(outcome.message)
        self._check_ready(outcome)
        for now in outcome.integrations:
            self._tell_outlets(context, now, conditions.receipts.get(now.id))
        self.log.info("Ready: %s.", conditions.describe(timezone.utcnow()))
        states = [integration.to_json() for integration in outcome.integrations]
        return states[0] if conditions.single else states

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Turn a failure into a skip with the same message, if ``soft_fail`` or ``never_fail`` is set."""
        try:
            yield
        except (FlokitError, AirflowSensorTimeout) as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise
