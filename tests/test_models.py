"""The models read what FloKit documents, refuse the rest by name, and survive a round trip."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_flokit.models import Integration, IntegrationStatus, MalformedDataError, SyncReceipt, SyncStats

# The samples of FloKit's API reference.
CONNECTED, FAILED = json.loads("""[
  {"id": "int_01hx4j7revenuecat", "type": "revenuecat", "status": "connected",
   "last_synced_at": "2024-03-15T13:00:00Z", "error_message": null},
  {"id": "int_01hx4j7stripe", "type": "stripe", "status": "error",
   "last_synced_at": "2024-03-14T22:00:00Z",
   "error_message": "Webhook signature verification failed — check your signing secret"}
]""")
STATS = {"events_last_24h": 4821, "events_total": 1204739, "earliest_event_at": "2023-08-01T00:00:00Z"}
SINGLE = {**CONNECTED, "sync_stats": STATS}
RECEIPT: dict[str, Any] = {
    "integration_id": "int_01hx4j7revenuecat",
    "sync_id": "sync_01hx4j7k9m2n3p5q6r8s",
    "triggered_at": "2024-03-15T14:00:00Z",
    "skipped": False,
    "idempotency_key": "key-1",
    "baseline": SINGLE,
}
NOON = datetime(2024, 3, 15, 12, tzinfo=UTC)
ABSENT = object()


def changed(data: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    """Return the data with one field replaced, or left out."""
    rest = {name: item for name, item in data.items() if name != field}
    return rest if value is ABSENT else {**rest, field: value}


# What is documented


def test_documented_integrations_are_read() -> None:
    """Field by field; the single read has the statistics too."""
    assert Integration.from_json(SINGLE) == Integration(
        id="int_01hx4j7revenuecat",
        type="revenuecat",
        status=IntegrationStatus.CONNECTED,
        last_synced_at=datetime(2024, 3, 15, 13, tzinfo=UTC),
        sync_stats=SyncStats(4821, 1204739, datetime(2023, 8, 1, tzinfo=UTC)),
    )
    failed = Integration.from_json(FAILED)
    assert failed.status is IntegrationStatus.ERROR
    assert failed.error_message == "Webhook signature verification failed — check your signing secret"


@pytest.mark.parametrize("sample", [CONNECTED, FAILED, SINGLE])
def test_integrations_are_written_as_they_came(sample: dict[str, Any]) -> None:
    """An integration is written as FloKit writes it, with sync_stats only where they were read."""
    assert Integration.from_json(sample).to_json() == sample


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sync_id": None, "idempotency_key": None, "skipped": True},
        {"baseline": {**FAILED, "id": SINGLE["id"], "status": "paused", "last_synced_at": None}},
    ],
    ids=["triggered", "skipped", "never synced"],
)
def test_receipts_come_back_equal(changes: dict[str, Any]) -> None:
    """A receipt, its baseline and their statistics are the same after a way through JSON, as XComs go it."""
    read = SyncReceipt.from_json(RECEIPT | changes)
    assert read.to_json() == RECEIPT | changes
    assert SyncReceipt.from_json(json.loads(json.dumps(read.to_json()))) == read


# What the reference leaves open


def test_unknown_fields_are_ignored() -> None:
    """Fields that FloKit may add change nothing, on any level."""
    more = {**SINGLE, "owner": {"id": 1}, "sync_stats": {**STATS, "events_last_7d": 1}}
    assert Integration.from_json(more) == Integration.from_json(SINGLE)
    assert SyncReceipt.from_json({**RECEIPT, "version": 2}) == SyncReceipt.from_json(RECEIPT)


@pytest.mark.parametrize("status", ["paused", "CONNECTED", " connected"])
def test_a_status_that_is_not_documented_is_kept_as_text(status: str) -> None:
    """One that merely resembles a documented status is unknown too, so that it is never taken for success."""
    found = Integration.from_json({**CONNECTED, "status": status}).status
    assert found == status
    assert not isinstance(found, IntegrationStatus)


@pytest.mark.parametrize("field", ["last_synced_at", "error_message", "sync_stats"])
@pytest.mark.parametrize("value", [None, ABSENT], ids=["null", "absent"])
def test_optional_fields(field: str, value: object) -> None:
    """An optional field may be null or absent; both are None."""
    assert getattr(Integration.from_json(changed(SINGLE, field, value)), field) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-15T12:00:00Z", NOON),
        ("2024-03-15T14:00:00+02:00", NOON),
        ("2024-03-15 12:00:00.123456789", NOON + timedelta(microseconds=123456)),
    ],
)
def test_times(text: str, expected: datetime) -> None:
    """Z, offsets and fractions are read; a naive time is UTC; the result is in UTC and written with Z."""
    found = Integration.from_json({**CONNECTED, "last_synced_at": text})
    assert (found.last_synced_at, found.last_synced_at and found.last_synced_at.tzinfo) == (expected, UTC)
    assert found.to_json()["last_synced_at"] == expected.isoformat().replace("+00:00", "Z")


# What is malformed


@pytest.mark.parametrize("stats", [[], *(changed(STATS, "events_total", value) for value in (ABSENT, "s3cr3t"))])
def test_malformed_statistics_are_none_with_a_warning(stats: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No sync and no wait fails over them; the warning names the field, not its value."""
    assert Integration.from_json({**SINGLE, "sync_stats": stats}) == Integration.from_json(CONNECTED)
    (record,) = caplog.records
    assert (record.levelname, "sync_stats cannot be used" in record.getMessage()) == ("WARNING", True)
    assert "s3cr3t" not in record.getMessage()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (changed(CONNECTED, "id", ABSENT), "'id' is missing"),
        (changed(CONNECTED, "type", ""), "'type' is missing"),
        (changed(CONNECTED, "status", 5), "'status' is of the wrong type"),
        (changed(CONNECTED, "last_synced_at", "fk_rw_s3cr3t"), "'last_synced_at' is not an ISO 8601 time"),
        (changed(CONNECTED, "last_synced_at", 5), "'last_synced_at' is of the wrong type"),
        (changed(CONNECTED, "error_message", 5), "'error_message' is of the wrong type"),
        ("connected", "the integration is not a JSON object"),
    ],
)
def test_malformed_integration(data: object, says: str) -> None:
    """A field that is missing or of another type is refused by its name; its value is not shown."""
    with pytest.raises(MalformedDataError) as caught:
        Integration.from_json(data)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("integration_id", None, "'integration_id' is missing"),
        ("triggered_at", ABSENT, "'triggered_at' is missing"),
        ("triggered_at", "now", "'triggered_at' is not an ISO 8601 time"),
        ("skipped", "false", "'skipped' is of the wrong type"),
        ("sync_id", 5, "'sync_id' is of the wrong type"),
        ("baseline", ABSENT, "the integration is not a JSON object"),
        ("baseline", changed(CONNECTED, "status", None), "'status' is missing"),
    ],
)
def test_malformed_receipt(field: str, value: object, says: str) -> None:
    """A receipt with a wrong field is refused by name."""
    with pytest.raises(MalformedDataError, match=says):
        SyncReceipt.from_json(changed(RECEIPT, field, value))
