"""What is told of a sync, case by case; None stands for what cannot be known."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_flokit.models import Integration, SyncReceipt, SyncStats
from airflow_provider_flokit.report import SyncReport

BEFORE = datetime(2024, 3, 15, 13, tzinfo=UTC)
AFTER = datetime(2024, 3, 15, 14, tzinfo=UTC)
LATER = datetime(2024, 3, 15, 15, tzinfo=UTC)


def seen(last_synced_at: datetime | None, events_total: int | None = None) -> Integration:
    """Make an integration, with statistics if a total is given."""
    stats = None if events_total is None else SyncStats(0, events_total)
    return Integration("int_a", "stripe", "connected", last_synced_at, sync_stats=stats)


def receipt(baseline: Integration, *, skipped: bool = False) -> SyncReceipt:
    """Make a receipt with that baseline."""
    return SyncReceipt("int_a", baseline, BEFORE, None if skipped else "sync_1", skipped=skipped)


def test_a_sync_with_statistics_before_and_after() -> None:
    """Everything is known, and is JSON."""
    report = SyncReport.of(seen(AFTER), receipt(seen(BEFORE, 100))).with_reading(seen(AFTER, 130))
    assert report.to_extra() == {
        "integration_id": "int_a",
        "sync_id": "sync_1",
        "last_synced_at": "2024-03-15T14:00:00Z",
        "previous_synced_at": "2024-03-15T13:00:00Z",
        "events_total": 130,
        "events_brought": 30,
    }


def test_without_statistics_the_numbers_are_unknown() -> None:
    """A failed read takes nothing from the rest."""
    for later in (None, seen(AFTER)):
        extra = SyncReport.of(seen(AFTER), receipt(seen(BEFORE, 100))).with_reading(later).to_extra()
        assert (extra["sync_id"], extra["events_total"], extra["events_brought"]) == ("sync_1", None, None)


def test_what_was_before_is_unknown_without_statistics_in_the_baseline() -> None:
    """The total alone is no difference."""
    report = SyncReport.of(seen(AFTER, 130), receipt(seen(BEFORE)))
    assert (report.events_total, report.events_brought) == (130, None)


def test_another_sync_meanwhile_spoils_the_difference() -> None:
    """Events that a later sync has brought are not put down to this one."""
    report = SyncReport.of(seen(AFTER), receipt(seen(BEFORE, 100))).with_reading(seen(LATER, 500))
    assert (report.events_total, report.events_brought) == (500, None)


def test_a_total_that_shrinks_is_no_difference() -> None:
    """FloKit counts anew, say: nobody knows what the sync has brought."""
    assert SyncReport.of(seen(AFTER, 5), receipt(seen(BEFORE, 100))).events_brought is None


def test_a_skipped_sync_brings_nothing() -> None:
    """The data was fresh: the state before is the state after."""
    report = SyncReport.of(seen(BEFORE, 100), receipt(seen(BEFORE, 100), skipped=True))
    assert (report.sync_id, report.events_total, report.events_brought) == (None, 100, 0)


def test_a_wait_for_no_particular_sync() -> None:
    """There is no before; the present state is told."""
    assert SyncReport.of(seen(AFTER, 130)).to_extra() == {
        "integration_id": "int_a",
        "sync_id": None,
        "last_synced_at": "2024-03-15T14:00:00Z",
        "previous_synced_at": None,
        "events_total": 130,
        "events_brought": None,
    }
