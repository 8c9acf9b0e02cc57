"""The run facet ``flokit_sync``; only for where the OpenLineage client is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import attr
from airflow.providers.common.compat.openlineage.facet import RunFacet

if TYPE_CHECKING:
    from airflow_provider_flokit.report import SyncReport


@attr.define
class FlokitSyncRunFacet(RunFacet):
    """
    What came of a sync.

    :param outcome: ``succeeded``, ``requested`` (not waited for), ``skipped`` or ``failed``.
    :param syncId: FloKit's id of the sync.
    :param lastSyncedAt: ``last_synced_at`` after it.
    :param previousSyncedAt: ``last_synced_at`` before it.
    :param eventsTotal: Events of the integration in all.
    :param eventsBrought: Events that the sync has brought.
    """

    outcome: str
    syncId: str | None = None  # noqa: N815 - as OpenLineage names its fields
    lastSyncedAt: str | None = None  # noqa: N815
    previousSyncedAt: str | None = None  # noqa: N815
    eventsTotal: int | None = None  # noqa: N815
    eventsBrought: int | None = None  # noqa: N815

    @classmethod
    def of(cls, outcome: str, sync_id: str | None, report: SyncReport | None) -> Self:
        """
        Make the facet.

        :param outcome: See above.
        :param sync_id: See above.
        :param report: What is known of the sync if it has succeeded.
        """
        known = report.to_extra() if report else {}
        return cls(
            outcome,
            sync_id,
            known.get("last_synced_at"),
            known.get("previous_synced_at"),
            known.get("events_total"),
            known.get("events_brought"),
        )
