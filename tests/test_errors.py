"""The exception tree: what is permanent, what may be retried, and that Airflow tells them apart."""

from __future__ import annotations

import inspect
import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_flokit import errors
from airflow_provider_flokit.errors import FlokitError, FlokitRateLimitError, shown

PERMANENT = {
    "FlokitPermanentError",
    "FlokitConfigError",
    "FlokitArgumentError",
    "FlokitAuthenticationError",
    "FlokitPermissionError",
    "FlokitNotFoundError",
    "FlokitAmbiguousTypeError",
    "FlokitRequestError",
}
RETRIED = {
    "FlokitError",
    "FlokitAPIError",
    "FlokitUnreachableError",
    "FlokitRateLimitError",
    "FlokitServerError",
    "FlokitResponseError",
    "FlokitConnectionNotFoundError",
    "FlokitSyncAlreadyRunningError",
    "FlokitSyncFailedError",
    "FlokitDisconnectedError",
    "FlokitWaitTimeoutError",
}
CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


def test_the_tree_is_complete() -> None:
    """Every exception is known here and drawn in the module's docstring; what no retry can mend spends none."""
    assert {kind.__name__ for kind in CLASSES} == PERMANENT | RETRIED
    assert {kind.__name__ for kind in CLASSES if issubclass(kind, AirflowFailException)} == PERMANENT
    assert all(issubclass(kind, FlokitError) and issubclass(kind, AirflowException) for kind in CLASSES)
    assert [kind for kind in CLASSES if kind.__name__ not in str(errors.__doc__)] == []


def test_an_argument_error_is_a_value_error() -> None:
    """As Python users expect of a wrong parameter; nothing else is one."""
    assert [kind.__name__ for kind in CLASSES if issubclass(kind, ValueError)] == ["FlokitArgumentError"]


@pytest.mark.parametrize(
    "error",
    [*(kind("x") for kind in CLASSES), FlokitRateLimitError("x", retry_after=7.0)],
    ids=lambda e: type(e).__name__,
)
def test_errors_survive_pickling(error: FlokitError) -> None:
    """Every exception is made of its message alone, and comes back from another process with all that it knows."""
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - own data
    assert (type(back), str(back), vars(back)) == (type(error), "x", vars(error))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two\nlines\r\n\tand  blanks ", "two lines and blanks"),
        ("Grüße — ✓", "Grüße — ✓"),
        ("bell\x07 and escape\x1b[31m", "bell\\x07 and escape\\x1b[31m"),
        ("right-to-left \u202e override", "right-to-left \\x202e override"),
        ("half a pair \ud800", "half a pair \\xd800"),
        ("x" * 501, "x" * 499 + "…"),
        (404, "404"),
    ],
    ids=["lines", "letters", "controls", "direction", "surrogate", "long", "number"],
)
def test_a_text_from_outside_is_shown_on_one_line(text: object, expected: str) -> None:
    """It is printable, and cut at 500 characters."""
    assert shown(text) == expected
