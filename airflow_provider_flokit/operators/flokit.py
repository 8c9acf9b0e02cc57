"""Operators that start FloKit syncs."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_flokit._airflow import DEFERRABLE, DeferredTask
from airflow_provider_flokit.errors import (
    FlokitArgumentError,
    FlokitSyncAlreadyRunningError,
    FlokitWaitTimeoutError,
    shown,
)
from airflow_provider_flokit.gate.conditions import START_TIMEOUT, Conditions
from airflow_provider_flokit.gate.decision import Readiness, has_synced_since, is_fresh, judge
from airflow_provider_flokit.gate.wait import Ending, Outcome, Wait
from airflow_provider_flokit.gate.words import ago, duration, name_of, state_of, sync_of
from airflow_provider_flokit.lineage import SyncReport, openlineage_facets
from airflow_provider_flokit.models import IntegrationStatus, SyncReceipt
from airflow_provider_flokit.operators._receipt_store import ReceiptStore
from airflow_provider_flokit.ui.link import LINKS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from logging import Logger

    from airflow.providers.common.compat.sdk import Context, XComArg
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_flokit.hooks.flokit import FlokitHook

# Hooks and triggers are imported where they are used: reading a DAG must not import requests.


class FlokitTriggerSyncOperator(DeferredTask, BaseOperator):
    """
    Start a sync of a FloKit integration; with ``wait_for_completion=True``, wait until exactly this sync has succeeded.

    The return value is a :class:`~airflow_provider_flokit.models.SyncReceipt` as JSON. A
    :class:`~airflow_provider_flokit.sensors.flokit.FlokitIntegrationSensor` can wait for the sync of this receipt. The
    XCom ``integration`` is the integration's last state, if this task waited.

    From Airflow 3.3 a retry goes on with the sync of the try before it, even if the worker was lost. If that sync is
    done, the retry succeeds; if it runs, the retry waits for it; if it failed, the retry starts a new sync. Before 3.3
    a retry attaches to a running sync, and otherwise starts a new one.

    If a sync is running already (409), the task attaches to it: the receipt's ``sync_id`` is null. FloKit cannot cancel
    a sync, so the sync goes on if the task is killed.

    If the task waited, the asset events of its outlets for the integration
    (:func:`~airflow_provider_flokit.assets.flokit.flokit_asset`) have ``sync_id``, ``last_synced_at``,
    ``previous_synced_at``, ``events_total`` and ``events_brought``. The last two take one more request.

    :param integration_id: Id of the integration, e.g. ``int_01hx4j7stripe`` (templated); or
    :param integration_type: its type, e.g. ``stripe``, if exactly one integration has it (templated).
    :param flokit_conn_id: Airflow connection of type ``flokit`` with a read-write key (templated).
    :param wait_for_completion: Wait for the sync's outcome. Default False.
    :param deferrable: Wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: Seconds between looks at the integration while waiting. Default 30.
    :param timeout: Seconds the wait may take. Default 3600.
    :param start_timeout: Seconds for which an error older than this sync is ignored. Default 300.
    :param skip_if_synced_within: If the integration is connected and its last success is not older than this timedelta,
        do not sync; the task succeeds and the receipt says so. Default None: always sync.
    :raises FlokitSyncFailedError: if it waited and the sync failed; a retry starts a new sync
    :raises FlokitWaitTimeoutError: if the wait timed out; from Airflow 3.3 a retry goes on with that sync
    """

    template_fields: Sequence[str] = ("integration_id", "integration_type", "flokit_conn_id")
    operator_extra_links = LINKS
    # Both colours are set, so that the text is readable in Airflow's light and dark themes.
    ui_color = "#d5f2e3"
    ui_fgcolor = "#102a1e"

    _receipt: SyncReceipt | None = None
    _report: SyncReport | None = None

    def __init__(
        self,
        *,
        integration_id: str | XComArg | None = None,
        integration_type: str | XComArg | None = None,
        flokit_conn_id: str | XComArg = "flokit_default",
        wait_for_completion: bool = False,
        deferrable: bool = DEFERRABLE,
        poll_interval: float = 30.0,
        timeout: float = 3600.0,
        start_timeout: float = START_TIMEOUT,
        skip_if_synced_within: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check = self._check
        self.integration_id = integration_id
        self.integration_type = integration_type
        self.flokit_conn_id = cast("str", flokit_conn_id)  # once it is rendered
        self.wait_for_completion = check.flag("wait_for_completion", wait_for_completion)
        self.deferrable = check.flag("deferrable", deferrable)
        self.poll_interval = check.seconds("poll_interval", poll_interval)
        self.timeout = check.seconds("timeout", timeout)
        self.start_timeout = check.seconds("start_timeout", start_timeout, zero=True)
        within: object = skip_if_synced_within
        if within is not None and not (isinstance(within, timedelta) and within >= timedelta(0)):
            raise check.wrong("skip_if_synced_within", f"is {shown(repr(within))}", "give e.g. timedelta(hours=1)")
        self.skip_if_synced_within = skip_if_synced_within
        if (integration_id is None) == (integration_type is None):
            raise FlokitArgumentError(f"{check.owner}: give exactly one of integration_id and integration_type.")
        if not wait_for_completion and start_timeout != START_TIMEOUT:
            check.no_effect("start_timeout", "without wait_for_completion=True")
        # Noted before rendering: a template may render to nothing.
        self._by_id = integration_id is not None

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the sync, or go on with the sync of an earlier try; wait or defer, if asked to."""
        from airflow_provider_flokit.hooks.flokit import FlokitHook
        from airflow_provider_flokit.triggers.flokit import defer

        conn_id = self._check.text("flokit_conn_id", self.flokit_conn_id)
        store = ReceiptStore(context)
        with store.kept_for_the_next_try(), FlokitHook(conn_id) as hook:
            receipt = self._receipt = self._resumed(hook, store) or self._started(hook, store, context)
            if not self.wait_for_completion:
                store.forget()
                self.log.info("Not waiting: the next task starts now (wait_for_completion=False).")
                return receipt.to_json()
            if receipt.skipped:
                return self._conclude(context, Outcome(Ending.READY, (receipt.baseline,)), receipt)
            wait = self._wait(receipt)
            wait.announce((receipt.baseline,), receipt.triggered_at)
            if self.deferrable:
                defer(self, wait, context, self.poll_interval)
            return self._conclude(context, hook.wait_for(wait, lambda _: self.poll_interval), receipt)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after the trigger fired."""
        return self._conclude(context, Outcome.from_event(event), SyncReceipt.from_json(event["receipt"]))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the deferral, see :meth:`DeferredTask.resume_execution`."""
        with ReceiptStore(context).kept_for_the_next_try():
            return super().resume_execution(next_method, next_kwargs, context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Report to OpenLineage a sync that was requested, was not needed, or has succeeded."""
        skipped = self._receipt is not None and self._receipt.skipped
        return self._openlineage_facets("skipped" if skipped else "succeeded" if self._report else "requested")

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Report a failure to OpenLineage."""
        return self._openlineage_facets("failed")

    def _openlineage_facets(self, outcome: str) -> OperatorLineage[Any, Any]:
        return openlineage_facets(outcome, self.integration_id, self.flokit_conn_id, self._receipt, self._report)

    def _resumed(self, hook: FlokitHook, store: ReceiptStore) -> SyncReceipt | None:
        """Return the receipt of an earlier try's sync, unless there is none or that sync has failed."""
        receipt, was_answered = store.load()
        if receipt is None or not self._is_mine(receipt):
            return None
        look = hook.read(receipt.integration_id)
        now, baseline = look.value, receipt.baseline
        if was_answered:
            if judge(now, look.at, receipt, start_timeout=self.start_timeout).readiness is Readiness.FAILED:
                self.log.info("The sync of an earlier try has failed: starting a new one.")
                return None
            sync = receipt.sync_id or "which was running already"
            self.log.info("Going on with the sync of an earlier try, %s.", sync)
            return receipt
        # That try may have ended before or after its request.
        if baseline.status == IntegrationStatus.SYNCING:
            # The running sync may be ours or another one. So repeat the request with the same key and a new baseline.
            receipt = replace(receipt, baseline=now, triggered_at=look.at)
        elif now.status == IntegrationStatus.SYNCING or has_synced_since(now, baseline):
            self.log.info("An earlier try ended during its request; a sync has begun since: going on with that one.")
            store.keep(receipt, requested=True)
            return receipt
        self.log.info("An earlier try ended during its request: requesting the sync again, with the same key.")
        return self._request(hook, store, receipt)

    def _started(self, hook: FlokitHook, store: ReceiptStore, context: Context) -> SyncReceipt:
        """Start a sync, unless the data is fresh enough or, in a retry, a sync is running."""
        if self._by_id:
            integration_id = self._check.one_id(self.integration_id)
        else:
            integration_id = hook.find_integration(self._check.text("integration_type", self.integration_type)).id
        before = hook.read(integration_id)
        baseline = before.value
        within = self.skip_if_synced_within
        if within is not None and is_fresh(baseline, before.at, within.total_seconds()):
            last, limit = ago(baseline.last_synced_at, before.at), duration(within.total_seconds())
            self.log.info("Not syncing %s: last synced %s, which is within %s.", name_of(baseline), last, limit)
            return SyncReceipt(baseline.id, baseline, before.at, skipped=True)
        self.log.info("%s. Starting a sync.", state_of(baseline, before.at))
        receipt = SyncReceipt(baseline.id, baseline, before.at, idempotency_key=str(uuid.uuid4()))
        ti = context["ti"]
        is_retry = ti.try_number > ti.max_tries - (self.retries or 0) + 1  # a cleared task gets a higher max_tries
        if is_retry and not store.available and baseline.status == IntegrationStatus.SYNCING:
            self.log.info("A sync is running, which an earlier try may have started: waiting for that one.")
            return receipt
        return self._request(hook, store, receipt)

    def _request(self, hook: FlokitHook, store: ReceiptStore, receipt: SyncReceipt) -> SyncReceipt:
        store.keep(receipt, requested=False)
        try:
            started = hook.start_sync(receipt.integration_id, receipt.idempotency_key)
        except FlokitSyncAlreadyRunningError as running:
            self.log.info("A sync of %s is running already (HTTP 409): going on with that one.", receipt.integration_id)
            # start_timeout counts from now, not from when an earlier try may have read the baseline.
            receipt = replace(receipt, triggered_at=running.at or receipt.triggered_at)
        else:
            self.log.info("Started sync %s of %s.", shown(started.value), receipt.integration_id)
            receipt = replace(receipt, sync_id=started.value, triggered_at=started.at)
        store.keep(receipt, requested=True)
        return receipt

    def _is_mine(self, receipt: SyncReceipt) -> bool:
        """Tell whether a receipt is for the integration to sync; a cleared run may have rendered another id."""
        return self.integration_id == receipt.integration_id or self.integration_type == receipt.baseline.type

    def _wait(self, receipt: SyncReceipt) -> Wait:
        conditions = Conditions(
            self.flokit_conn_id,
            (receipt.integration_id,),
            receipts={receipt.integration_id: receipt},
            start_timeout=self.start_timeout,
        )
        return Wait(conditions, cast("Logger", self.log), self.timeout, answered=True)

    def _last_look(self, context: Context) -> dict[str, Any]:
        """Look once more after Airflow ended the deferral, if the receipt was kept."""
        receipt, _ = ReceiptStore(context).load()
        if receipt is None:
            raise FlokitWaitTimeoutError(
                f"{self._check.owner}: Airflow ended the wait, as no triggerer did so within {duration(self.timeout)}: "
                f"does a triggerer run? A retry goes on with the sync if it is still running."
            )
        return self._conclude(context, self._ask_last(self._wait(receipt)), receipt)

    def _conclude(self, context: Context, outcome: Outcome, receipt: SyncReceipt) -> dict[str, Any]:
        self._receipt = receipt
        for integration in outcome.integrations:
            context["ti"].xcom_push(key="integration", value=integration.to_json())
        self._check_ready(outcome)
        (now,) = outcome.integrations
        if not receipt.skipped:
            self.log.info("%s has synced: %s is done.", now.id, sync_of(receipt))
        self._report = self._tell_outlets(context, now, receipt)
        ReceiptStore(context).forget()
        return receipt.to_json()
