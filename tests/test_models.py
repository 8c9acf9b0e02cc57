"""The models read what FloKit documents, refuse the rest by name, and survive a round trip."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_flokit.models import (
    Integration,
    IntegrationStatus,
    MalformedDataError,
    SyncReceipt,
    SyncStats,
    parse_time,
)

# The samples of FloKit's API reference.
LISTED = json.loads("""{
  "integrations": [
    {"id": "int_01hx4j7revenuecat", "type": "revenuecat", "status": "connected",
     "last_synced_at": "2024-03-15T13:00:00Z", "error_message": null},
    {"id": "int_01hx4j7appsflyer", "type": "appsflyer", "status": "connected",
     "last_synced_at": "2024-03-15T12:45:00Z", "error_message": null},
    {"id": "int_01hx4j7stripe", "type": "stripe", "status": "error",
     "last_synced_at": "2024-03-14T22:00:00Z",
     "error_message": "Webhook signature verification failed — check your signing secret"}
  ]
}""")["integrations"]
SINGLE = json.loads("""{
  "integration": {
    "id": "int_01hx4j7revenuecat", "type": "revenuecat", "status": "connected",
    "last_synced_at": "2024-03-15T13:00:00Z", "error_message": null,
    "sync_stats": {
      "events_last_24h": 4821, "events_total": 1204739, "earliest_event_at": "2023-08-01T00:00:00Z"
    }
  }
}""")["integration"]
RECEIPT: dict[str, Any] = {
    "integration_id": "int_01hx4j7revenuecat",
    "sync_id": "sync_01hx4j7k9m2n3p5q6r8s",
    "triggered_at": "2024-03-15T14:00:00Z",
    "skipped": False,
    "idempotency_key": "key-1",
    "baseline": LISTED[0],
}

ABSENT = object()


def changed(data: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    """Return the data with one field replaced, or left out."""
    rest = {name: item for name, item in data.items() if name != field}
    return rest if value is ABSENT else {**rest, field: value}


# The documented answers


def test_documented_list() -> None:
    """The documented list is read field by field."""
    revenuecat, _, stripe = map(Integration.from_json, LISTED)
    assert revenuecat == Integration(
        id="int_01hx4j7revenuecat",
        type="revenuecat",
        status=IntegrationStatus.CONNECTED,
        last_synced_at=datetime(2024, 3, 15, 13, tzinfo=UTC),
    )
    assert stripe.status is IntegrationStatus.ERROR
    assert stripe.error_message == "Webhook signature verification failed — check your signing secret"
    assert stripe.last_synced_at == datetime(2024, 3, 14, 22, tzinfo=UTC)


def test_documented_single_read() -> None:
    """The documented single read has the statistics too."""
    assert Integration.from_json(SINGLE).sync_stats == SyncStats(4821, 1204739, datetime(2023, 8, 1, tzinfo=UTC))


@pytest.mark.parametrize("sample", [*LISTED, SINGLE], ids=["revenuecat", "appsflyer", "stripe", "single"])
def test_documented_integrations_are_written_back_as_they_came(sample: dict[str, Any]) -> None:
    """An integration is written as FloKit writes it, with sync_stats only where they were read."""
    assert Integration.from_json(sample).to_json() == sample


# What the reference leaves open


def test_unknown_fields_are_ignored() -> None:
    """Fields that FloKit may add change nothing, on any level."""
    stats = {**SINGLE["sync_stats"], "events_last_7d": 1}
    assert Integration.from_json({**SINGLE, "owner": {"id": 1}, "sync_stats": stats}) == Integration.from_json(SINGLE)
    assert SyncReceipt.from_json({**RECEIPT, "version": 2}) == SyncReceipt.from_json(RECEIPT)


def test_unknown_status_and_type_are_kept() -> None:
    """A status and a type that FloKit may add are kept as text."""
    integration = Integration.from_json({**LISTED[0], "status": "paused", "type": "braze"})
    assert (integration.status, integration.type) == ("paused", "braze")
    assert not isinstance(integration.status, IntegrationStatus)
    assert integration.to_json()["status"] == "paused"


@pytest.mark.parametrize("status", ["Connected", "CONNECTED", " connected"])
def test_status_is_taken_literally(status: str) -> None:
    """A text that merely resembles a documented status is an unknown one, so that it is never taken for success."""
    assert Integration.from_json({**LISTED[0], "status": status}).status != IntegrationStatus.CONNECTED


@pytest.mark.parametrize("field", ["last_synced_at", "error_message", "sync_stats"])
@pytest.mark.parametrize("value", [None, ABSENT], ids=["null", "absent"])
def test_optional_fields(field: str, value: object) -> None:
    """An optional field may be null or absent; both are None."""
    assert getattr(Integration.from_json(changed(SINGLE, field, value)), field) is None


def test_receipts() -> None:
    """A receipt is written as it was read; of a sync that was attached to, or not needed, it has no sync_id."""
    assert SyncReceipt.from_json(RECEIPT).to_json() == RECEIPT
    for value in (None, ABSENT):
        assert SyncReceipt.from_json(changed(RECEIPT, "sync_id", value)).sync_id is None
        assert SyncReceipt.from_json(changed(RECEIPT, "idempotency_key", value)).idempotency_key is None
    assert SyncReceipt.from_json({**RECEIPT, "skipped": True}).skipped is True
    assert SyncReceipt.from_json(changed(RECEIPT, "skipped", ABSENT)).skipped is False


# Statistics are a side datum


@pytest.mark.parametrize(
    "stats",
    [
        {},
        [],
        "many",
        changed(SINGLE["sync_stats"], "events_total", ABSENT),
        changed(SINGLE["sync_stats"], "events_total", None),
        changed(SINGLE["sync_stats"], "events_total", "1204739"),
        changed(SINGLE["sync_stats"], "events_last_24h", 4821.0),
        changed(SINGLE["sync_stats"], "earliest_event_at", "yesterday"),
    ],
)
def test_malformed_statistics_are_none_with_a_warning(stats: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No sync and no wait fails over them; the warning names the field, not its value."""
    assert Integration.from_json({**SINGLE, "sync_stats": stats}) == Integration.from_json(LISTED[0])
    (record,) = caplog.records
    assert (record.levelname, "sync_stats cannot be used" in record.getMessage()) == ("WARNING", True)
    assert "1204739" not in record.getMessage()


def test_there_is_no_earliest_event_before_the_first(caplog: pytest.LogCaptureFixture) -> None:
    """Statistics without that time are usable."""
    for value in (None, ABSENT):
        stats = changed(SINGLE["sync_stats"], "earliest_event_at", value)
        assert Integration.from_json({**SINGLE, "sync_stats": stats}).sync_stats == SyncStats(4821, 1204739)
    assert caplog.records == []


# Malformed data


@pytest.mark.parametrize(
    ("data", "named"),
    [
        *((changed(LISTED[0], field, value), f"{field!r} is")
          for field in ("id", "type", "status") for value in (ABSENT, None, "", 5, [])),
        *((changed(LISTED[0], "last_synced_at", value), "'last_synced_at' is") for value in ("", "now", 5, [])),
        (changed(LISTED[0], "error_message", 5), "'error_message' is of the wrong type"),
        *((data, "the integration is not a JSON object") for data in (None, [], "connected", 5)),
    ],
)  # fmt: skip
def test_malformed_integration(data: object, named: str) -> None:
    """A field that is missing or of another type is refused by its name."""
    with pytest.raises(MalformedDataError, match=f"^{named}"):
        Integration.from_json(data)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("integration_id", None, "'integration_id' is missing"),
        ("triggered_at", ABSENT, "'triggered_at' is missing"),
        ("triggered_at", "now", "'triggered_at' is not an ISO 8601 time"),
        ("skipped", "false", "'skipped' is of the wrong type"),
        ("sync_id", 5, "'sync_id' is of the wrong type"),
        ("baseline", ABSENT, "the integration is not a JSON object"),
        ("baseline", changed(LISTED[0], "status", None), "'status' is missing"),
        ("baseline", LISTED[1], "'baseline' is that of another integration"),
    ],
)
def test_malformed_receipt(field: str, value: object, named: str) -> None:
    """A receipt with a wrong field, or with the baseline of another integration, is refused by name."""
    with pytest.raises(MalformedDataError, match=named):
        SyncReceipt.from_json(changed(RECEIPT, field, value))


def test_a_wrong_value_is_not_shown() -> None:
    """Anything may stand in it; the field's name is enough to find it."""
    with pytest.raises(ValueError, match="'last_synced_at' is not an ISO 8601 time") as caught:
        Integration.from_json({**LISTED[0], "last_synced_at": "fk_rw_s3cr3t"})
    assert "s3cr3t" not in str(caught.value)


# Times

NOON = datetime(2024, 3, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-15T12:00:00Z", NOON),
        ("2024-03-15T12:00:00+00:00", NOON),
        ("2024-03-15T12:00:00", NOON),
        ("2024-03-15 12:00:00", NOON),
        ("2024-03-15T14:00:00+02:00", NOON),
        ("2024-03-15T06:30:00-05:30", NOON),
        ("2024-03-15T12:00:00.5Z", NOON + timedelta(milliseconds=500)),
        ("2024-03-15T12:00:00.123456+00:00", NOON + timedelta(microseconds=123456)),
        ("2024-03-15T12:00:00.123456789Z", NOON + timedelta(microseconds=123456)),
        ("2024-03-15T12:00:00.750", NOON + timedelta(milliseconds=750)),
    ],
)
def test_times(text: str, expected: datetime) -> None:
    """Z, offsets and fractions are read; a naive time is UTC; the result is in UTC and written with Z."""
    found = Integration.from_json({**LISTED[0], "last_synced_at": text})
    assert found.last_synced_at == expected
    assert found.last_synced_at.tzinfo is UTC
    assert found.to_json()["last_synced_at"] == expected.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("text", ["", "now", "2024-02-30T00:00:00Z", "Fri, 15 Mar 2024 12:00:00 GMT", "1710504000"])
def test_no_times(text: str) -> None:
    """What is no ISO 8601 time is refused."""
    with pytest.raises(MalformedDataError, match="not an ISO 8601 time"):
        parse_time(text)


# Round trips

TEXT = st.text(min_size=1)
TIMES = st.datetimes(timezones=st.just(UTC))
INTEGRATIONS = st.builds(
    Integration,
    id=TEXT,
    type=TEXT,
    status=st.sampled_from(IntegrationStatus) | TEXT.filter(lambda text: text not in list(IntegrationStatus)),
    last_synced_at=st.none() | TIMES,
    error_message=st.none() | st.text(),
    sync_stats=st.none() | st.builds(SyncStats, st.integers(), st.integers(), st.none() | TIMES),
)
RECEIPTS = st.builds(
    lambda baseline, **fields: SyncReceipt(baseline.id, baseline, **fields),
    INTEGRATIONS,
    triggered_at=TIMES,
    sync_id=st.none() | st.text(),
    idempotency_key=st.none() | st.text(),
    skipped=st.booleans(),
)


@given(RECEIPTS)
def test_receipts_come_back_equal(receipt: SyncReceipt) -> None:
    """A receipt, its baseline and their statistics are the same after a way through JSON, as XComs go it."""
    back = SyncReceipt.from_json(json.loads(json.dumps(receipt.to_json())))
    assert back == receipt
    assert type(back.baseline.status) is type(receipt.baseline.status)
