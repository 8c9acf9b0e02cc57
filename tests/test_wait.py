"""What is waited for: every way to say it, what contradicts itself, and that triggers get all of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.models import Integration, SyncReceipt
from airflow_provider_flokit.wait import Wait

NOON = datetime(2024, 3, 15, 12, tzinfo=UTC)


def receipt(integration_id: str, *, skipped: bool = False) -> SyncReceipt:
    """Return a receipt for an integration."""
    baseline = Integration(integration_id, "stripe", "connected", NOON)
    return SyncReceipt(integration_id, baseline, NOON, None if skipped else "sync_1", skipped=skipped)


A, B, C = receipt("a"), receipt("b"), receipt("c")


def wait(**given: Any) -> Wait:
    """Return a wait on the default connection."""
    return Wait.of(flokit_conn_id="flokit_default", **given)


# What to wait for


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"integration_id": "a"}, {"ids": ("a",)}),
        ({"integration_id": ["a"]}, {"ids": ("a",), "single": False}),
        ({"integration_id": ["b", "a", "b"]}, {"ids": ("b", "a"), "single": False}),
        ({"integration_id": "['b', 'a']"}, {"ids": ("b", "a"), "single": False}),
        ({"integration_type": "stripe"}, {"types": ("stripe",)}),
        ({"integration_type": ["stripe", "adjust"]}, {"types": ("stripe", "adjust"), "single": False}),
        ({"receipt": A}, {"ids": ("a",), "receipts": {"a": A}}),
        ({"receipt": A.to_json()}, {"ids": ("a",), "receipts": {"a": A}}),
        ({"receipt": json.dumps(A.to_json())}, {"ids": ("a",), "receipts": {"a": A}}),
        ({"receipt": [B, A]}, {"ids": ("b", "a"), "receipts": {"a": A, "b": B}, "single": False}),
        ({"receipt": [A]}, {"ids": ("a",), "receipts": {"a": A}, "single": False}),
        ({"integration_id": "a", "receipt": A}, {"ids": ("a",), "receipts": {"a": A}}),
        ({"integration_id": "a", "receipt": [A]}, {"ids": ("a",), "receipts": {"a": A}}),
        ({"integration_id": ["b", "a"], "receipt": A}, {"ids": ("b", "a"), "receipts": {"a": A}, "single": False}),
        (
            {"integration_id": ["b", "a"], "receipt": [A, B]},
            {"ids": ("b", "a"), "receipts": {"a": A, "b": B}, "single": False},
        ),
    ],
)
def test_what_to_wait_for(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """Ids, types and receipts may be one or several, in order; ``single`` says how the result is to look."""
    assert wait(**given) == Wait("flokit_default", **expected)


def test_defaults_and_settings() -> None:
    """Every setting is kept as it was given; the defaults are the sensor's."""
    plain = wait(integration_id="a")
    assert (plain.synced_after, plain.start_timeout, plain.fail_on_disconnected) == (None, 300.0, True)
    assert plain.tolerate_failures is False
    tuned = Wait.of(
        flokit_conn_id="flokit_eu",
        integration_id="a",
        synced_after="2024-03-15T14:00:00+02:00",
        start_timeout=5.0,
        fail_on_disconnected=False,
        tolerate_failures=True,
    )
    assert tuned == Wait(
        "flokit_eu", ("a",), synced_after=NOON, start_timeout=5.0, fail_on_disconnected=False, tolerate_failures=True
    )


def test_skipped_receipt_is_judged_as_without_one() -> None:
    """A receipt of a sync that was not needed only names its integration."""
    assert wait(receipt=receipt("a", skipped=True)) == wait(integration_id="a")
    mixed = wait(receipt=[receipt("a", skipped=True), B])
    assert (mixed.ids, dict(mixed.receipts)) == (("a", "b"), {"b": B})


# What contradicts itself


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Say what to wait for: give integration_id, integration_type or receipt"),
        ({"integration_id": "a", "integration_type": "stripe"}, "Give integration_id or integration_type, not both"),
        ({"integration_type": "stripe", "receipt": A}, "A receipt names its integration; leave integration_type out"),
        ({"integration_id": "b", "receipt": A}, "receipt is for 'a', which integration_id does not name"),
        ({"integration_id": ["a", "c"], "receipt": [A, B]}, "receipt is for 'b', which integration_id does not name"),
        ({"integration_id": ""}, "integration_id is empty"),
        ({"integration_id": []}, "integration_id is empty"),
        ({"integration_id": "a/b"}, "integration_id 'a/b' is no integration id"),
        ({"integration_id": ["a", "../b"]}, "integration_id '../b' is no integration id"),
        ({"integration_id": ["a", 5]}, "integration_id holds 5"),
        ({"integration_type": ""}, "integration_type is empty"),
        ({"integration_type": [None]}, "integration_type holds None"),
        ({"receipt": ""}, "receipt is empty"),
        ({"receipt": {}}, "receipt is no receipt"),
        ({"receipt": [A, A]}, "two receipts for 'a'"),
        ({"integration_id": "a", "synced_after": "soon"}, "synced_after: 'soon' is not an ISO 8601 time"),
        ({"integration_id": "a", "synced_after": ""}, "synced_after: '' is not an ISO 8601 time"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    """What is missing, wrong or contradicts itself is refused by the parameter's name."""
    with pytest.raises(FlokitArgumentError) as caught:
        wait(**given)
    assert message in str(caught.value)


# The trigger's arguments


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({"integration_id": "a"}, {"integration_id": "a"}),
        ({"integration_id": ["a"]}, {"integration_id": ["a"]}),
        ({"integration_type": "stripe"}, {"integration_type": "stripe"}),
        ({"integration_type": ["stripe", "adjust"]}, {"integration_type": ["stripe", "adjust"]}),
        ({"receipt": A}, {"receipt": A.to_json()}),
        ({"receipt": [A, B]}, {"receipt": [A.to_json(), B.to_json()]}),
        ({"integration_id": ["a", "b"], "receipt": B}, {"integration_id": ["a", "b"], "receipt": [B.to_json()]}),
        ({"receipt": receipt("a", skipped=True)}, {"integration_id": "a"}),
    ],
)
def test_arguments(given: dict[str, Any], arguments: dict[str, Any]) -> None:
    """The trigger gets what was asked for as JSON values, with every setting of the user."""
    found = wait(**given, synced_after=NOON, start_timeout=7.0, fail_on_disconnected=False, tolerate_failures=True)
    assert found.to_arguments() == {
        "integration_id": None,
        "integration_type": None,
        "receipt": None,
        "synced_after": "2024-03-15T12:00:00+00:00",
        "flokit_conn_id": "flokit_default",
        "start_timeout": 7.0,
        "fail_on_disconnected": False,
        "tolerate_failures": True,
        **arguments,
    }


def test_no_synced_after_in_the_arguments() -> None:
    """Without synced_after there is none in the arguments."""
    assert wait(integration_id="a").to_arguments()["synced_after"] is None


@pytest.mark.parametrize(
    "given",
    [
        {"integration_id": "a"},
        {"integration_id": ["a"]},
        {"integration_id": ["c", "a", "b"]},
        {"integration_type": "stripe"},
        {"integration_type": ["stripe"]},
        {"receipt": A},
        {"receipt": [A]},
        {"receipt": [B, A]},
        {"integration_id": "a", "receipt": [A]},
        {"integration_id": ["b", "a"], "receipt": [A, B]},
        {"integration_id": ["c", "a", "b"], "receipt": [B, A]},
        {"receipt": [receipt("a", skipped=True), B]},
        {"receipt": [receipt("a", skipped=True), receipt("b", skipped=True)]},
        {"integration_id": ["b", "a"], "receipt": [A, receipt("b", skipped=True)]},
    ],
)
def test_trigger_waits_for_the_same(given: dict[str, Any]) -> None:
    """The trigger's arguments make the same wait again, with the integrations in the same order."""
    original = wait(**given, synced_after=NOON.astimezone(timezone(timedelta(hours=3))), start_timeout=1.0)
    assert Wait.of(**json.loads(json.dumps(original.to_arguments()))) == original


@given(
    ids=st.permutations("abc"),
    asked_for=st.integers(1, 3),
    with_receipt=st.permutations("abc"),
    receipts=st.integers(0, 3),
    skipped=st.sets(st.sampled_from("abc")),
    only_receipts=st.booleans(),
)
def test_any_wait_survives_the_trigger(
    *, ids: list[str], asked_for: int, with_receipt: list[str], receipts: int, skipped: set[str], only_receipts: bool
) -> None:
    """Whatever ids and receipts are combined, the trigger waits for the same, in the same order."""
    ids = ids[:asked_for]
    held = [receipt(i, skipped=i in skipped) for i in with_receipt[:receipts] if i in ids]
    original = wait(integration_id=None if only_receipts and held else ids, receipt=held or None)
    assert Wait.of(**original.to_arguments()) == original


# Names


@pytest.mark.parametrize(
    ("given", "subject"),
    [
        ({"integration_id": "a"}, "FloKit integration a"),
        ({"integration_id": ["a", "b"]}, "FloKit integrations a, b"),
        ({"integration_type": "stripe"}, "FloKit integration of type stripe"),
        ({"integration_type": ["stripe", "adjust"]}, "FloKit integrations of type stripe, of type adjust"),
        ({"receipt": A}, "FloKit integration a"),
    ],
)
def test_subject(given: dict[str, Any], subject: str) -> None:
    """Messages name what is waited for."""
    assert wait(**given).subject == subject


def test_subject_of_very_many() -> None:
    """The names of thousands of integrations are cut."""
    assert len(wait(integration_id=[f"int_{n}" for n in range(5000)]).subject) < 600
