"""Report what a sync brought: to asset events, to Airflow's lineage collector and to OpenLineage."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.assets.flokit import SCHEME, convert_asset_to_openlineage, flokit_asset
from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.models import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_flokit.models import Integration, SyncReceipt


@dataclass(frozen=True)
class SyncReport:
    """What a sync, or a wait for an integration, has brought."""

    now: Integration  # when the wait ended
    receipt: SyncReceipt | None  # None if the wait was not for a certain sync
    read: Callable[[str], Integration | None]  # reads it for its statistics, if somebody wants the report

    @cached_property
    def extra(self) -> dict[str, Any]:
        """The report as JSON values, for an asset event; None means not known."""
        now, receipt = self.now, self.receipt
        before = receipt.baseline.sync_stats if receipt else None
        later = now if now.sync_stats else self.read(now.id) or now
        after = later.sync_stats
        brought = None
        if receipt and receipt.skipped:
            brought = 0
        elif before and after and later.last_synced_at == now.last_synced_at:  # else another sync has brought some
            grown = after.events_total - before.events_total
            brought = grown if grown >= 0 else None
        return {
            "integration_id": now.id,
            "sync_id": receipt.sync_id if receipt else None,
            "last_synced_at": timestamp(now.last_synced_at),
            "previous_synced_at": timestamp(receipt.baseline.last_synced_at) if receipt else None,
            "events_total": after.events_total if after else None,
            "events_brought": brought,
        }


def collect(hook: Any, integration_id: str, *, changed: bool) -> None:
    """Tell Airflow's lineage collector that a hook started a sync of an integration (an output), or read it."""
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    collector = get_hook_lineage_collector()
    add = collector.add_output_asset if changed else collector.add_input_asset
    asset = {"integration_id": integration_id, "flokit_conn_id": hook.flokit_conn_id}
    add(context=hook, scheme=SCHEME, asset_kwargs=asset)


def openlineage_facets(
    outcome: str, integration_id: Any, flokit_conn_id: str, receipt: SyncReceipt | None, report: SyncReport | None
) -> OperatorLineage[Any, Any]:
    """Return what OpenLineage is told of a task that started a sync; Airflow's provider adds the error of a failure."""
    from airflow.providers.common.compat.openlineage.facet import (
        ExternalQueryRunFacet,
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )
    from airflow.providers.openlineage.extractors import OperatorLineage

    known = report.extra if report else {}
    sync_id = receipt.sync_id if receipt else None
    outputs: list[Any] = []
    with suppress(FlokitArgumentError):  # no id yet, or a wrong one, for which the task has failed
        asset = flokit_asset(receipt.integration_id if receipt else integration_id, flokit_conn_id=flokit_conn_id)
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
    return OperatorLineage(outputs=outputs, run_facets=run_facets)


@cache
def _sync_facet() -> Any:
    """Return the class of the run facet ``flokit_sync``, which needs the OpenLineage client."""
    import attr
    from airflow.providers.common.compat.openlineage.facet import RunFacet

    names = ("syncId", "lastSyncedAt", "previousSyncedAt", "eventsTotal", "eventsBrought")
    fields = {"outcome": attr.field(), **{name: attr.field(default=None) for name in names}}
    return attr.make_class("FlokitSyncRunFacet", fields, bases=(RunFacet,))
