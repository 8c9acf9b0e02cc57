"""Lineage: what hooks tell Airflow's lineage collector, and what operators tell OpenLineage."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.assets.flokit import SCHEME, convert_asset_to_openlineage, flokit_asset
from airflow_provider_flokit.errors import FlokitArgumentError

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_flokit.report import SyncReport


def collect(hook: Any, integration_id: str, *, changed: bool) -> None:
    """
    Tell Airflow's lineage collector, if anybody listens to it, that a hook's caller used an integration.

    :param hook: The hook.
    :param integration_id: The integration.
    :param changed: Whether a sync was started, so that it is an output of the task; else it is an input.
    """
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
    add = collector.add_output_asset if changed else collector.add_input_asset
    add(
        context=hook,
        scheme=SCHEME,
        asset_kwargs={"integration_id": integration_id, "flokit_conn_id": hook.flokit_conn_id},
    )


def openlineage_facets(
    conn_id: str,
    integration_id: str | None,
    report: SyncReport | None,
    *,
    outcome: str,
    sync_id: str | None = None,
    failure: str | None = None,
) -> OperatorLineage[Any, Any]:
    """
    Return what OpenLineage is told of a task that started a sync.

    :param conn_id: The Airflow connection.
    :param integration_id: The integration, None if the task ended before it was known.
    :param report: The report of a task that waited until its sync had succeeded.
    :param outcome: ``succeeded``, ``requested`` (not waited for), ``skipped`` or ``failed``.
    :param sync_id: FloKit's id of the sync, if known.
    :param failure: Why it failed.
    :return: the integration as output dataset, with the number of events brought, and facets of the run:
        ``externalQuery`` (the sync_id), ``errorMessage`` and ``flokit_sync``
    """
    from airflow.providers.common.compat.openlineage.facet import (
        ErrorMessageRunFacet,
        ExternalQueryRunFacet,
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_flokit.openlineage import FlokitSyncRunFacet

    outputs = []
    with suppress(FlokitArgumentError):  # an id that the task has failed on
        dataset = convert_asset_to_openlineage(flokit_asset(str(integration_id), flokit_conn_id=conn_id), None)
        brought = report.events_brought if report else None
        facets: dict[str, Any] = (
            {} if brought is None else {"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=brought)}
        )
        outputs = [OutputDataset(namespace=dataset.namespace, name=dataset.name, outputFacets=facets)]
    run_facets: dict[str, Any] = {
        "flokit_sync": FlokitSyncRunFacet.of(outcome, sync_id, report),
    }
    if sync_id:
        run_facets["externalQuery"] = ExternalQueryRunFacet(externalQueryId=sync_id, source="flokit")
    if failure:
        run_facets["errorMessage"] = ErrorMessageRunFacet(message=failure, programmingLanguage="python")
    return OperatorLineage(outputs=outputs, run_facets=run_facets)
