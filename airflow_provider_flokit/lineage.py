"""
Report what a sync brought: to asset events, to Airflow's lineage collector and to OpenLineage.

This module sends no request to FloKit: its callers read the statistics.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.assets.flokit import SCHEME, convert_asset_to_openlineage, flokit_asset, integration_of
from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.models import timestamp

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_flokit.models import Integration, SyncReceipt, SyncStats


@dataclass(frozen=True, slots=True)
class SyncReport:
    """
    The result of one sync, or of a wait for an integration.

    :param now: The integration when the wait ended.
    :param receipt: The receipt of the sync; None if the wait was not for a certain sync.
    :param later: The integration when its statistics were read; None if they were not read.
    """

    now: Integration
    receipt: SyncReceipt | None = None
    later: Integration | None = None

    @property
    def stats(self) -> SyncStats | None:
        """The integration's statistics after the sync; None if they are not known."""
        return self.now.sync_stats or (self.later.sync_stats if self.later else None)

    @property
    def events_brought(self) -> int | None:
        """Events since the baseline; None if that is not known, or if another sync has succeeded since."""
        if self.receipt is None:
            return None
        if self.receipt.skipped:
            return 0
        before, moved_on = self.receipt.baseline.sync_stats, False
        if self.later is not None:
            moved_on = self.later.last_synced_at != self.now.last_synced_at
        if before is None or self.stats is None or moved_on:
            return None
        brought = self.stats.events_total - before.events_total
        return brought if brought >= 0 else None

    def to_extra(self) -> dict[str, Any]:
        """Return the report as JSON values, for an asset event; None means not known."""
        receipt = self.receipt
        return {
            "integration_id": self.now.id,
            "sync_id": receipt.sync_id if receipt else None,
            "last_synced_at": timestamp(self.now.last_synced_at),
            "previous_synced_at": timestamp(receipt.baseline.last_synced_at) if receipt else None,
            "events_total": self.stats.events_total if self.stats else None,
            "events_brought": self.events_brought,
        }


def outlets_of(task: Any, integration_id: str) -> list[Any]:
    """Return the outlets of a task that stand for an integration."""
    return [outlet for outlet in task.outlets if integration_of(outlet) == integration_id]


def tell_outlets(task: Any, context: Context, report: SyncReport) -> None:
    """Add a report to the asset events of the integration's outlets."""
    for outlet in outlets_of(task, report.now.id):
        context["outlet_events"][outlet].extra.update(report.to_extra())


def collect(hook: Any, integration_id: str, *, changed: bool) -> None:
    """
    Tell Airflow's lineage collector that a hook's caller used an integration.

    :param changed: Whether a sync was started; then the integration is an output of the task, else an input.
    """
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    collector = get_hook_lineage_collector()
    add = collector.add_output_asset if changed else collector.add_input_asset
    asset = {"integration_id": integration_id, "flokit_conn_id": hook.flokit_conn_id}
    add(context=hook, scheme=SCHEME, asset_kwargs=asset)


class SyncLineage:
    """
    Airflow's OpenLineage provider calls these methods after a task that started a sync, in the task's process.

    They report the integration as output dataset, with the number of events brought, and facets of the run:
    ``externalQuery`` (the sync_id), ``errorMessage`` and ``flokit_sync``.
    """

    flokit_conn_id: str
    integration_id: str | None
    _receipt: SyncReceipt | None = None
    _report: SyncReport | None = None
    _failure: str = ""

    if TYPE_CHECKING:  # the operator has it

        def _statistics(self, integration_id: str) -> Integration | None: ...

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Report a sync that was requested, was not needed, or has succeeded."""
        if self._report is not None and self._report.stats is None:
            self._report = replace(self._report, later=self._statistics(self._report.now.id))
        skipped = self._receipt is not None and self._receipt.skipped
        return self._openlineage_facets("skipped" if skipped else "succeeded" if self._report else "requested")

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Report a failure."""
        return self._openlineage_facets("failed")

    def _openlineage_facets(self, outcome: str) -> OperatorLineage[Any, Any]:
        from airflow.providers.common.compat.openlineage.facet import (
            ErrorMessageRunFacet,
            ExternalQueryRunFacet,
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )
        from airflow.providers.openlineage.extractors import OperatorLineage

        known = self._report.to_extra() if self._report else {}
        sync_id = self._receipt.sync_id if self._receipt else None
        integration_id = self._receipt.integration_id if self._receipt else self.integration_id
        outputs: list[Any] = []
        with suppress(FlokitArgumentError):  # no id yet, or a wrong one, for which the task has failed
            asset = flokit_asset(integration_id or "", flokit_conn_id=self.flokit_conn_id)
            dataset = convert_asset_to_openlineage(asset, None)
            facets: dict[str, Any] = {}
            if (brought := known.get("events_brought")) is not None:
                facets["outputStatistics"] = OutputStatisticsOutputDatasetFacet(rowCount=brought)
            outputs = [OutputDataset(namespace=dataset.namespace, name=dataset.name, outputFacets=facets)]
        sync_facet = _sync_facet()(
            outcome=outcome,
            syncId=sync_id,
            lastSyncedAt=known.get("last_synced_at"),
            previousSyncedAt=known.get("previous_synced_at"),
            eventsTotal=known.get("events_total"),
            eventsBrought=known.get("events_brought"),
        )
        run_facets: dict[str, Any] = {"flokit_sync": sync_facet}
        if sync_id:
            run_facets["externalQuery"] = ExternalQueryRunFacet(externalQueryId=sync_id, source="flokit")
        if self._failure:
            run_facets["errorMessage"] = ErrorMessageRunFacet(message=self._failure, programmingLanguage="python")
        return OperatorLineage(outputs=outputs, run_facets=run_facets)


@cache
def _sync_facet() -> Any:
    """Return the class of the run facet ``flokit_sync``, which needs the OpenLineage client."""
    import attr
    from airflow.providers.common.compat.openlineage.facet import RunFacet

    names = ("syncId", "lastSyncedAt", "previousSyncedAt", "eventsTotal", "eventsBrought")
    fields = {"outcome": attr.field(), **{name: attr.field(default=None) for name in names}}
    return attr.make_class("FlokitSyncRunFacet", fields, bases=(RunFacet,))
