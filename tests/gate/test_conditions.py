"""What a task waits for: every way to say it, and what a user is told who says it wrong; also tests/test_input.py."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from tests.gate.states import at, conditions, receipt

if TYPE_CHECKING:
    from airflow_provider_flokit.models import SyncReceipt

A, B = receipt(integration_id="a"), receipt(integration_id="b")
LATER = receipt(integration_id="a", sync_id="sync_2", triggered_at=at(1))


@pytest.mark.parametrize(
    ("given", "ids", "receipts", "single"),
    [
        ({"integration_id": "a"}, "a", [], True),
        ({"integration_id": ["a"]}, "a", [], False),
        ({"integration_id": ("b", "a", "b")}, "ba", [], False),
        ({"integration_id": '["b", "a"]'}, "ba", [], False),
        ({"receipt": A.to_json()}, "a", [A], True),
        ({"receipt": json.dumps(A.to_json())}, "a", [A], True),
        ({"receipt": [B.to_json(), A.to_json()]}, "ba", [B, A], False),
        ({"receipt": json.dumps([B.to_json()])}, "b", [B], False),
        ({"integration_id": "a", "receipt": [A]}, "a", [A], True),
        ({"integration_id": ["b", "a"], "receipt": A}, "ba", [A], False),
        ({"receipt": [A, LATER]}, "a", [LATER], False),
        ({"receipt": [LATER, A]}, "a", [LATER], False),
    ],
)
def test_what_to_wait_for(given: dict[str, Any], ids: str, receipts: list[SyncReceipt], single: bool) -> None:
    """Ids, receipts and lists of them, as objects or as JSON text; of two receipts for one, the later one counts."""
    found = conditions(**given)
    assert found.ids == tuple(ids)
    assert list(found.receipts.values()) == receipts
    assert found.single is single


@pytest.mark.parametrize(
    "given",
    [
        {"integration_id": "a"},
        {"integration_id": ["a", "b"], "synced_after": datetime(2024, 3, 15, 12, tzinfo=UTC)},
        {"integration_type": ["stripe", "adjust"]},
        {"receipt": A},
        {"receipt": [A, B], "synced_after": "2024-03-15T12:00:00Z"},
        {"integration_id": ["a", "b"], "receipt": B},
    ],
    ids=", ".join,
)
def test_a_trigger_is_given_all_of_it(given: dict[str, Any]) -> None:
    """What goes through the trigger's row as JSON comes out the same."""
    found = conditions(**given, start_timeout=7.0, fail_on_disconnected=False, tolerate_failures=True)
    assert conditions(**json.loads(json.dumps(found.to_arguments()))) == found


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"receipt": "None"}, "the operator pushed no return value"),
        ({"receipt": ["baseline", {"id": "a"}]}, "sync is not mapped: use receipt=sync.output"),
        ({"receipt": {"sync_id": "x"}}, "does not come from a FlokitTriggerSyncOperator"),
        ({"integration_id": "a", "receipt": B}, "is for 'b', which integration_id does not name"),
        ({"integration_id": ["a", None]}, "rendered to None"),
        ({"integration_type": " stripe"}, "is ' stripe'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(given: dict[str, Any], says: str) -> None:
    """Airflow's import-error page shows nothing but the message: it names class, task, parameter and value."""
    with pytest.raises(FlokitArgumentError) as error:
        conditions(**given)
    assert str(error.value).startswith(f"FlokitIntegrationSensor 'wait': {list(given)[-1]} ")
    assert says in str(error.value)


def test_seconds_are_numbers_or_timedeltas() -> None:
    """0 where it makes sense."""
    given: dict[str, Any] = {"poll_interval": 0.5, "timeout": timedelta(minutes=1), "start_timeout": 0}
    task = FlokitTriggerSyncOperator(task_id="sync", integration_id="a", wait_for_completion=True, **given)
    assert (task.poll_interval, task.timeout, task.start_timeout) == (0.5, 60.0, 0.0)
