"""
Whatever is given as any public parameter works, or is refused by name, at DAG parse or before any request.

Nothing but this package's own exceptions comes out, except where Airflow itself refuses one of its own parameters.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSensorTimeout, AirflowSkipException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.errors import FlokitArgumentError, FlokitConfigError, FlokitError
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.outcome import Outcome
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Simulator
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from tests.modes import TaskInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STRIPE = "int_01hx4j7stripe"
OPERATOR, SENSOR = FlokitTriggerSyncOperator, FlokitIntegrationSensor
BASELINE = {"id": STRIPE, "type": "stripe", "status": "connected", "last_synced_at": "2024-03-15T12:00:00Z"}
RECEIPT = {"integration_id": STRIPE, "baseline": BASELINE, "triggered_at": "2024-03-15T12:00:00Z"}

FAR = [
    datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14))),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
]
NUMBERS = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 1e308, math.inf, -math.inf, math.nan, 0, -0.0, 5e-324, 1j])
)
TIMES = st.sampled_from(
    [
        *FAR,
        pendulum.datetime(9999, 12, 31, 23, tz="America/Los_Angeles"),
        pendulum.datetime(2024, 3, 15),
        datetime(2024, 3, 15),  # noqa: DTZ001 - a naive one is one of those that come
        date(2024, 3, 15),
        timedelta.max,
        timedelta.min,
        timedelta(),
        timedelta(hours=1),
        timedelta(microseconds=-1),
    ]
)
TEXTS = st.text() | st.sampled_from(
    [
        "",
        " ",
        "None",
        "null",
        "nan",
        "5",
        "true",
        "[]",
        "{}",
        "['a', 'b']",
        '["a"]',
        "{{}}",
        "[{[]}]",
        "../x",
        "a/b",
        "a?b",
        "a#b",
        "a\r\nb",
        "\ud800",
        "x" * 10_000,
        "[" * 5_000,
        json.dumps(RECEIPT),
        str(RECEIPT),
        "2024-03-15T12:00:00Z",
        "9999-12-31T23:59:59-14:00",
        STRIPE,
        "stripe",
    ]
)
ANYTHING = st.recursive(
    st.none() | NUMBERS | TIMES | TEXTS | st.binary() | st.just(RECEIPT) | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(list(RECEIPT)), inner, max_size=3)
    ),
    max_leaves=4,
)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

OPERATOR_PARAMETERS = [
    "integration_id",
    "integration_type",
    "flokit_conn_id",
    "wait_for_completion",
    "deferrable",
    "poll_interval",
    "timeout",
    "start_timeout",
    "skip_if_synced_within",
]
SENSOR_PARAMETERS = [
    "integration_id",
    "integration_type",
    "receipt",
    "synced_after",
    "flokit_conn_id",
    "deferrable",
    "poke_interval",
    "timeout",
    "start_timeout",
    "fail_on_disconnected",
    "start_from_trigger",
]


def arguments(name: str) -> dict[str, Any]:
    """Return arguments that are right but for the one that is tried."""
    return {} if name in ("integration_type", "receipt", "integration_id") else {"integration_id": STRIPE}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """Run one simulator for all examples."""
    with Simulator() as simulator, pytest.MonkeyPatch.context() as patch:
        simulator.add_integration(STRIPE, "stripe", last_synced_at="2024-03-15T12:00:00Z")
        patch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", simulator.connection_uri(retry_limit=0))
        patch.setattr(retry, "BACKOFF_BASE", 0.001)
        patch.setattr("airflow_provider_flokit.watch.GRACE", 0.0)
        patch.setattr("airflow_provider_flokit.triggers.flokit.GRACE", 0.0)
        yield simulator


# While the DAG is parsed


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((OPERATOR, name) for name in OPERATOR_PARAMETERS),
        *((SENSOR, name) for name in SENSOR_PARAMETERS),
    ],
)
@QUICK
@given(value=ANYTHING)
def test_any_value_is_taken_or_refused_by_name_at_parse_time(kind: type[Any], name: str, value: Any) -> None:
    """Making a task either works or raises a FlokitArgumentError that names the parameter, whatever the value."""
    try:
        kind(task_id="t", **{**arguments(name), name: value})
    except FlokitArgumentError as error:
        assert name in str(error)  # noqa: PT017 - only if it is refused


PLAIN_WRONG: dict[str, list[Any]] = {
    "integration_id": [5, True, 1.5, b"int", "", " ", "None", "a/b", "..", "a b", "a\nb", {"a": 1}, timedelta(1)],
    "integration_type": [5, True, b"stripe", "", " ", "None", "stri\npe", " stripe", {"a": 1}],
    "flokit_conn_id": [None, 5, True, b"c", "", " ", "None", "a\nb", " c", "x" * 251, ["c"], {"a": 1}],
    "receipt": [5, True, "sync_1", "None", "", [], ["x"], {}, {"sync_id": "x"}, [RECEIPT, RECEIPT], b"x"],
    "synced_after": [5, True, 1.5, "", "None", "yesterday", [], *FAR, date(2024, 3, 15), timedelta(1), b"x"],
    "wait_for_completion": [None, 0, 1, "true", "false", "", [], math.nan],
    "deferrable": [None, 0, 1, "true", "false", "", []],
    "fail_on_disconnected": [None, 0, 1, "true", ""],
    "start_from_trigger": [None, 0, 1, "true", ""],
    "poll_interval": [
        None,
        "30",
        True,
        -1,
        0,
        math.nan,
        math.inf,
        1e300,
        10**400,
        timedelta.max,
        -timedelta(1),
        [],
        1j,
    ],
    "poke_interval": [None, "30", True, -1, math.nan, math.inf, 1e300, 10**400, timedelta.max, -timedelta(1), [], 1j],
    "timeout": [None, "30", True, -1, math.nan, math.inf, 1e300, 10**400, timedelta.max, -timedelta(1), [], 1j],
    "start_timeout": [None, "30", True, -1, math.nan, math.inf, 1e300, 10**400, timedelta.max, -timedelta(1), []],
    "skip_if_synced_within": [5, "1h", True, math.nan, timedelta(seconds=-1), timedelta.min, timedelta.max, []],
}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        pytest.param(kind, name, value, id=f"{kind.__name__}-{name}-{repr(value)[:20]}")
        for kind, names in ((OPERATOR, OPERATOR_PARAMETERS), (SENSOR, SENSOR_PARAMETERS))
        for name in names
        for value in PLAIN_WRONG[name]
    ],
)
def test_what_is_wrong_for_certain_fails_at_parse_time(kind: type[Any], name: str, value: Any) -> None:
    """A wrong value that no template can change is refused while the DAG is parsed, by the parameter's name."""
    with pytest.raises(FlokitArgumentError, match=name):
        kind(task_id="t", **{**arguments(name), name: value})


@pytest.mark.parametrize("name", ["poke_interval", "timeout"])
def test_a_wrong_default_argument_is_named_too(name: str) -> None:
    """Numbers that Airflow would take, or refuse without a name, are refused where they come from default_args too."""
    with DAG("d", schedule=None, default_args={name: math.nan}), pytest.raises(FlokitArgumentError, match=name):
        FlokitIntegrationSensor(task_id="t", integration_id=STRIPE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("integration_id", "{{ params.id }}"),
        ("integration_id", "{% if x %}a/b{% endif %}"),
        ("integration_id", "<< params.id >>"),
        ("integration_id", "int-1.a_b~c"),
        ("integration_type", "{{ params.type }} "),
        ("flokit_conn_id", "{{ params.conn }}"),
        ("flokit_conn_id", "flokit-eu.1"),
    ],
)
@pytest.mark.parametrize("kind", [OPERATOR, SENSOR])
def test_a_template_is_judged_when_it_is_rendered(kind: type[Any], name: str, value: str) -> None:
    """What may be a template, also one with delimiters of the DAG's own, is not refused at parse time."""
    assert kind(task_id="t", **{**arguments(name), name: value})


def test_what_airflow_resolves_later_is_left_alone() -> None:
    """XComs, also inside of lists, are checked when the task runs."""
    with DAG("d", schedule=None):
        first = FlokitTriggerSyncOperator(task_id="first", integration_id=STRIPE)
        xcom = first.output
        FlokitTriggerSyncOperator(task_id="a", integration_id=xcom, flokit_conn_id=xcom)
        FlokitIntegrationSensor(task_id="b", integration_id=[STRIPE, xcom], synced_after=xcom)
        FlokitIntegrationSensor(task_id="c", receipt=[first.output["receipt"]])
        FlokitTriggerSyncOperator.partial(task_id="d").expand(integration_id=[STRIPE, "a"])


@pytest.mark.parametrize("moment", ["2024-03-15T12:00:00Z", datetime(2024, 3, 15), pendulum.datetime(2024, 3, 15)])  # noqa: DTZ001
def test_times_that_are_fine_pass(moment: Any) -> None:
    """Naive and aware times, Python's and pendulum's, and their text."""
    assert FlokitIntegrationSensor(task_id="t", integration_id=STRIPE, synced_after=moment)


# When the task runs


def ran(task: Any) -> Exception | None:
    """Run a task and return what it raised."""
    try:
        task.execute({"ti": TaskInstance(task)})
    except (FlokitError, AirflowSensorTimeout, AirflowSkipException) as error:
        return error
    return None


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (
            lambda: FlokitTriggerSyncOperator(task_id="t", integration_id="{{ x }}", deferrable=False),
            ["integration_id", "flokit_conn_id"],
        ),
        (
            lambda: FlokitTriggerSyncOperator(task_id="t", integration_type="{{ x }}", deferrable=False),
            ["integration_type"],
        ),
        (
            lambda: FlokitIntegrationSensor(task_id="t", integration_id="{{ x }}", timeout=0, poke_interval=0),
            ["integration_id"],
        ),
        (
            lambda: FlokitIntegrationSensor(task_id="t", integration_type="{{ x }}", timeout=0, poke_interval=0),
            ["integration_type"],
        ),
        (
            lambda: FlokitIntegrationSensor(task_id="t", receipt="{{ x }}", timeout=0, poke_interval=0),
            ["receipt"],
        ),
        (
            lambda: FlokitIntegrationSensor(
                task_id="t", integration_id=STRIPE, synced_after="{{ x }}", timeout=0, poke_interval=0
            ),
            ["synced_after", "flokit_conn_id"],
        ),
    ],
    ids=["operator by id", "operator by type", "sensor by id", "sensor by type", "sensor by receipt", "sensor by time"],
)
@QUICK
@given(value=ANYTHING, data=st.data())
def test_any_rendered_value_works_or_is_refused_before_any_request(
    simulator: Simulator, make: Callable[[], Any], names: list[str], value: Any, data: st.DataObject
) -> None:
    """Whatever a template renders to, the task ends as promised, or names the wrong parameter and asks nobody."""
    name = data.draw(st.sampled_from(names))
    task = make()
    if name == "flokit_conn_id":
        task.integration_id, task.synced_after = STRIPE, "2024-03-15T12:00:00Z"
    setattr(task, name, value)
    before = len(simulator.requests)
    error = ran(task)
    if isinstance(error, FlokitArgumentError):
        assert name in str(error)
        assert len(simulator.requests) == before
    elif isinstance(error, FlokitConfigError):
        assert name == "flokit_conn_id"


TRIGGER_PARAMETERS = [
    "integration_id",
    "integration_type",
    "receipt",
    "synced_after",
    "flokit_conn_id",
    "poll_interval",
    "timeout",
    "deadline",
    "start_timeout",
    "fail_on_disconnected",
    "tolerate_failures",
]


@pytest.mark.parametrize("name", TRIGGER_PARAMETERS)
@QUICK
@given(value=ANYTHING)
def test_a_trigger_always_fires(simulator: Simulator, name: str, value: Any) -> None:
    """Any argument, from a row of any age or a template, ends in an event that a task understands, never in a crash."""
    given_arguments = {**arguments(name), "timeout": 0.0, name: value}
    before = len(simulator.requests)

    async def fire() -> Any:
        return [event.payload async for event in FlokitIntegrationTrigger(**given_arguments).run()]

    (event,) = asyncio.run(fire())
    outcome = Outcome.from_event(event)
    if outcome.error == "FlokitArgumentError":
        assert len(simulator.requests) == before
        assert name in outcome.message or "Say what to wait for" in outcome.message


# What comes from outside


@given(
    event=ANYTHING | st.fixed_dictionaries({}, optional=dict.fromkeys(["ending", "integrations", "error"], ANYTHING))
)
def test_any_event_is_an_outcome_or_refused(event: Any) -> None:
    """Whatever a trigger sent, a task fails with an exception of ours."""
    with contextlib.suppress(FlokitError):
        assert Outcome.from_event(event).to_event()
