"""The sensor: what it waits for without and with receipts, one or several, and what its task shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Fault
from tests.modes import (
    ADJUST,
    AFTER,
    BEFORE,
    LIST,
    RESCHEDULE,
    SENSORS,
    STRIPE,
    logged,
    sense,
)

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit


def ids(states: list[dict[str, Any]]) -> list[str]:
    """Return the ids of a list of states."""
    return [state["id"] for state in states]


# What it waits for


@SENSORS
@pytest.mark.parametrize(
    ("shown", "settings", "ends"),
    [
        ([{"status": "connected"}], {}, "success"),
        ([{"status": "error"}], {}, "FlokitSyncFailedError"),
        ([{"status": "disconnected"}], {}, "FlokitDisconnectedError"),
        ([{"status": "syncing"}], {"timeout": 0.2}, "AirflowSensorTimeout"),
        ([{"status": "paused"}], {"timeout": 0.2}, "AirflowSensorTimeout"),
        ([{"status": "disconnected"}] * 3 + [{"status": "connected"}], {"fail_on_disconnected": False}, "success"),
        ([{"last_synced_at": BEFORE}] * 2 + [{"last_synced_at": AFTER}], {"synced_after": AFTER}, "success"),
        ([{"status": "error", "last_synced_at": AFTER}], {"synced_after": AFTER}, "success"),
        ([{"status": "error"}], {"synced_after": AFTER}, "FlokitSyncFailedError"),
    ],
    ids=[
        "connected",
        "error",
        "disconnected",
        "syncing",
        "unknown status",
        "fail_on_disconnected=False",
        "synced_after",
        "synced_after, in error by now",
        "in error before synced_after",
    ],
)
def test_without_a_receipt_the_present_state_decides(
    flokit: SimulatedFlokit, mode: str, shown: list[dict[str, Any]], settings: dict[str, Any], ends: str
) -> None:
    """The first two columns of the verdict's table: it is ready when FloKit shows the last of these, not before."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE)
    flokit.script(STRIPE, shown)
    ended = sense(mode, integration_id=STRIPE, **settings)
    assert (ended.error or ended.state) == ends
    assert ends != "success" or shown[-1].items() <= ended.last_seen.items()


@SENSORS
def test_several_are_ready_when_all_are_and_come_back_in_order(flokit: SimulatedFlokit, mode: str) -> None:
    """A list of ids, or of types, gives a list of states in the order asked for; a single one gives one state."""
    flokit.add_integration(STRIPE, type="stripe")
    flokit.add_integration(ADJUST, type="adjust")
    flokit.script(STRIPE, [{"status": "syncing"}] * 3 + [{"status": "connected"}])
    assert ids(sense(mode, integration_id=[STRIPE, ADJUST]).value) == [STRIPE, ADJUST]
    assert ids(sense(mode, integration_type=["adjust", "stripe"]).value) == [ADJUST, STRIPE]
    assert sense(mode, integration_type="stripe").value["id"] == STRIPE


@SENSORS
def test_several_fail_as_soon_as_one_does(flokit: SimulatedFlokit, mode: str) -> None:
    """The failed one is named first, then what else is not ready."""
    flokit.add_integration("int_fine", type="warehouse")
    flokit.add_integration(ADJUST, type="adjust", status="syncing")
    flokit.add_integration(STRIPE, status="error", error_message="bad secret")
    ended = sense(mode, integration_id=["int_fine", ADJUST, STRIPE])
    assert ended.error == "FlokitSyncFailedError"
    assert ended.message.startswith(f"{STRIPE} is in error: bad secret")
    assert f"{ADJUST} is syncing" in ended.message
    assert "int_fine" not in ended.message


@SENSORS
@pytest.mark.parametrize(
    ("integration_type", "error", "says"),
    [("stripe", "FlokitNotFoundError", "adjust"), ("adjust", "FlokitAmbiguousTypeError", "int_a, int_b")],
    ids=["none", "several"],
)
def test_a_type_that_is_not_unique_is_refused(
    flokit: SimulatedFlokit, mode: str, integration_type: str, error: str, says: str
) -> None:
    """None or several of a type is a permanent error that says what there is."""
    for name in ("int_a", "int_b"):
        flokit.add_integration(name, type="adjust")
    ended = sense(mode, integration_type=integration_type)
    assert ended.error == error
    assert says in ended.message


@SENSORS
def test_an_integration_that_the_list_does_not_hold_is_read_singly(flokit: SimulatedFlokit, mode: str) -> None:
    """The list may lag behind: the single read decides."""
    flokit.add_integration(STRIPE)
    flokit.fail(Fault.answer(200, b'{"integrations": []}'), path=LIST, times=None)
    assert sense(mode, integration_id=STRIPE).state == "success"


def test_many_integrations_take_one_request_per_look(flokit: SimulatedFlokit) -> None:
    """All are judged in one observation, for which a read-only key is enough."""
    flokit.connect(api_key=flokit.read_only_key)
    names = [f"int_{number}" for number in range(30)]
    for name in names:
        flokit.add_integration(name)
    assert ids(sense(integration_id=names).value) == names
    assert [r.path for r in flokit.requests] == [LIST]


def test_poke_by_itself_says_not_yet_ready_or_raises(flokit: SimulatedFlokit) -> None:
    """``poke()`` works as that of any sensor, outside ``execute()`` too."""
    flokit.add_integration(STRIPE, status="syncing")
    sensor = FlokitIntegrationSensor(task_id="wait", integration_id=STRIPE)
    assert not sensor.poke({})
    flokit.set_state(STRIPE, status="connected")
    assert sensor.poke({}).xcom_value["id"] == STRIPE


# The task


@SENSORS
def test_the_log_tells_the_story_in_a_few_lines(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """What is waited for, each change of status, and the end; nothing per look, nothing twice."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE)
    flokit.script(STRIPE, [{"status": "syncing"}] * 3 + [{"status": "paused"}] * 3 + [{"status": "connected"}])
    lines = logged(monkeypatch)
    assert sense(mode, integration_id=STRIPE).state == "success"
    beginning, *middle, end = lines
    now = f"Now: {STRIPE} is syncing, last synced 2024-03-15 12:00:00 UTC"
    assert beginning.startswith(f"INFO Waiting for {STRIPE}. {now}")
    assert "Waits at most 1 min, until " in beginning
    assert end == f"INFO Ready: {STRIPE}."
    if mode == RESCHEDULE:  # each poke says why it goes on
        middle = [line for line in middle if line.startswith("INFO Still waiting after ")]
        expected = ["is syncing"] * 2 + ["'paused'"] * 3
    else:
        expected = ["has the unknown status 'paused'", "was paused, now is connected"]
    assert len(middle) == len(expected), middle
    assert all(words in line for words, line in zip(expected, middle, strict=True))
