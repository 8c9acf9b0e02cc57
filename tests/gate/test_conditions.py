"""What a task waits for: every way to say it, and what a user is told who says it wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.gate.conditions import Checker, Conditions
from tests.gate.states import REQUESTED, receipt

if TYPE_CHECKING:
    from airflow_provider_flokit.models import SyncReceipt

OWNER = "FlokitIntegrationSensor 'wait'"
CHECK = Checker(OWNER)
A, B = receipt(integration_id="a"), receipt(integration_id="b")


def conditions(given: dict[str, Any], **more: Any) -> Conditions:
    """Check what a user gave."""
    return Conditions.of({"flokit_conn_id": "flokit_default", **given}, owner=OWNER, **more)


def refused(given: dict[str, Any], **more: Any) -> str:
    """Return the message with which something is refused; it always names class, task and parameter."""
    with pytest.raises(FlokitArgumentError) as error:
        conditions(given, **more)
    message = str(error.value)
    assert message.startswith(OWNER)
    assert next(name for name in reversed(given)) in message
    return message


@pytest.mark.parametrize(
    ("given", "ids", "receipts", "single"),
    [
        ({"integration_id": "a"}, "a", [], True),
        ({"integration_id": ["a"]}, "a", [], False),
        ({"integration_id": ["b", "a", "b"]}, "ba", [], False),
        ({"integration_id": ("b", "a")}, "ba", [], False),
        ({"integration_id": '["b", "a"]'}, "ba", [], False),
        ({"integration_id": {"a"}}, "a", [], False),
        ({"receipt": A}, "a", [A], True),
        ({"receipt": A.to_json()}, "a", [A], True),
        ({"receipt": json.dumps(A.to_json())}, "a", [A], True),
        ({"receipt": [B.to_json(), A.to_json()]}, "ba", [B, A], False),
        ({"receipt": json.dumps([B.to_json()])}, "b", [B], False),
        ({"integration_id": "a", "receipt": [A]}, "a", [A], True),
        ({"integration_id": ["b", "a"], "receipt": A}, "ba", [A], False),
    ],
)
def test_what_to_wait_for(given: dict[str, Any], ids: str, receipts: list[SyncReceipt], single: bool) -> None:
    """Ids, receipts and lists of them, as Python objects or as the JSON text that a template renders to."""
    found = conditions(given)
    assert found.ids == tuple(ids)
    assert list(found.receipts.values()) == receipts
    assert found.single is single


@pytest.mark.parametrize(
    "given",
    [
        {"integration_id": "a"},
        {"integration_id": ["a", "b"], "synced_after": "2024-03-15T12:00:00Z"},
        {"integration_type": ["stripe", "adjust"]},
        {"integration_type": "stripe"},
        {"receipt": A},
        {"receipt": [A, B]},
        {"receipt": [A, B], "synced_after": datetime(2024, 3, 15, 12, tzinfo=UTC)},
        {"integration_id": ["a", "b"], "receipt": B},
    ],
)
def test_a_trigger_is_given_all_of_it(given: dict[str, Any]) -> None:
    """What goes through the trigger's row as JSON comes out the same."""
    found = conditions({**given, "start_timeout": 7.0, "fail_on_disconnected": False, "tolerate_failures": True})
    again = conditions(json.loads(json.dumps(found.to_arguments())))
    assert again.to_arguments() == found.to_arguments()
    assert (again.ids, again.types, again.receipts, again.single) == (
        found.ids,
        found.types,
        found.receipts,
        found.single,
    )
    assert again.synced_after == found.synced_after
    assert (again.start_timeout, again.fail_on_disconnected, again.tolerate_failures) == (7.0, False, True)


@pytest.mark.parametrize("later_first", [True, False])
def test_of_two_receipts_for_one_integration_the_later_one_counts(later_first: bool) -> None:
    """A mapped sync that names an integration twice is no reason to fail."""
    later = receipt(integration_id="a", sync_id="sync_2", triggered_at=REQUESTED + timedelta(seconds=1))
    given = [later, A] if later_first else [A, later]
    assert conditions({"receipt": given}).receipts == {"a": later}


# Mistakes with receipts


@pytest.mark.parametrize("pair", [("sync_id", "sync_1"), ["baseline", {"id": "a"}], '["triggered_at", "2024"]'])
def test_expand_over_a_task_that_is_not_mapped(pair: Any) -> None:
    """Airflow makes pairs of the receipt's dict; the message says how it is written."""
    assert "sync is not mapped: use receipt=sync.output" in refused({"receipt": pair})


@pytest.mark.parametrize("nothing", [None, "None", "null", "", [None]])
def test_a_receipt_that_is_none(nothing: Any) -> None:
    """The operator it should have come from pushed nothing."""
    assert "the operator pushed no return value" in refused({"receipt": nothing}, required=["receipt"])


def test_a_receipt_as_python_repr() -> None:
    """A template renders a dict to Python's text; the message names two ways that work."""
    said = refused({"receipt": str(A.to_json())})
    assert "Python repr" in said
    assert "receipt=sync.output" in said
    assert "tojson" in said


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"sync_id": "x"}, "'triggered_at' is missing"),
        ("sync_1", "no JSON"),
        (5, "not a JSON object"),
        ([], "empty list"),
        ({**A.to_json(), "integration_id": "b"}, "another integration"),
    ],
)
def test_what_is_no_receipt_at_all(value: Any, says: str) -> None:
    """Anything else is refused with the way that works."""
    assert says in refused({"receipt": value})


def test_a_receipt_for_another_integration() -> None:
    """Beside ``integration_id`` a receipt is for one of those."""
    assert "'b'" in refused({"integration_id": "a", "receipt": B})


# What templates render to


@pytest.mark.parametrize("name", ["integration_id", "integration_type", "receipt", "synced_after"])
@pytest.mark.parametrize("nothing", [None, "", "None", "[]"])
def test_a_template_that_renders_to_nothing_never_drops_a_condition(name: str, nothing: Any) -> None:
    """A gate that lost what it waits for must fail, not open."""
    refused({"integration_id": "a", name: nothing} if name == "synced_after" else {name: nothing}, required=[name])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"integration_id": 5}, "'5'"),
        ({"integration_id": "a/b"}, "a/b"),
        ({"integration_id": ".."}, ".."),
        ({"integration_id": "a\nb"}, "integration_id"),
        ({"integration_id": " a"}, "integration_id"),
        ({"integration_id": "{{ params.id }}"}, "params.id"),
        ({"integration_id": ["a", None]}, "rendered to None"),
        ({"integration_id": []}, "empty list"),
        ({"integration_type": 5}, "5"),
        ({"integration_type": ["stripe", " "]}, "integration_type"),
        ({"integration_id": "a", "synced_after": "yesterday"}, "ISO 8601"),
        ({"integration_id": "a", "synced_after": ""}, "data_interval_end"),
        ({"integration_id": "a", "flokit_conn_id": None}, "None"),
        ({"integration_id": "a", "flokit_conn_id": ["c", "d"]}, "is a list"),
    ],
)
def test_a_wrong_value_is_refused_by_name(given: dict[str, Any], says: str) -> None:
    """Airflow's import-error page shows nothing but the message: it names class, task, parameter and value."""
    assert says.strip("'") in refused(given)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, "integration_id, integration_type or receipt"),
        ({"integration_type": "stripe", "integration_id": "a"}, "integration_type and integration_id"),
        ({"integration_type": "stripe", "receipt": A}, "integration_type and receipt"),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], names: str) -> None:
    """Which parameters were given needs no rendering."""
    with pytest.raises(FlokitArgumentError, match=f"{OWNER}: .*{names}"):
        CHECK.choice(*(given.get(name) for name in ("integration_id", "integration_type", "receipt")))


def test_an_operator_takes_one_integration() -> None:
    """A list is what ``expand()`` is for."""
    assert CHECK.one_id("a") == "a"
    with pytest.raises(FlokitArgumentError, match=r"integration_id is a list: .*expand\(\)"):
        CHECK.one_id(["a", "b"])
    with pytest.raises(FlokitArgumentError, match=r"wait'.*flokit_conn_id"):
        CHECK.text("flokit_conn_id", "")


# Times, numbers, flags


@pytest.mark.parametrize(
    ("value", "hour"),
    [
        ("2024-03-15T12:00:00Z", 12),
        ("2024-03-15T12:00:00+02:00", 10),
        ("2024-03-15 12:00:00", 16),
        (datetime(2024, 3, 15, 12, tzinfo=UTC), 12),
        (datetime(2024, 3, 15, 12), 16),  # noqa: DTZ001 - a naive one is what this is about
    ],
)
def test_a_naive_time_is_in_the_timezone_that_was_given(value: Any, hour: int) -> None:
    """Every naive datetime of an Airflow user is in Airflow's default timezone; aware ones say theirs."""
    east = timezone(-timedelta(hours=4))

    def to_utc(time: datetime) -> datetime:
        return (time if time.tzinfo else time.replace(tzinfo=east)).astimezone(UTC)

    found = conditions({"integration_id": "a", "synced_after": value}, to_utc=to_utc)
    assert found.synced_after == datetime(2024, 3, 15, hour, tzinfo=UTC)


@pytest.mark.parametrize("value", [-1, 0, True, None, "30", float("nan"), float("inf"), timedelta(seconds=-1)])
def test_what_is_no_number_of_seconds(value: Any) -> None:
    """Numbers and flags are checked when the DAG is read."""
    with pytest.raises(FlokitArgumentError, match=f"{OWNER}: timeout is"):
        CHECK.seconds("timeout", value)


def test_numbers_of_seconds_and_flags() -> None:
    """Numbers and timedeltas are fine, 0 where it makes sense; a flag is a boolean."""
    assert [CHECK.seconds("n", value) for value in (5, 0.5, timedelta(minutes=1))] == [5.0, 0.5, 60.0]
    assert CHECK.seconds("n", 0, zero=True) == 0.0
    assert [CHECK.flag("deferrable", value) for value in (True, False)] == [True, False]
    with pytest.raises(FlokitArgumentError, match=f"{OWNER}: deferrable is .*no"):
        CHECK.flag("deferrable", "no")


def test_a_setting_without_effect_is_warned_of() -> None:
    """The warning names class, task and parameter too."""
    with pytest.warns(UserWarning, match=f"{OWNER}: start_timeout has no effect without a receipt"):
        CHECK.no_effect("start_timeout", "without a receipt")


# In words


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"integration_id": ["a", "b"]}, "a, b"),
        ({"integration_type": "stripe"}, "the stripe integration"),
        ({"receipt": A}, "sync sync_1 of a"),
        ({"receipt": receipt(sync_id=None)}, "int_1"),
        ({"integration_id": "a", "synced_after": "2024-03-15T10:00:00Z"}, "a, synced at or after 10:00:00 UTC"),
        ({"integration_id": [f"i{n}" for n in range(104)]}, "i9 and 94 more"),
    ],
)
def test_conditions_in_words(given: dict[str, Any], text: str) -> None:
    """The first line of a wait's log says what it waits for, with the condition."""
    assert conditions(given).describe(REQUESTED).endswith(text)
