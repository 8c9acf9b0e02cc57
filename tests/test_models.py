"""The models read what FloKit documents, refuse the rest by name, and survive a round trip."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta, timezone
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
    as_utc,
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


def test_receipt_is_written_back_as_it_came() -> None:
    """A receipt is written as it was read."""
    assert SyncReceipt.from_json(RECEIPT).to_json() == RECEIPT


def test_models_are_frozen_and_comparable() -> None:
    """Models are values: equal by their fields, hashable, and not to be changed."""
    receipt = SyncReceipt.from_json(RECEIPT)
    assert receipt == SyncReceipt.from_json(RECEIPT)
    assert len({receipt, SyncReceipt.from_json(RECEIPT)}) == 1
    for model, field in [(receipt, "sync_id"), (receipt.baseline, "status"), (SyncStats(1, 2), "events_total")]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(model, field, None)


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


@pytest.mark.parametrize("status", ["Connected", "CONNECTED", " connected", "connected "])
def test_status_is_taken_literally(status: str) -> None:
    """A text that merely resembles a documented status is an unknown one, so that it is never taken for success."""
    assert Integration.from_json({**LISTED[0], "status": status}).status == status
    assert Integration.from_json({**LISTED[0], "status": status}).status != IntegrationStatus.CONNECTED


@pytest.mark.parametrize("status", ["connected", "error", "syncing", "disconnected"])
def test_documented_statuses_are_members(status: str) -> None:
    """Each documented status is a member of the enumeration, and equal to its text."""
    found = Integration.from_json({**LISTED[0], "status": status}).status
    assert isinstance(found, IntegrationStatus)
    assert found == status


@pytest.mark.parametrize("field", ["last_synced_at", "error_message", "sync_stats"])
@pytest.mark.parametrize("value", [None, ABSENT], ids=["null", "absent"])
def test_optional_fields(field: str, value: object) -> None:
    """An optional field may be null or absent; both are None."""
    assert getattr(Integration.from_json(changed(SINGLE, field, value)), field) is None


@pytest.mark.parametrize("value", [None, ABSENT], ids=["null", "absent"])
def test_statistics_of_an_integration_without_events(value: object) -> None:
    """There is no earliest event before the first one."""
    stats = SyncStats.from_json(changed(SINGLE["sync_stats"], "earliest_event_at", value))
    assert stats.earliest_event_at is None
    assert stats.to_json()["earliest_event_at"] is None


@pytest.mark.parametrize("field", ["sync_id", "idempotency_key"])
@pytest.mark.parametrize("value", [None, ABSENT], ids=["null", "absent"])
def test_optional_receipt_fields(field: str, value: object) -> None:
    """A receipt of a sync that was attached to, or not needed, has no sync_id and maybe no key."""
    assert getattr(SyncReceipt.from_json(changed(RECEIPT, field, value)), field) is None


def test_receipt_of_a_skipped_sync() -> None:
    """A receipt says when no sync was needed; by default one was."""
    assert SyncReceipt.from_json({**RECEIPT, "skipped": True}).skipped is True
    assert SyncReceipt.from_json(changed(RECEIPT, "skipped", ABSENT)).skipped is False


# Malformed data

NO_TEXT = [ABSENT, None, "", 1, True, [], {}]
NO_OPTIONAL_TEXT = [1, False, [], {}]
NO_TIME = ["", "yesterday", "2024-03-15T25:00:00Z", "1710507600", 1710507600, True, [], {}]
NO_INTEGER = [ABSENT, None, "1", 1.0, True, [], {}]
NO_OBJECT = [None, "connected", 1, True, [], [["id", "int_1"]]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("id", value) for value in NO_TEXT),
        *(("type", value) for value in NO_TEXT),
        *(("status", value) for value in NO_TEXT),
        *(("last_synced_at", value) for value in NO_TIME),
        *(("error_message", value) for value in NO_OPTIONAL_TEXT),
        *(("sync_stats", value) for value in NO_OBJECT if value is not None),
    ],
)
def test_malformed_integration(field: str, value: object) -> None:
    """A required field that is missing, and any field of another type, is refused by name."""
    with pytest.raises(MalformedDataError, match=field):
        Integration.from_json(changed(LISTED[0], field, value))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("events_last_24h", value) for value in NO_INTEGER),
        *(("events_total", value) for value in NO_INTEGER),
        *(("earliest_event_at", value) for value in NO_TIME),
    ],
)
def test_malformed_statistics(field: str, value: object) -> None:
    """The counts of the statistics are integers and its time is a time; else it is refused by name."""
    stats = changed(SINGLE["sync_stats"], field, value)
    with pytest.raises(MalformedDataError, match=field):
        SyncStats.from_json(stats)
    with pytest.raises(MalformedDataError, match=field):
        Integration.from_json({**SINGLE, "sync_stats": stats})


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        *(("integration_id", value, "integration_id") for value in NO_TEXT),
        *(("triggered_at", value, "triggered_at") for value in [ABSENT, None, *NO_TIME]),
        *(("skipped", value, "skipped") for value in [None, "false", 0, [], {}]),
        *(("sync_id", value, "sync_id") for value in NO_OPTIONAL_TEXT),
        *(("idempotency_key", value, "idempotency_key") for value in NO_OPTIONAL_TEXT),
        *(("baseline", value, "integration") for value in [ABSENT, *NO_OBJECT]),
        ("baseline", changed(LISTED[0], "status", None), "status"),
        ("baseline", LISTED[1], "baseline"),
    ],
)
def test_malformed_receipt(field: str, value: object, named: str) -> None:
    """A receipt with a wrong field, or with the baseline of another integration, is refused by name."""
    with pytest.raises(MalformedDataError, match=named):
        SyncReceipt.from_json(changed(RECEIPT, field, value))


@pytest.mark.parametrize("model", [Integration, SyncReceipt, SyncStats])
@pytest.mark.parametrize("data", NO_OBJECT)
def test_no_object(model: type[Integration | SyncReceipt | SyncStats], data: object) -> None:
    """What is not even a JSON object is refused."""
    with pytest.raises(MalformedDataError, match="is not a JSON object"):
        model.from_json(data)


def test_malformed_data_is_a_value_error_that_shows_little() -> None:
    """The error is a ValueError, and quotes at most the first 64 characters of a wrong time."""
    with pytest.raises(ValueError, match=r"'last_synced_at': '9{64}' is not an ISO 8601 time") as caught:
        Integration.from_json({**LISTED[0], "last_synced_at": "9" * 1000})
    assert len(str(caught.value)) < 120


# Times

NOON = datetime(2024, 3, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-15T12:00:00Z", NOON),
        ("2024-03-15T12:00:00+00:00", NOON),
        ("2024-03-15T12:00:00-00:00", NOON),
        ("2024-03-15T12:00:00", NOON),
        ("2024-03-15 12:00:00", NOON),
        ("2024-03-15T12:00Z", NOON),
        ("20240315T120000Z", NOON),
        ("2024-03-15T14:00:00+02:00", NOON),
        ("2024-03-15T06:30:00-05:30", NOON),
        ("2024-03-16T02:00:00+14:00", NOON),
        ("2024-03-15T12:00:00.5Z", NOON + timedelta(milliseconds=500)),
        ("2024-03-15T12:00:00.123Z", NOON + timedelta(milliseconds=123)),
        ("2024-03-15T12:00:00.123456+00:00", NOON + timedelta(microseconds=123456)),
        ("2024-03-15T12:00:00.123456789Z", NOON + timedelta(microseconds=123456)),
        ("2024-03-15T12:00:00,250Z", NOON + timedelta(milliseconds=250)),
        ("2024-03-15T12:00:00.750", NOON + timedelta(milliseconds=750)),
        ("2024-03-15", datetime(2024, 3, 15, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
        ("0001-01-01T14:00:00+14:00", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_times(text: str, expected: datetime) -> None:
    """Z, offsets and fractions are read; a naive time is UTC; the result is in UTC."""
    assert parse_time(text) == expected
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2024-02-30T00:00:00Z",
        "2024-03-15T12:00:00+25:00",
        "2024-03-15T12:00:00 UTC",
        "Fri, 15 Mar 2024 12:00:00 GMT",
        " 2024-03-15T12:00:00Z",
        "10000-01-01T00:00:00Z",
        "",
        "now",
        "\x00",
        "\ud800",
    ],
)
def test_no_times(text: str) -> None:
    """What is no ISO 8601 time, or lies outside the years 1 to 9999 in UTC, is refused."""
    with pytest.raises(MalformedDataError, match="is not an ISO 8601 time"):
        parse_time(text)


def test_as_utc() -> None:
    """A naive datetime is UTC already, an aware one is converted."""
    assert as_utc(datetime(2024, 3, 15, 12)) == NOON  # noqa: DTZ001 - a naive one is the point
    converted = as_utc(datetime(2024, 3, 15, 14, tzinfo=timezone(timedelta(hours=2))))
    assert (converted, converted.tzinfo) == (NOON, UTC)


@pytest.mark.parametrize(
    ("time", "written"),
    [
        (NOON, "2024-03-15T12:00:00Z"),
        (NOON.replace(microsecond=500000), "2024-03-15T12:00:00.500000Z"),
        (NOON.astimezone(timezone(timedelta(hours=-5))), "2024-03-15T12:00:00Z"),
        (NOON.replace(tzinfo=None), "2024-03-15T12:00:00Z"),
        (None, None),
    ],
)
def test_times_are_written_in_utc(time: datetime | None, written: str | None) -> None:
    """Times are written in UTC with Z, whatever zone they came in."""
    assert Integration("int_1", "stripe", "connected", time).to_json()["last_synced_at"] == written


# Properties

TEXT = st.text(min_size=1)
TIMES = st.datetimes(timezones=st.just(UTC))
STATS = st.builds(SyncStats, st.integers(), st.integers(), st.none() | TIMES)
INTEGRATIONS = st.builds(
    Integration,
    id=TEXT,
    type=TEXT,
    status=st.sampled_from(IntegrationStatus)
    | TEXT.filter(lambda text: text not in frozenset(map(str, IntegrationStatus))),
    last_synced_at=st.none() | TIMES,
    error_message=st.none() | st.text(),
    sync_stats=st.none() | STATS,
)
RECEIPTS = st.builds(
    lambda baseline, **fields: SyncReceipt(baseline.id, baseline, **fields),
    INTEGRATIONS,
    triggered_at=TIMES,
    sync_id=st.none() | st.text(),
    idempotency_key=st.none() | st.text(),
    skipped=st.booleans(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
TIME_LIKE = st.from_regex(
    re.compile(
        r"\A[0-9]{4}-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:00)?\Z"
    )
)


@given(INTEGRATIONS)
def test_integration_round_trip(integration: Integration) -> None:
    """Any integration comes back equal from its JSON text, with its status as a member where it is documented."""
    back = Integration.from_json(json.loads(json.dumps(integration.to_json())))
    assert back == integration
    assert type(back.status) is type(integration.status)


@given(RECEIPTS)
def test_receipt_round_trip(receipt: SyncReceipt) -> None:
    """Any receipt comes back equal from its JSON text."""
    assert SyncReceipt.from_json(json.loads(json.dumps(receipt.to_json()))) == receipt


@given(st.text() | TIME_LIKE)
def test_any_text_is_a_time_or_refused(text: str) -> None:
    """Reading a time gives one in UTC or a MalformedDataError, nothing else."""
    with contextlib.suppress(MalformedDataError):
        assert parse_time(text).tzinfo is UTC


@given(
    JSON
    | st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(["id", "type", "status", "integration_id", "sync_id"], st.just("x") | JSON),
            **dict.fromkeys(["last_synced_at", "triggered_at", "earliest_event_at"], TIME_LIKE | JSON),
            **dict.fromkeys(["events_last_24h", "events_total"], st.integers() | JSON),
            **dict.fromkeys(["error_message", "idempotency_key", "skipped"], JSON),
            "sync_stats": st.just(SINGLE["sync_stats"]) | JSON,
            "baseline": st.just({"id": "x", "type": "x", "status": "x"}) | JSON,
        },
    )
)
def test_any_json_is_a_model_or_refused(data: object) -> None:
    """Whatever JSON comes, from_json returns a model or raises MalformedDataError."""
    for model in (Integration, SyncReceipt, SyncStats):
        try:
            read = model.from_json(data)
        except MalformedDataError:
            continue
        assert model.from_json(read.to_json()) == read
