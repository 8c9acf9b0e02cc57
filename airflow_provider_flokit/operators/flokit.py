"""Operators: starting FloKit syncs."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_flokit.arguments import flag, seconds
from airflow_provider_flokit.errors import (
    FlokitArgumentError,
    FlokitError,
    FlokitSyncAlreadyRunningError,
    FlokitSyncFailedError,
    shown,
)
from airflow_provider_flokit.literals import check_age, check_connection_id, check_ids, check_types
from airflow_provider_flokit.operators._openlineage import TellsOpenLineage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from logging import Logger
    from typing import NoReturn

    from airflow.providers.common.compat.sdk import Context, XComArg
    from airflow.sdk.definitions._internal.expandinput import OperatorExpandArgument, OperatorExpandKwargsArgument
    from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    from airflow_provider_flokit.hooks.flokit import FlokitHook
    from airflow_provider_flokit.models import Integration, SyncReceipt
    from airflow_provider_flokit.outcome import Outcome
    from airflow_provider_flokit.receipt_store import ReceiptStore
    from airflow_provider_flokit.watch import Watch

    # Airflow declares that outputs are of a base class without keys: output["receipt"] would be an error of the user's.
    class _Mapped(MappedOperator):
        @property
        def output(self) -> PlainXComArg: ...

    class _Partial(OperatorPartial):
        def expand(self, **mapped_kwargs: OperatorExpandArgument) -> _Mapped: ...
        def expand_kwargs(self, kwargs: OperatorExpandKwargsArgument, *, strict: bool = True) -> _Mapped: ...


_DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)


class FlokitTriggerSyncOperator(TellsOpenLineage, BaseOperator):
    """
    Start a sync of a FloKit integration and, if asked to, wait until that very sync has succeeded.

    The return value is the sync_id. The XCom ``receipt`` is a
    :class:`~airflow_provider_flokit.models.SyncReceipt` as JSON, with which a
    :class:`~airflow_provider_flokit.sensors.flokit.FlokitIntegrationSensor` waits for this sync. The XCom
    ``integration`` is the integration's last state, if this task waited.

    From Airflow 3.3 a retry goes on with the sync of the try before it, also if that try's worker was lost: a sync that
    is done is recognised, a running one waited for, a failed one started anew. Before 3.3 a retry attaches to a sync
    that is running, and otherwise starts a new one.

    If a sync is running already (409), the task attaches to it: the receipt's ``sync_id`` is null, and the first
    success after this task began counts. FloKit has no way to cancel a sync, so killing the task does not stop it.

    If it waited, the asset events of its outlets for the integration
    (:func:`~airflow_provider_flokit.assets.flokit.flokit_asset`) carry ``sync_id``, ``last_synced_at``,
    ``previous_synced_at``, ``events_total`` and ``events_brought``; the last two take one more request.

    :param integration_id: Id of the integration, e.g. ``int_01hx4j7stripe`` (templated); or
    :param integration_type: its type, e.g. ``stripe``, if exactly one integration has it (templated).
    :param flokit_conn_id: Airflow connection of type ``flokit`` with a read-write key (templated).
    :param wait_for_completion: Wait for the sync's outcome. Default False.
    :param deferrable: Wait in the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: Seconds between looks at the integration while waiting. Default 30.
    :param timeout: Seconds the wait may take. Default 3600.
    :param start_timeout: Seconds for which an error older than this sync is forgiven. Default 300.
    :param skip_if_synced_within: If the integration is connected and its last success is not older than this, do not
        sync; the task succeeds and the receipt says so. Default None: always sync.
    :raises FlokitSyncFailedError: if it waited and the sync failed; a retry starts a new sync
    :raises FlokitWaitTimeoutError: if it waited and the time ran out
    """

    template_fields: Sequence[str] = ("integration_id", "integration_type", "flokit_conn_id")
    # Both are said: the text on the node has to be readable in Airflow's light and dark.
    ui_color = "#d5f2e3"
    ui_fgcolor = "#102a1e"

    if TYPE_CHECKING:
        partial: Callable[..., _Partial]

        @property
        def output(self) -> PlainXComArg: ...  # noqa: D102 - Airflow's

    def __init__(
        self,
        *,
        integration_id: str | XComArg | None = None,
        integration_type: str | XComArg | None = None,
        flokit_conn_id: str | XComArg = "flokit_default",
        wait_for_completion: bool = False,
        deferrable: bool = _DEFERRABLE,
        poll_interval: float = 30.0,
        timeout: float = 3600.0,
        start_timeout: float = 300.0,
        skip_if_synced_within: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Of the types that they have once Airflow has rendered them.
        self.integration_id = cast("str | None", integration_id)
        self.integration_type = cast("str | None", integration_type)
        self.flokit_conn_id = cast("str", flokit_conn_id)
        self.wait_for_completion = flag(wait_for_completion, "wait_for_completion")
        self.deferrable = flag(deferrable, "deferrable")
        self.poll_interval = seconds(poll_interval, "poll_interval")
        self.timeout = seconds(timeout, "timeout")
        self.start_timeout = seconds(start_timeout, "start_timeout", zero=True)
        check_age(skip_if_synced_within, "skip_if_synced_within")
        self.skip_if_synced_within = skip_if_synced_within
        if (integration_id is None) == (integration_type is None):
            raise FlokitArgumentError("Give exactly one of integration_id and integration_type.")
        check_ids(integration_id)
        check_types(integration_type)
        check_connection_id(flokit_conn_id)
        # What a template renders to does not change which of the two was given.
        self._by_id = integration_id is not None

    def execute(self, context: Context) -> str | None:
        """Start the sync, or go on with that of an earlier try; wait for it or defer, if asked to."""
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        store = self._store(context)
        with store.kept_for_the_next_try(), FlokitHook(self.flokit_conn_id) as hook:
            receipt = self._resumed(hook, store) or self._started(hook, store, context)
            self._receipt = receipt
            context["ti"].xcom_push(key="receipt", value=receipt.to_json())
            if not self.wait_for_completion:
                store.forget()
                return receipt.sync_id
            if receipt.skipped:
                self._push_integration(context, receipt.baseline)
                self._tell_outlets(context, receipt, receipt.baseline)
                return None
            if self.deferrable:
                self._defer(receipt, context)
            outcome = self._wait(hook, receipt)
            return self._conclude(context, outcome, receipt)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str | None:
        """
        Go on after the trigger fired.

        :param context: The task's context.
        :param event: The trigger's event.
        """
        from airflow_provider_flokit.outcome import Outcome

        outcome = Outcome.from_event(event)
        return self._conclude(context, outcome, _receipt(event.get("receipt")))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """
        Go on after the deferral; if Airflow ended it because no triggerer did, look once more before giving up.

        :param next_method: The method to call.
        :param next_kwargs: Its arguments.
        :param context: The task's context.
        """
        from airflow_provider_flokit.deferral import ended_by_airflow, is_of_another_try

        if is_of_another_try(next_kwargs, context):
            return self.execute(context)
        with self._store(context).kept_for_the_next_try():
            if ended_by_airflow(next_method, next_kwargs):
                return self._last_look(context)
            return super().resume_execution(next_method, next_kwargs, context)

    def _last_look(self, context: Context) -> str | None:
        from airflow_provider_flokit.deferral import raise_if_execution_timeout
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        raise_if_execution_timeout(self.execution_timeout, self.timeout)

        ti = context["ti"]
        receipt = _receipt(ti.xcom_pull(task_ids=self.task_id, key="receipt", map_indexes=ti.map_index))
        with FlokitHook(self.flokit_conn_id) as hook:
            outcome = self._watch(receipt).ask_at_the_end(hook, self.timeout)
        return self._conclude(context, outcome, receipt)

    def _resumed(self, hook: FlokitHook, store: ReceiptStore) -> SyncReceipt | None:
        """Return the receipt of an earlier try's sync, unless there is none or that sync has failed."""
        kept = store.load()
        if kept is None or not self._is_mine(kept.receipt.baseline):
            return None
        receipt = kept.receipt
        if not kept.requested:
            self.log.info("An earlier try ended while it requested a sync: requesting it again, with the same key")
            return self._request(hook, store, receipt)
        outcome = self._watch(receipt).ask(hook, retries=4)
        if outcome is not None and outcome.ending == "failed":
            if not isinstance(error := outcome.exception(), FlokitSyncFailedError):
                raise error
            self.log.info("The sync of an earlier try has failed: starting a new one")
            store.forget()
            return None
        self.log.info("Going on with the sync of an earlier try, %s", receipt.sync_id or "which was running already")
        return receipt

    def _started(self, hook: FlokitHook, store: ReceiptStore, context: Context) -> SyncReceipt:
        """Start a sync, unless the data is fresh enough or, in a retry, a sync is running."""
        from airflow_provider_flokit.arguments import one_text
        from airflow_provider_flokit.decision import is_fresh
        from airflow_provider_flokit.models import checked_id
        from airflow_provider_flokit.models import IntegrationStatus, SyncReceipt
        from airflow_provider_flokit.watch import when

        if self._by_id:
            before = hook.read(integration_id=checked_id(one_text(self.integration_id, "integration_id")))
        else:
            before = hook.read(integration_type=one_text(self.integration_type, "integration_type"))
        baseline = before.value
        if baseline.sync_stats is None and self._has_outlet(baseline):
            # The list has no statistics, which the outlet's event is to compare with.
            try:
                before = hook.read(integration_id=baseline.id)
            except FlokitError as error:
                self.log.warning("The statistics of %s before the sync are not known: %s", baseline.id, error)
            else:
                baseline = before.value
        within = self.skip_if_synced_within
        if within is not None and is_fresh(baseline, before.at, within.total_seconds()):
            self.log.info(
                "Not syncing %s (%s): last synced %s, which is within %s",
                baseline.id,
                shown(baseline.type),
                when(baseline),
                within,
            )
            return SyncReceipt(baseline.id, baseline, before.at, skipped=True)
        self.log.info(
            "Before the sync, %s (%s) is %s%s, last synced: %s",
            baseline.id,
            shown(baseline.type),
            shown(baseline.status),
            f" ({shown(baseline.error_message)})" if baseline.error_message else "",
            when(baseline),
        )
        receipt = SyncReceipt(baseline.id, baseline, before.at, idempotency_key=str(uuid.uuid4()))
        if not store.available and baseline.status == IntegrationStatus.SYNCING and self._is_retry(context):
            self.log.info("A sync is running, which an earlier try may have started: attached to it")
            return receipt
        store.keep(receipt, requested=False)
        return self._request(hook, store, receipt)

    def _request(self, hook: FlokitHook, store: ReceiptStore, receipt: SyncReceipt) -> SyncReceipt:
        try:
            started = hook.start_sync(receipt.integration_id, str(receipt.idempotency_key))
        except FlokitSyncAlreadyRunningError as running:
            self.log.info("A sync of %s is running already (HTTP 409): attached to it", receipt.integration_id)
            # An error from before is forgiven from now on, not from when the baseline was read, maybe tries ago.
            receipt = replace(receipt, triggered_at=running.at or receipt.triggered_at)
        else:
            self.log.info("Triggered sync %s of %s", shown(started.value), receipt.integration_id)
            receipt = replace(receipt, sync_id=started.value, triggered_at=started.at)
        store.keep(receipt, requested=True)
        return receipt

    def _has_outlet(self, integration: Integration) -> bool:
        from airflow_provider_flokit.outlets import has_outlet

        return self.wait_for_completion and has_outlet(self.outlets, integration.id)

    def _is_mine(self, integration: Integration) -> bool:
        """Tell whether this is the integration to sync; a cleared run may have rendered another one."""
        return self.integration_id == integration.id or self.integration_type == integration.type

    def _is_retry(self, context: Context) -> bool:
        """Tell whether this is not the first try since the task was scheduled or cleared."""
        ti = context["ti"]
        return bool(ti.try_number > ti.max_tries - (self.retries or 0) + 1)

    def _store(self, context: Context) -> ReceiptStore:
        from airflow_provider_flokit.receipt_store import ReceiptStore

        return ReceiptStore(context, cast("Logger", self.log))

    def _watch(self, receipt: SyncReceipt) -> Watch:
        from airflow_provider_flokit.wait import Wait
        from airflow_provider_flokit.watch import Watch

        wait = Wait.of(flokit_conn_id=self.flokit_conn_id, receipt=receipt, start_timeout=self.start_timeout)
        return Watch(wait, cast("Logger", self.log))

    def _wait(self, hook: FlokitHook, receipt: SyncReceipt) -> Outcome:
        watch = self._watch(receipt)
        started = time.monotonic()
        while (outcome := watch.ask(hook)) is None:
            elapsed = time.monotonic() - started
            if elapsed >= self.timeout:
                return watch.ask_at_the_end(hook, self.timeout)
            watch.heartbeat_if_due()
            time.sleep(min(watch.pause(self.poll_interval), self.timeout - elapsed))
        return outcome

    def _defer(self, receipt: SyncReceipt, context: Context) -> NoReturn:
        from airflow_provider_flokit.deferral import BACKSTOP, this_try
        from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

        self.log.info("Waiting in the triggerer, at most %g s", self.timeout)
        self.defer(
            trigger=FlokitIntegrationTrigger(
                receipt=receipt.to_json(),
                flokit_conn_id=self.flokit_conn_id,
                poll_interval=self.poll_interval,
                timeout=self.timeout,
                deadline=time.time() + self.timeout,
                start_timeout=self.start_timeout,
                try_number=this_try(context),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + BACKSTOP),
        )

    def _conclude(self, context: Context, outcome: Outcome, receipt: SyncReceipt) -> str | None:
        from airflow_provider_flokit.outcome import Ending

        self._receipt = receipt
        for integration in outcome.integrations:
            self._push_integration(context, integration)
        store = self._store(context)
        if outcome.ending is not Ending.READY:
            self._failure = outcome.message
            error = outcome.exception()
            if isinstance(error, FlokitSyncFailedError):
                store.forget()
            raise error
        which = shown(receipt.sync_id) if receipt.sync_id else "that was running already"
        self.log.info("%s has synced: sync %s is done", receipt.integration_id, which)
        for integration in outcome.integrations:
            self._tell_outlets(context, receipt, integration)
        store.forget()
        return receipt.sync_id

    def _tell_outlets(self, context: Context, receipt: SyncReceipt, now: Integration) -> None:
        from airflow_provider_flokit.outlets import tell
        from airflow_provider_flokit.report import SyncReport

        report = SyncReport.of(now, receipt)
        (self._report,) = tell(context, self.outlets, [report], self.flokit_conn_id, cast("Logger", self.log))

    @staticmethod
    def _push_integration(context: Context, integration: Integration) -> None:
        context["ti"].xcom_push(key="integration", value=integration.to_json())


def _receipt(data: object) -> SyncReceipt:
    from airflow_provider_flokit.models import MalformedDataError, SyncReceipt

    try:
        return SyncReceipt.from_json(data)
    except MalformedDataError as error:
        raise FlokitArgumentError(f"The receipt of this task's sync cannot be read: {error}") from None
