"""What a task that waited tells of a sync: pure values for asset events and lineage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_flokit.models import timestamp

if TYPE_CHECKING:
    from airflow_provider_flokit.models import Integration, SyncReceipt, SyncStats


@dataclass(frozen=True, slots=True)
class SyncReport:
    """
    What is known of one sync, or of an integration that was waited for.

    :param now: The integration when the wait ended.
    :param receipt: The receipt of the sync, None if no particular one was waited for.
    :param stats: The integration's statistics after the sync, None if they are not known.
    :param moved_on: Whether another sync has succeeded before the statistics were read.
    """

    now: Integration
    receipt: SyncReceipt | None = None
    stats: SyncStats | None = None
    moved_on: bool = False

    @classmethod
    def of(cls, now: Integration, receipt: SyncReceipt | None = None) -> Self:
        """
        Report on an integration.

        :param now: Its state when the wait ended.
        :param receipt: The receipt of the sync, None if no particular one was waited for.
        """
        return cls(now, receipt, now.sync_stats)

    def with_reading(self, later: Integration | None) -> Self:
        """
        Add the statistics of a later read.

        :param later: The integration as it was read, None if it could not be.
        """
        if later is None or later.sync_stats is None:
            return self
        return replace(self, stats=later.sync_stats, moved_on=later.last_synced_at != self.now.last_synced_at)

    @property
    def sync_id(self) -> str | None:
        """FloKit's id of the sync; None if it is not known, or there was none."""
        return self.receipt.sync_id if self.receipt else None

    @property
    def events_total(self) -> int | None:
        """Events of the integration in all, None if that is not known."""
        return self.stats.events_total if self.stats else None

    @property
    def events_brought(self) -> int | None:
        """Events that came since the baseline, None if that is not known, or more than this sync has brought some."""
        if self.receipt is None:
            return None
        if self.receipt.skipped:
            return 0
        before = self.receipt.baseline.sync_stats
        if before is None or self.stats is None or self.moved_on:
            return None
        brought = self.stats.events_total - before.events_total
        return brought if brought >= 0 else None

    def to_extra(self) -> dict[str, Any]:
        """Return the report as JSON values, for an asset event; None is what is not known."""
        before = self.receipt.baseline if self.receipt else None
        return {
            "integration_id": self.now.id,
            "sync_id": self.sync_id,
            "last_synced_at": timestamp(self.now.last_synced_at),
            "previous_synced_at": timestamp(before.last_synced_at) if before else None,
            "events_total": self.events_total,
            "events_brought": self.events_brought,
        }
