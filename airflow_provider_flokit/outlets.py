"""Tells the asset events of a task's outlets what its sync has brought."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_flokit.assets.flokit import integration_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from logging import Logger

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_flokit.report import SyncReport


def has_outlet(outlets: Iterable[object], integration_id: str) -> bool:
    """
    Tell whether an integration is among a task's outlets.

    :param outlets: The task's.
    :param integration_id: The integration.
    """
    return any(integration_of(outlet) == integration_id for outlet in outlets)


def with_stats(report: SyncReport, conn_id: str, log: Logger) -> SyncReport:
    """
    Add the statistics to a report if they can be had, by one single read.

    :param report: The report.
    :param conn_id: The Airflow connection.
    :param log: Where it is told if they cannot; the sync is done all the same.
    """
    if report.stats is not None:
        return report
    from airflow_provider_flokit.hooks.flokit import FlokitHook

    try:
        with FlokitHook(conn_id) as hook:
            snapshot = hook.read_unlisted(report.now.id)
    except Exception as error:  # noqa: BLE001 - the sync is done, and no statistics may fail its task
        log.warning("The statistics of %s are not known: %s", report.now.id, error)
        return report
    if unread := snapshot.unread.get(report.now.id):
        log.warning("The statistics of %s are not known: %s", report.now.id, unread.error)
    return report.with_reading(snapshot.integrations.get(report.now.id))


def tell(
    context: Context, outlets: Sequence[object], reports: Iterable[SyncReport], conn_id: str, log: Logger
) -> list[SyncReport]:
    """
    Add each report to the asset events of the integration's outlets.

    :param context: The task's context.
    :param outlets: The task's.
    :param reports: What there is to tell.
    :param conn_id: The Airflow connection, to read statistics by; only those of outlets are read.
    :param log: Where it is told if they cannot be read.
    :return: the reports, with statistics where they were read
    """
    told = []
    for each in reports:
        if has_outlet(outlets, each.now.id):
            report = with_stats(each, conn_id, log)
            for outlet in outlets:
                if integration_of(outlet) == report.now.id:
                    context["outlet_events"][outlet].extra.update(report.to_extra())  # type: ignore[index]
        else:
            report = each
        told.append(report)
    return told
